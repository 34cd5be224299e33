"""InternVL against `transformers`: tiles, frames, features, logits, loss, greedy text, both directions, two draws."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

import eyespot
from eyespot import families
from eyespot.contracts.contract import AspectTiling
from eyespot.data.packing import media_batch, pack
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image, unpatchify
from eyespot.train.losses import token_loss
from tests.parity.internvl_references import frames, inputs_of, internvl, processor, video, whole_processor
from tests.parity.references import BAR, DRAWS, picture, relative

pytestmark = pytest.mark.parity

KINDS = {"qwen2": "small", "qwen3": "large", "llama": "small"}  # a decoder: the tower before it
SIZES = [(60, 33), (33, 60), (56, 56), (57, 55), (5, 3), (1, 1), (400, 21), (21, 400), (130, 97), (1000, 3), (300, 290)]
CONVERSATIONS = {
    "one picture": video(picture(100, 33), "What is in the picture?"),
    "text only": video("A red star is left of the blue circle. What?"),
    "tiny picture": video(picture(5, 3), "What is it?"),
    "a line down": video(picture(1, 300), "What is left?"),
    "two shapes, text before, between and after": video(
        "First", picture(30, 170), "and second", picture(164, 120, 1), "What is it?"
    ),
    "a video": video(frames(5, 60, 40), "What happens?"),
    "picture, video, picture": video(
        picture(90, 60), "then", frames(9, 33, 70), "and at last", picture(60, 60, 1), "What?"
    ),
    "two turns": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        *video(picture(148, 48), "What?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
        *video("And left of it?", picture(64, 64, 4)),
    ],
}  # fmt: skip
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "A red star."}]}


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=[(kind, draw) for kind in KINDS for draw in DRAWS], ids=" ".join)
def both(request, tmp_path_factory):
    """The draw, their model and processor, and ours from their files."""
    kind, drawn = request.param
    folder = tmp_path_factory.mktemp("theirs")
    reference, theirs = checkpoint(folder, drawn, kind)
    return drawn, reference, theirs, eyespot.load(folder)


def checkpoint(folder, draw, kind="qwen2", **changes):
    reference = internvl(kind, draw, KINDS[kind], **changes)
    reference.save_pretrained(folder)
    return reference, processor(folder)


@torch.no_grad()
def agree(draw, reference, theirs, model, conversations=CONVERSATIONS):
    for name, messages in conversations.items():
        inputs = inputs_of(theirs, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert relative(trace.logits, reference(**inputs).logits[0]) <= BAR[draw], name


def test_ids_and_logits_agree_on_every_conversation(both):
    agree(*both)


@torch.no_grad()
def test_features_agree_on_every_size(both):
    draw, reference, theirs, model = both
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    pixels = theirs.image_processor(pictures, crop_to_patches=True, return_tensors="pt")["pixel_values"]
    expected = reference.get_image_features(pixel_values=pixels).pooler_output.flatten(0, 1)
    media = [prepare_image(decode_image(p), model.contract.image) for p in pictures]
    batch = media_batch(media)
    assert relative(model.module.encode({"vision": batch})["vision"].main, expected) <= BAR[draw]
    tower = reference.model.vision_tower(pixels).last_hidden_state[:, 1:]
    ours = model.module.vision_encoder.features(batch, (-1,)).view(-1, 2, 2, 2, 2, 16).transpose(2, 3).flatten(1, 4)
    assert relative(ours, tower) <= BAR[draw]
    encoded = model.processor.encode(read_messages(video(*pictures, "What?")))
    assert sum(len(m.slots) for m in encoded.media) == len(expected)


def test_greedy_text_agrees(both):
    _, reference, theirs, model = both
    for name in ("two shapes, text before, between and after", "a video"):
        messages = CONVERSATIONS[name]
        inputs = inputs_of(theirs, messages, add_generation_prompt=True)
        made = reference.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected = theirs.tokenizer.decode(made, skip_special_tokens=True)
        assert model.chat(messages, max_new_tokens=10).text == expected, name
        assert "".join(model.stream(messages, max_new_tokens=10)) == expected, name


@torch.no_grad()
def test_left_padded_batches_of_theirs_equal_our_packed_ones(both):
    draw, reference, theirs, model = both
    names = ("one picture", "two shapes, text before, between and after", "a video", "text only")
    conversations = [CONVERSATIONS[name] for name in names]
    inputs = inputs_of(theirs, *conversations)
    logits = reference(**inputs).logits
    packed = pack([model.processor.encode(read_messages(c)) for c in conversations])
    ours = model.module.logits(model.module(packed).last).split(packed.segments.q_lens)
    for row, (mine, mask) in enumerate(zip(ours, inputs["attention_mask"].bool(), strict=True)):
        assert relative(mine, logits[row][mask]) <= BAR[draw]


def test_the_loss_and_gradients_agree(both):
    draw, reference, theirs, model = both
    messages = [*CONVERSATIONS["picture, video, picture"], ANSWER]
    encoded = model.processor.encode(read_messages(messages))
    assert encoded.supervised > 0
    labels = torch.as_tensor(encoded.input_ids).clone()
    labels[torch.as_tensor(encoded.loss_weight) == 0] = -100
    inputs = inputs_of(theirs, messages)
    assert inputs["input_ids"][0].tolist() == encoded.input_ids.tolist()
    expected = reference(**inputs, labels=labels[None]).loss
    batch = pack([encoded])
    total, weight = token_loss(model.module, model.module(batch).last, batch.targets, batch.loss_weight)
    assert relative((total / weight).detach(), expected.detach()) <= BAR[draw]
    expected.backward()
    (total / weight).backward()
    tower = reference.model.vision_tower
    pairs = {
        "scale": (model.module.vision_encoder.blocks[0].scale1, tower.encoder.layer[0].lambda_1),
        "norm": (model.module.connector.norm.weight, reference.model.multi_modal_projector.layer_norm.weight),
    }
    for name, (mine, their) in pairs.items():
        assert relative(mine.grad, their.grad) <= 10 * BAR[draw], name


@pytest.mark.parametrize("way", ["direct", "through our layout"])
def test_what_we_export_they_load_and_agree(both, way, tmp_path):
    draw, reference, _, model = both
    export = tmp_path / "export"
    if way == "through our layout":
        eyespot.save(model, tmp_path / "own", layout="eyespot")
        model = eyespot.load(tmp_path / "own")
    eyespot.save(model, export, layout="hf")
    if way == "through our layout":  # else the files go out as they came
        assert json.loads((export / "processor_config.json").read_text())["image_seq_length"] == 4
    again, info = hf.InternVLForConditionalGeneration.from_pretrained(
        export, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.equal(again.state_dict()[name], t) for name, t in reference.state_dict().items())
    image = GotOcr2ImageProcessorPil.from_pretrained(export)
    theirs = whole_processor(image, hf.AutoTokenizer.from_pretrained(export))
    agree(draw, again.eval(), theirs, model)
    assert eyespot.load(export).contract == model.contract


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(tmp_path):
    checkpoint(tmp_path / "theirs", "wide")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "ours")
    tensors = [load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])
    configs = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert configs[0] == configs[1]


def test_both_sets_of_names_give_the_same_model(tmp_path):
    reference, theirs = checkpoint(tmp_path / "hf", "small")
    theirs.image_processor.save_pretrained(tmp_path / "hf-c")
    theirs.tokenizer.save_pretrained(tmp_path / "hf-c")
    reference.config.save_pretrained(tmp_path / "hf-c")
    tensors = {k: v.contiguous().clone() for k, v in reference.state_dict().items()}
    save_file(tensors, tmp_path / "hf-c" / "model.safetensors")
    for name in ("hf", "hf-c"):
        assert families.load(tmp_path / name).layout == name
        agree("small", reference, theirs, eyespot.load(tmp_path / name), {"one": CONVERSATIONS["one picture"]})


@pytest.mark.parametrize("changes", [
    {"vision_feature_layer": -2}, {"vision_feature_layer": 1}, {"tie_word_embeddings": True},
    {"vision": {"image_size": [112, 112]}},  # its table of positions is resized
    {"text": {"rope_theta": 1e4, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 48}},
], ids=str)  # fmt: skip
def test_what_a_config_may_say_is_followed(tmp_path, draw, changes):
    reference, theirs = checkpoint(tmp_path, draw, **changes)
    some = {n: CONVERSATIONS[n] for n in ("one picture", "a video", "text only")}
    agree(draw, reference, theirs, eyespot.load(tmp_path), some)


def test_tiles_are_bit_equal_to_the_pil_processors(tmp_path):
    _, theirs = checkpoint(tmp_path, "small")
    rule = eyespot.load(tmp_path).contract.image
    rng = np.random.default_rng(0)
    for width, height in [*SIZES, *rng.integers(1, 260, (40, 2)).tolist()]:
        image = picture(width, height, width * height)
        made = theirs.image_processor(image, crop_to_patches=True, return_tensors="np")
        medium = prepare_image(decode_image(image), rule)
        tiles = np.split(medium.patches, len(medium.grid_thw))
        ours = np.stack([unpatchify(tile, (4, 4), 14, merge_size=2) for tile in tiles])
        assert np.array_equal(ours, made["pixel_values"]), (width, height)


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 4), (3, 9)])
def test_bounds_of_tiles_are_written_and_followed_there_too(tmp_path, least, most):
    checkpoint(tmp_path / "theirs", "small")
    model = families.load(tmp_path / "theirs")
    tiling = AspectTiling(least, most) if most > 1 else None
    model.contract = model.contract.replace(image=model.contract.image.replace(aspect_tiling=tiling))
    families.save(model, tmp_path / "ours")
    again = eyespot.load(tmp_path / "ours")
    assert again.contract.image.aspect_tiling == tiling
    reference = hf.InternVLForConditionalGeneration.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    image = GotOcr2ImageProcessorPil.from_pretrained(tmp_path / "ours")
    theirs = whole_processor(image, hf.AutoTokenizer.from_pretrained(tmp_path / "ours"))
    agree("small", reference, theirs, again, {"one": CONVERSATIONS["one picture"]})
