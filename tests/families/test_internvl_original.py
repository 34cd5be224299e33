"""The InternVL authors' layout against what their own code gave: features, logits, loss, prompts; and its files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.contracts.contract import TextRule
from eyespot.contracts.encoded import Encoded
from eyespot.contracts.message import Message, Text
from eyespot.data.packing import pack
from eyespot.engine.features import patch_features
from eyespot.errors import EyespotError
from eyespot.families import internvl_prompts
from eyespot.families.family import build
from eyespot.inputs.chat import render
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.train.losses import token_loss
from tests.families.makers import equal, family_named
from tests.goldens.authors import BAR, distance, drawn, picture

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "internvl_chat.json").read_text("utf-8"))
CASES = GOLDEN["cases"]
CONTEXT = 12  # stands for a picture's tokens in the golden ids


def close(ours, theirs, bar: float = 1e-5) -> bool:
    return distance(ours, theirs) <= bar


def checkpoint(folder: Path, name: str) -> Path:
    """A case's folder as the authors' code would have saved it."""
    case, family = CASES[name], family_named("internvl")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(case["config"]))
    config = family.config_from_hf(case["config"], (), {})
    fused = "original-internlm2" if case["config"]["llm_config"]["model_type"] == "internlm2" else "original"
    meta = build(config, "meta").state_dict()
    shapes = family.layouts[fused].keymap(config).to_theirs({k: torch.zeros(v.shape) for k, v in meta.items()})
    assert len(shapes) == case["tensors"]
    tensors = drawn({key: tuple(like.shape) for key, like in shapes.items()}, case, GOLDEN["unmoved"])
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """What the authors' code gave, and the model that we read."""
    return CASES[request.param], families.load(checkpoint(tmp_path / "theirs", request.param)), tmp_path


def sample(case, model) -> Encoded:
    """The golden ids, with the pictures at their places."""
    ids = np.array(case["ids"])
    places, media = np.flatnonzero(ids == CONTEXT), []
    for width, height in case["sizes"]:
        medium = prepare_image(decode_image(picture(width, height)), model.contract.image)
        count = len(medium.patches) // 4
        object.__setattr__(medium, "slots", places[:count])
        places = places[count:]
        media.append(medium)
    assert not len(places)
    weight = np.zeros(len(ids), np.float32)
    weight[-3:] = 1.0
    return Encoded("golden", "authors", ids, weight, media=tuple(media))


@torch.no_grad()
def test_features_logits_and_loss_are_those_of_the_authors_code(case):
    golden, model, _ = case
    encoded = sample(golden, model)
    assert [len(m.grid_thw) for m in encoded.media] == golden["tiles"]
    batch = pack([encoded])
    features = model.module.encode(batch.media)["vision"].main
    assert list(features.shape) == golden["feature_shape"]
    draw = golden.get("draw", "plain")
    assert distance(features.flatten()[::37], golden["features"], "internvl_chat", draw) <= BAR[draw]
    hidden = model.module(batch).last
    logits = model.module.logits(hidden)
    assert list(logits.shape) == golden["logits_shape"]
    assert distance(logits.flatten()[::41], golden["logits"], "internvl_chat", draw) <= BAR[draw]
    assert distance(logits[-1], golden["last"], "internvl_chat", draw) <= BAR[draw]
    total, weight = token_loss(model.module, hidden, batch.targets, batch.loss_weight)
    assert abs(float(total / weight) - golden["loss"]) <= BAR[draw] * golden["loss"]


