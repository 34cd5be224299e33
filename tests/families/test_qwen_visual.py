"""Qwen-VL against numbers of its authors' own code (tests/goldens/qwen_visual.json says which), from files to text."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

import eyespot
from eyespot import families
from eyespot.contracts.coordinates import BoxAbs, PointAbs
from eyespot.contracts.message import Message, Text
from eyespot.data.packing import media_batch, pack
from eyespot.engine.model import Model
from eyespot.errors import EyespotError
from eyespot.families import qwen
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image
from tests.families import qwen_draws as draws
from tests.goldens.authors import distance

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "qwen_visual.json").read_text())


def checkpoint(folder: Path, draw: str, form: str = "chatml") -> Path:
    """A folder as the authors would have published it."""
    config = qwen.config_from_hf(draws.SEEING, (), {})
    shapes = qwen.FAMILY.layouts["hf"].keymap(config).to_theirs(families.build(config).state_dict())
    tensors = {name: draws.weight(name, tuple(t.shape), draw) for name, t in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(draws.SEEING))
    generation = {"chat_format": form, "eos_token_id": draws.FIRST, "pad_token_id": draws.FIRST}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "QWenTokenizer"}))
    lines = [base64.b64encode(piece) + b" %d\n" % rank for rank, piece in enumerate(draws.PIECES)]
    (folder / "qwen.tiktoken").write_bytes(b"".join(lines))
    return folder


@pytest.fixture(scope="module", params=draws.DRAWS)
def drawn(request, tmp_path_factory) -> tuple[str, Model]:
    return request.param, eyespot.load(checkpoint(tmp_path_factory.mktemp("qwen"), request.param))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return eyespot.load(checkpoint(tmp_path_factory.mktemp("qwen"), "wide"))


def picture(name: str) -> Image.Image:
    return Image.fromarray(draws.pixels(name))


def talk(name: str) -> list[dict]:
    """A talk of the draws as messages."""
    messages = []
    for turn in draws.TALKS[name]:
        parts = [
            {"type": "image", "image": picture(p[0])} if isinstance(p, list) else {"type": "text", "text": p}
            for p in ([turn] if isinstance(turn, str) else turn)
        ]
        messages.append({"role": "assistant" if isinstance(turn, str) else "user", "content": parts})
    return messages


@torch.inference_mode()
def test_features_of_pictures_are_those_of_the_authors_code(drawn):
    draw, model = drawn
    rule = model.contract.image
    items = [prepare_image(decode_image(picture(name), rule=rule), rule) for name in draws.PICTURES]
    rows = model.module.encode({"vision": media_batch(items)})["vision"].main
    for name, own in zip(draws.PICTURES, rows.split(draws.VISUAL["n_queries"]), strict=True):
        wanted = GOLDEN[draw]["features"][name]
        assert distance(own[draws.FEATURES], wanted, "qwen_visual", draw) <= draws.DRAWS[draw], name


@pytest.mark.parametrize("name", draws.TALKS)
@torch.inference_mode()
def test_ids_logits_and_loss_are_those_of_the_authors_code(drawn, name):
    draw, model = drawn
    trace = model.trace(talk(name), add_generation_prompt=True)
    assert trace.input_ids.tolist() == GOLDEN["ids"][name]
    logits = trace.logits[-1][draws.COLUMNS]
    assert distance(logits, GOLDEN[draw]["logits"][name], "qwen_visual", draw) <= draws.DRAWS[draw]
    loss = float(F.cross_entropy(trace.logits[:-1], trace.input_ids[1:]))
    assert loss == pytest.approx(GOLDEN[draw]["losses"][name], rel=draws.DRAWS[draw])


def test_an_answer_is_that_of_the_authors_code(drawn):
    draw, model = drawn
    wanted = model.processor.tokenizer.decode(GOLDEN[draw]["answer"])
    answer = model.chat(talk("one picture"), max_new_tokens=len(GOLDEN[draw]["answer"]))
    assert answer.text == wanted
    assert "".join(model.stream(talk("one picture"), max_new_tokens=len(GOLDEN[draw]["answer"]))) == wanted


def test_a_base_model_sees_the_picture_and_the_text_alone(tmp_path):
    model = eyespot.load(checkpoint(tmp_path, "wide", form="raw"))
    trace = model.trace([{"role": "user", "content": talk("one picture")[0]["content"]}], add_generation_prompt=True)
    text = model.processor.tokenizer.decode(trace.input_ids, skip_special=False)
    assert text == f"<img>{'<imgpad>' * draws.VISUAL['n_queries']}</img>What is in the picture?"


@torch.inference_mode()
def test_two_talks_packed_equal_each_alone(model):
    encoded = [model.processor.encode(read_messages(talk(name))) for name in ("two pictures", "a tiny picture")]
    together = model.module(pack(encoded)).last.split([len(e.input_ids) for e in encoded])
    for packed, one in zip(together, encoded, strict=True):
        torch.testing.assert_close(packed, model.module(pack([one])).last, rtol=1e-4, atol=1e-4)


def test_typed_tags_of_pictures_are_text_and_typed_tags_of_places_are_marks(model):
    tokenizer = model.processor.tokenizer
    ids = model.processor.encode(read_messages("<img>x</img> <imgpad><ref>a</ref>")).input_ids.tolist()
    counts = {tag: ids.count(tokenizer.id_of(tag)) for tag in ("<img>", "</img>", "<imgpad>", "<ref>", "</ref>")}
    assert counts == {"<img>": 0, "</img>": 0, "<imgpad>": 0, "<ref>": 1, "</ref>": 1}


def test_places_are_written_between_tags(model):
    ask = Message("user", (*read_messages("", [picture("a")])[0].media, Text("Where?")))
    said = Message("assistant", (BoxAbs(0, 3.3, 30, 33, "the cat"), Text(" and "), PointAbs(60, 0)))
    encoded = model.processor.encode([ask, said])
    text = model.processor.tokenizer.decode(encoded.input_ids[encoded.loss_weight > 0], skip_special=False)
    assert text == "<ref>the cat</ref><box>(0,100),(500,999)</box> and <box>(999,0)</box><|im_end|>"


def test_answers_end_where_the_authors_end_them(model):
    assert model.contract.text.stop_tokens == (draws.FIRST, draws.FIRST + 2, draws.FIRST + 1)


def test_it_is_saved_as_it_came(tmp_path):
    source = checkpoint(tmp_path, "wide")
    families.save(families.load(source), tmp_path / "saved")
    ours, theirs = load_file(tmp_path / "saved" / "model.safetensors"), load_file(source / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "saved" / name).read_text()) == json.loads((source / name).read_text())
    assert (tmp_path / "saved" / "qwen.tiktoken").read_bytes() == (source / "qwen.tiktoken").read_bytes()


def test_what_is_written_anew_means_the_same(tmp_path):
    (tmp_path / "source").mkdir()
    source = families.load(checkpoint(tmp_path / "source", "wide"))
    families.save(source, tmp_path / "own", layout="eyespot")
    families.save(families.load(tmp_path / "own"), tmp_path / "fresh", layout="hf")
    raw = json.loads((tmp_path / "fresh" / "config.json").read_text())
    assert int(raw["visual"].pop("mlp_ratio") * draws.VISUAL["width"]) == 83  # 2.6 × 32, rounded down
    wanted = dict(draws.SEEING, visual={k: v for k, v in draws.VISUAL.items() if k != "mlp_ratio"})
    assert {key: raw[key] for key in wanted} == wanted
    again = families.load(tmp_path / "fresh")
    assert again.contract == source.contract and again.config == source.config


@pytest.mark.parametrize(
    ("key", "value"),
    [("heads", 3), ("patch_size", 0), ("mlp_ratio", "4"), ("output_dim", 128), ("n_queries", 15), ("image_size", 3),
     ("width", None)],
)  # fmt: skip
def test_a_part_that_cannot_see_is_refused_by_its_key(key, value):
    with pytest.raises(EyespotError, match=f"visual.{key}") as caught:
        qwen.config_from_hf(draws.SEEING | {"visual": draws.VISUAL | {key: value}}, (), {})
    assert caught.value.code == "family-config"


def test_a_tokenizer_without_the_tags_is_refused(tmp_path):
    raw = draws.SEEING | {"visual": draws.VISUAL | {"image_start_id": draws.FIRST + 3}}
    (checkpoint(tmp_path, "wide") / "config.json").write_text(json.dumps(raw))
    with pytest.raises(EyespotError) as caught:
        eyespot.load(tmp_path)
    assert caught.value.code == "tokenizer-token"


def test_the_published_model_has_the_names_and_shapes_of_the_authors_code():
    visual = {"heads": 16, "image_size": 448, "image_start_id": 151857, "layers": 48, "mlp_ratio": 4.9231,
              "output_dim": 4096, "patch_size": 14, "width": 1664}  # fmt: skip
    raw = {
        "model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128, "seq_length": 2048,
        "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 151936, "no_bias": True, "visual": visual,
    }  # fmt: skip
    config = qwen.config_from_hf(raw, (), {})
    tensors = qwen.FAMILY.layouts["hf"].keymap(config).to_theirs(families.build(config, "meta").state_dict())
    lines = "\n".join(f"{name} {list(tensors[name].shape)}" for name in sorted(tensors))
    # Of QWenModel and its head, built from the same config.
    assert (len(tensors), sum(t.numel() for t in tensors.values())) == (853, 9_656_935_168)
    wanted = "d8b237a00a09a50ff465636ba1fa050b0c530499a06e40cd292bdd91bb536bf3"
    assert hashlib.sha256(lines.encode()).hexdigest() == wanted
    assert qwen.contract_from_hf({"config.json": raw}, config, None).image.size == (448, 448)
