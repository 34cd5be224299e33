"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL against `transformers`: pixels, places, features, logits, loss, text; two draws."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as their_smart_resize

import eyespot
from eyespot.contracts.contract import ImageRule
from eyespot.data.packing import media_batch, pack
from eyespot.errors import EyespotError
from eyespot.families.sidefiles import CLIP_MEAN, CLIP_STD
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.resize import smart_resize
from eyespot.models.positions import Grid, positions
from eyespot.train.losses import token_loss
from tests.parity.grid_references import (
    KINDS,
    LEAST,
    MOST,
    PROCESSORS,
    TEMPLATE,
    image_processor,
    processor,
    qwen2_vl,
    whole_processor,
)
from tests.parity.references import BAR, DRAWS, picture, relative, user

pytestmark = pytest.mark.parity

CONVERSATIONS = {
    "one picture": user(picture(60, 33), "What is in the picture?"),
    "text only": user("A red star is left of the blue circle. What?"),
    "smaller than a patch": user(picture(5, 3), "What is it?"),
    "a line across": user(picture(600, 4), "What is left?"),
    "a line down": user(picture(3, 500), "What is left?"),
    "larger than is allowed": user(picture(301, 227), "What is it?"),
    "halves go to the even block": user(picture(42, 70), "What?"),
    "two pictures of unlike shape, text before, between and after": user(
        "First", picture(30, 170), "and second", picture(114, 64, 1), "What is it?"
    ),
    "pictures side by side, text before": user("What?", picture(90, 90, 2), picture(30, 60, 3)),
    "two turns": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        *user(picture(148, 48), "What?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
        *user("And left of it?", picture(64, 64, 4)),
    ],
}


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def both(kind, draw, tmp_path):
    """The draw, their model and processor, and ours from their files."""
    reference = KINDS[kind](draw)
    reference.save_pretrained(tmp_path)
    return draw, reference, processor(tmp_path, **PROCESSORS.get(kind, {})), eyespot.load(tmp_path)


def inputs_of(theirs, messages, **options):
    return theirs.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **options)


def their_positions(reference, inputs) -> torch.Tensor:
    grids = inputs.get("image_grid_thw")
    if grids is None:
        return torch.arange(inputs["input_ids"].shape[1]).expand(3, 1, -1)
    made, _ = reference.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], grids, attention_mask=inputs["attention_mask"]
    )
    return made