@torch.no_grad()
def test_the_golden_sees_blocks_in_the_other_order_and_ungrouped_rows(tmp_path):
    golden, model = CASES["llama-v1"], families.load(checkpoint(tmp_path / "v1", "llama-v1"))
    assert model.contract.image.block_order == "columns"
    batch = pack([sample(golden, model)])
    rule = model.contract.image.replace(block_order="rows")
    model.contract = model.contract.replace(image=rule)
    other = pack([sample(golden, model)])
    assert not close(model.module.encode(other.media)["vision"].main.flatten()[::37], golden["features"], 1e-2)
    encoder = model.module.vision_encoder
    mine, their = (patch_features(encoder, b.media["vision"], (-1,), norm=False).values for b in (batch, other))
    assert torch.allclose(mine, their, atol=1e-5), "features on the map do not depend on the order of blocks"
    path = checkpoint(tmp_path / "internlm2", "internlm2")
    tensors = load_file(path / "model.safetensors")
    name = "language_model.model.layers.0.attention.wqkv.weight"
    rows = tensors[name].unflatten(0, (2, 4, 6))  # groups of two query heads, a key head and a value head
    tensors[name] = torch.cat([rows[:, :2].flatten(0, 2), rows[:, 2].flatten(0, 1), rows[:, 3].flatten(0, 1)])
    save_file(tensors, path / "model.safetensors")
    model = families.load(path)
    logits = model.module.logits(model.module(pack([sample(CASES["internlm2"], model)])).last)
    assert not close(logits[-1], CASES["internlm2"]["last"], 1e-2)


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(case):
    _, model, path = case
    families.save(model, path / "ours")
    for name in ("config.json",):
        assert json.loads((path / "ours" / name).read_text()) == json.loads((path / "theirs" / name).read_text())
    ours, theirs = (load_file(path / f / "model.safetensors") for f in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    again = families.load(path / "ours")
    assert (again.layout, again.contract) == (model.layout, model.contract)


def test_it_goes_out_as_hugging_faces_where_that_can_say_it(case):
    golden, model, path = case
    sayable = golden["config"]["ps_version"] == "v2" and golden["config"]["use_thumbnail"]
    if sayable:
        families.save(model, path / "hf", layout="hf")
        again = families.load(path / "hf")
        assert equal(again.module, model.module)
        assert again.contract == model.contract
        families.save(again, path / "back", layout="original")
        assert families.load(path / "back").contract == model.contract
    else:
        with pytest.raises(EyespotError) as caught:
            families.save(model, path / "hf", layout="hf")
        assert caught.value.code == "layout-unsupported"


@pytest.mark.parametrize("name", GOLDEN["prompts"])
def test_prompts_are_those_of_the_authors_code(name):
    tokenizer = words(["x"], ["<unk>", "<|im_start|>", "<|im_end|>", "</s>", "<IMG_CONTEXT>"])
    rule = TextRule(template=internvl_prompts.prompt(name), image_token="<IMG_CONTEXT>")
    for golden in GOLDEN["prompts"][name]:
        roles = {"u": "user", "a": "assistant"}
        messages = []
        for who, text in golden["turns"]:
            parts = [{"type": "text", "text": text.removeprefix("<image>\n")}]
            if text.startswith("<image>\n"):
                parts.insert(0, {"type": "image", "image": np.zeros((4, 4, 3), np.uint8)})
            messages.append({"role": roles[who], "content": parts})
        read = list(read_messages(messages))
        if golden["system"] is not None:
            read.insert(0, Message("system", (Text(golden["system"]),)))
        made = render(read, rule, add_generation_prompt=True, specials=tokenizer.special_tokens)
        assert made.text.replace("<IMG_CONTEXT>", "<image>") == golden["text"]


def tokenized(tmp_path, case: str = "qwen2", **changes) -> Path:
    """A checkpoint with a tokenizer, for what is said in text."""
    path = checkpoint(tmp_path / "theirs", case)
    specials = ["<unk>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    tokenizer = words(["Frame1: What is it?"], specials)
    raw = json.loads((path / "config.json").read_text())
    rows = tokenizer.vocab_size - raw["llm_config"]["vocab_size"]
    raw["llm_config"]["vocab_size"] += rows
    (path / "config.json").write_text(json.dumps({**raw, **changes}))
    tensors = load_file(path / "model.safetensors")
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], torch.zeros(rows, 24)])
    save_file(tensors, path / "model.safetensors")
    Processor(families.load(path).contract, tokenizer).save(path)
    return path