@torch.no_grad()
def test_ids_places_and_logits_agree_on_every_conversation(both):
    draw, reference, theirs, model = both
    for name, messages in CONVERSATIONS.items():
        inputs = inputs_of(theirs, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert torch.equal(trace.position_ids.expand(3, -1), their_positions(reference, inputs)[:, 0]), name
        assert relative(trace.logits, reference(**inputs).logits[0]) <= BAR[draw], name


def test_pictures_are_counted_where_their_template_is_asked_to(both):
    _, _, theirs, model = both
    messages = CONVERSATIONS["two pictures of unlike shape, text before, between and after"]
    inputs = inputs_of(theirs, messages, add_generation_prompt=True, add_vision_id=True)
    asked = {"add_generation_prompt": True, "variables": {"add_vision_id": True}}
    assert model.trace(messages, **asked).input_ids.tolist() == inputs["input_ids"][0].tolist()
    assert "Picture 2: " in theirs.tokenizer.decode(inputs["input_ids"][0])


@torch.no_grad()
def test_features_of_pictures_agree(both, kind):
    draw, reference, _, model = both
    pictures = [picture(60, 33), picture(300, 40, 1), picture(64, 64, 2), picture(5, 3, 3)]
    made = image_processor(**PROCESSORS.get(kind, {}))(pictures, return_tensors="pt")
    found = reference.get_image_features(made["pixel_values"], made["image_grid_thw"])
    items = [prepare_image(decode_image(p), model.contract.image) for p in pictures]
    batch = media_batch(items)
    assert torch.equal(batch.patches, made["pixel_values"])
    assert torch.equal(batch.grid_thw, made["image_grid_thw"])
    ours = model.module.encode({"vision": batch})["vision"]
    assert relative(ours.main, torch.cat(found.pooler_output)) <= BAR[draw]
    deep = getattr(found, "deepstack_features", [])
    assert list(ours.deep) == list(range(len(deep)))
    for layer, expected in enumerate(deep):
        assert relative(ours.deep[layer], torch.cat(expected)) <= BAR[draw]


def test_greedy_text_agrees(both):
    _, reference, theirs, model = both
    for name in ("one picture", "two turns", "text only"):
        messages = CONVERSATIONS[name]
        inputs = inputs_of(theirs, messages, add_generation_prompt=True)
        reference.model.rope_deltas = None  # they keep it from one conversation to the next
        made = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected = theirs.tokenizer.decode(made, skip_special_tokens=True)
        assert model.chat(messages, max_new_tokens=12).text == expected, name
        assert "".join(model.stream(messages, max_new_tokens=12)) == expected, name
        assert model.generate([read_messages(messages)], max_new_tokens=12)[0].text == expected, name


@torch.no_grad()
def test_left_padded_batches_of_theirs_equal_our_packed_ones(both):
    draw, reference, theirs, model = both
    names = ("one picture", "two pictures of unlike shape, text before, between and after", "a line across")
    conversations = [CONVERSATIONS[name] for name in names]
    inputs = inputs_of(theirs, conversations, padding=True)
    logits, places = reference(**inputs).logits, their_positions(reference, inputs)
    packed = pack([model.processor.encode(read_messages(c)) for c in conversations])
    ours = model.module.logits(model.module(packed).last).split(packed.segments.q_lens)
    ids = packed.position_ids.split(packed.segments.q_lens, dim=1)
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        assert torch.equal(ids[row], places[:, row, mask])
        assert relative(ours[row], logits[row][mask]) <= BAR[draw]
        alone = model.trace(conversations[row]).logits
        assert relative(ours[row], alone) <= BAR[draw]


def test_the_loss_agrees(both):
    draw, reference, theirs, model = both
    messages = [*CONVERSATIONS["two turns"], {"role": "assistant", "content": [{"type": "text", "text": "A circle."}]}]
    encoded = model.processor.encode(read_messages(messages))
    inputs = inputs_of(theirs, messages)
    assert inputs["input_ids"][0].tolist() == encoded.input_ids.tolist()
    labels = torch.as_tensor(encoded.input_ids).clone()
    labels[torch.as_tensor(encoded.loss_weight) == 0] = -100
    assert encoded.supervised > 0
    with torch.no_grad():
        expected = float(reference(**inputs, labels=labels[None]).loss)
        batch = pack([encoded])
        total, weight = token_loss(model.module, model.module(batch).last, batch.targets, batch.loss_weight)
    assert abs(float(total / weight) - expected) <= BAR[draw] * abs(expected)


@torch.no_grad()
def test_what_we_export_they_load_and_agree(both, tmp_path):
    draw, reference, _, model = both
    own, export = tmp_path / "own", tmp_path / "export"
    eyespot.save(model, own, layout="eyespot")  # so that every file of the export is written anew
    eyespot.save(eyespot.load(own), export, layout="hf")
    again, info = type(reference).from_pretrained(export, dtype=torch.float32, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    text = hf.AutoTokenizer.from_pretrained(export)
    assert text.chat_template.strip() == TEMPLATE.strip()
    theirs = whole_processor(Qwen2VLImageProcessorPil.from_pretrained(export), text)
    assert again.generation_config.eos_token_id == model.loaded.generation["eos_token_id"]
    for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        assert getattr(again.config, key) == getattr(reference.config, key)
    towers = [{**m.config.vision_config.to_diff_dict(), "dtype": None} for m in (again, reference)]
    assert towers[0] == towers[1]
    for name, messages in CONVERSATIONS.items():
        inputs = inputs_of(theirs, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        again.model.rope_deltas = None
        assert relative(trace.logits, again.eval()(**inputs).logits[0]) <= BAR[draw], name


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
@torch.no_grad()
def test_flat_configs_of_the_hub_and_names_in_memory_give_the_same_model(kind, tmp_path):
    from safetensors.torch import save_file

    reference = KINDS[kind]("wide")
    reference.save_pretrained(tmp_path)
    messages = CONVERSATIONS["two turns"]
    expected = reference(**inputs_of(processor(tmp_path), messages)).logits[0]
    raw = json.loads((tmp_path / "config.json").read_text())
    text = raw.pop("text_config")
    rope = text.pop("rope_parameters")
    scaling = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    vision = {k: v for k, v in raw["vision_config"].items() if k != "rope_parameters"} | {"in_chans": 3}
    flat = {**text, **raw, "rope_theta": rope["rope_theta"], "rope_scaling": scaling, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    model = eyespot.load(tmp_path)
    assert model.loaded.layout == "hf"
    assert relative(model.trace(messages).logits, expected) <= BAR["wide"]
    again = type(reference).from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert torch.equal(again(**inputs_of(processor(tmp_path), messages)).logits[0], expected)
    save_file({k: v.clone() for k, v in reference.state_dict().items()}, tmp_path / "model.safetensors")
    nested = eyespot.load(tmp_path)
    assert nested.loaded.layout == "hf-nested"
    assert relative(nested.trace(messages).logits, expected) <= BAR["wide"]


@torch.no_grad()
def test_other_blocks_activations_and_windows_agree(tmp_path, kind, draw):
    own = {
        "qwen2_vl": {"hidden_act": "gelu", "mlp_ratio": 3}, "qwen2_5_vl": {"window_size": 21 * 3 + 5},
        "qwen3_vl": {"hidden_act": "gelu", "num_position_embeddings": 4, "deepstack_visual_indexes": []},
    }[kind]  # fmt: skip
    reference = KINDS[kind](
        draw, tie_word_embeddings=True, text={"num_key_value_heads": 4},
        vision={"patch_size": 7, "spatial_merge_size": 3, **own},
    )  # fmt: skip
    reference.save_pretrained(tmp_path)
    theirs = processor(tmp_path, **{**PROCESSORS.get(kind, {}), "patch_size": 7, "merge_size": 3})
    model = eyespot.load(tmp_path)
    for messages in (CONVERSATIONS["one picture"], CONVERSATIONS["two turns"]):
        trace = model.trace(messages)
        assert relative(trace.logits, reference(**inputs_of(theirs, messages)).logits[0]) <= BAR[draw]


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
@torch.no_grad()
def test_videos_agree_beside_a_picture_and_text(both, kind):
    """Frames as they come, the last repeated; their rule for what follows a long video differs (docs/decisions)."""
    draw, reference, theirs, model = both
    frames = [picture(90, 60, seed) for seed in range(5)]
    video = {"type": "video", "video": frames, "fps": 1.6}
    messages = user("First", picture(64, 64), "then this")
    messages[0]["content"] += [video, {"type": "text", "text": "What is it?"}]
    encoded = model.processor.encode(read_messages(messages), add_generation_prompt=True)
    still, moving = encoded.media
    assert moving.grid_thw.tolist() == [[3, 4, 6]]
    text = theirs.apply_chat_template(messages, add_generation_prompt=True)
    for token, medium in (("<|image_pad|>", still), ("<|video_pad|>", moving)):
        text = text.replace(token, token * (len(medium.patches) // 4))
    assert encoded.input_ids.tolist() == theirs.tokenizer(text)["input_ids"]
    batch = pack([encoded])
    kinds = torch.zeros(1, len(encoded.input_ids), dtype=torch.int)
    kinds[0, still.slots], kinds[0, moving.slots] = 1, 2
    grids = {"image_grid_thw": torch.as_tensor(still.grid_thw), "video_grid_thw": torch.as_tensor(moving.grid_thw)}
    logits = reference(
        input_ids=batch.input_ids[None], mm_token_type_ids=kinds, position_ids=batch.position_ids[:, None],
        pixel_values=torch.as_tensor(still.patches), pixel_values_videos=torch.as_tensor(moving.patches), **grids,
    ).logits[0]  # fmt: skip
    assert relative(model.module.logits(model.module(batch).last), logits) <= BAR[draw]
    seconds = {"second_per_grid_ts": [2 / 1.6]} if kind == "qwen2_5_vl" else {}
    places, _ = reference.model.get_rope_index(batch.input_ids[None], kinds, **grids, **seconds)
    through = int(moving.slots[-1]) + 1
    assert torch.equal(batch.position_ids[:, :through], places[:, 0, :through])
    # They go on behind the larger side (3); we behind the last time too (5 = 2 × 2.5), as the models were trained.
    behind = batch.position_ids[:, through:] - places[:, 0, through:]
    assert behind.unique().tolist() == ([3] if kind == "qwen2_5_vl" else [0])


# --------------------------------------------------------------------------------------------- functions by themselves


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 4000), width=st.integers(1, 4000), factor=st.sampled_from([28, 32, 21, 2]),
    least=st.integers(1, 10**6), more=st.integers(0, 10**7),
)  # fmt: skip
def test_smart_resize_is_theirs(height, width, factor, least, more):
    bounds = {"min_pixels": least, "max_pixels": least + more}
    if max(height, width) > 200 * min(height, width):
        return
    assert smart_resize(height, width, factor, **bounds) == their_smart_resize(height, width, factor, **bounds)


RULE = ImageRule(
    resize="dynamic", crop=False, min_pixels=LEAST, max_pixels=MOST, mean=CLIP_MEAN, std=CLIP_STD, patch_size=14,
    merge_size=2, temporal_patch_size=2, positions="grid",
)  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 9))
def test_any_pictures_patches_are_bit_equal(height, width, seed):
    pixels = np.random.default_rng([height, width, seed]).integers(0, 256, (height, width, 3), np.uint8)
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(EyespotError, match="200-fold"):
            prepare_image(decode_image(pixels), RULE)
        return
    made = image_processor()(pixels, return_tensors="np", input_data_format="channels_last")
    encoded = prepare_image(decode_image(pixels), RULE)
    assert np.array_equal(encoded.patches, made["pixel_values"])
    assert np.array_equal(encoded.grid_thw, made["image_grid_thw"])


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (42, 42), (70, 70), (14, 1000), (3000, 20)])
def test_published_bounds_are_bit_equal_at_published_sizes(size):
    pixels = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    made = image_processor(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 1280})(
        pixels, return_tensors="np", input_data_format="channels_last"
    )
    encoded = prepare_image(decode_image(pixels), RULE.replace(max_pixels=28 * 28 * 1280))
    assert np.array_equal(encoded.patches, made["pixel_values"])


GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.fixture(scope="module")
def counting() -> torch.nn.Module:
    return qwen2_vl("small")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(runs=st.lists(st.tuples(st.integers(1, 5), GRIDS), min_size=1, max_size=5), tail=st.integers(0, 4))
def test_places_are_theirs_for_any_row_of_text_and_pictures(counting, runs, tail):
    kinds, grids, ours = [], [], []
    for text, (rows, columns) in runs:
        ours.append(Grid(len(kinds) + text, (1, rows, columns)))
        kinds += [0] * text + [1] * (rows * columns)
        grids.append([1, 2 * rows, 2 * columns])
    kinds += [0] * tail
    ids = torch.zeros(1, len(kinds), dtype=torch.long)
    expected, delta = counting.model.get_rope_index(ids, torch.tensor([kinds]), torch.tensor(grids))
    made = positions((len(kinds),), (-1,), grids=ours)
    assert torch.equal(made, expected[:, 0])
    assert int(made.max()) + 1 - len(kinds) == int(delta)