def test_an_answer_ends_where_the_authors_code_ends_it_and_frames_are_numbered(tmp_path):
    path = tokenized(tmp_path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    model = families.load(path)
    assert model.contract.text.stop_tokens == (0, 2)
    content = [{"type": "video", "video": [picture(9, 9)] * 2, "fps": 1.0}, {"type": "text", "text": "What is it?"}]
    encoded = model.processor.encode(read_messages([{"role": "user", "content": content}]), add_generation_prompt=True)
    text = model.tokenizer.decode(encoded.input_ids, skip_special=False)
    tile = "<img>" + "<IMG_CONTEXT>" * 4 + "</img>"
    assert text.endswith(
        f"<|im_end|><|im_start|>user\nFrame1: {tile}\nFrame2: {tile}\nWhat is it?<|im_end|><|im_start|>assistant\n"
    )


def test_the_contracts_tiles_and_prompt_are_written_into_the_config(tmp_path):
    model = families.load(tokenized(tmp_path))
    tiling = model.contract.image.aspect_tiling.replace(most=4, thumbnail=False)
    text = model.contract.text.replace(template=internvl_prompts.prompt("internvl2_5", 'Say "{{ no }}".'))
    model.contract = model.contract.replace(image=model.contract.image.replace(aspect_tiling=tiling), text=text)
    families.save(model, tmp_path / "ours")
    raw = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (raw["max_dynamic_patch"], raw["use_thumbnail"], raw["template"]) == (4, False, "internvl2_5")
    assert raw["system_message"] == 'Say "{{ no }}".'
    again = families.load(tmp_path / "ours")
    assert again.contract == model.contract
    said = again.processor.encode(read_messages("What?"), add_generation_prompt=True)
    assert 'Say "{{ no }}".<|im_end|>' in again.tokenizer.decode(said.input_ids, skip_special=False)


def test_a_template_without_a_name_cannot_be_written(tmp_path):
    model = families.load(tokenized(tmp_path))
    model.contract = model.contract.replace(text=model.contract.text.replace(template="{{ messages }}"))
    with pytest.raises(EyespotError, match="by name only") as caught:
        families.save(model, tmp_path / "ours")
    assert caught.value.code == "layout-unsupported"


@pytest.mark.parametrize(("changes", "match"), [
    ({"template": "phi3-chat"}, "template"), ({"ps_version": "v3"}, "ps_version"),
    ({"force_image_size": 50}, "force_image_size"), ({"select_layer": 9}, "select_layer"),
    ({"max_dynamic_patch": "many"}, "max_dynamic_patch"), ({"downsample_ratio": 0.3}, "downsample_ratio"),
    ({"llm_config": {"architectures": ["Phi3ForCausalLM"]}}, "llm_config.architectures"),
])  # fmt: skip
def test_what_cannot_be_followed_is_named(tmp_path, changes, match):
    path = checkpoint(tmp_path / "theirs", "qwen2")
    raw = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**raw, **changes}))
    with pytest.raises(EyespotError, match=match) as caught:
        families.load(path)
    assert caught.value.code == "family-config"


@pytest.mark.parametrize("key", ["use_llm_lora", "use_backbone_lora"])
def test_adapters_that_are_not_merged_are_said_by_their_key(key, tmp_path):
    path = checkpoint(tmp_path / "theirs", "qwen2")
    raw = json.loads((path / "config.json").read_text()) | {key: 16}
    (path / "config.json").write_text(json.dumps(raw))
    assert families.load(path).family == "internvl"  # merged ones leave the key as it was
    tensors = load_file(path / "model.safetensors")
    name = next(n for n in tensors if n.endswith("q_proj.weight"))
    save_file(tensors | {name.replace("q_proj.weight", "q_proj.lora_A.default.weight"): torch.zeros(2, 2)},
              path / "model.safetensors")  # fmt: skip
    with pytest.raises(EyespotError, match=key) as caught:
        families.load(path)
    assert caught.value.code == "family-config"
