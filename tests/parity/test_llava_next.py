"""LLaVA-NeXT against `transformers`: tiles, features, logits, loss, greedy text, both directions, two draws."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import eyespot
from eyespot import families
from eyespot.data.packing import media_batch, pack
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image, unpatchify
from eyespot.train.losses import token_loss
from tests.parity.references import (
    BAR,
    DRAWS,
    PINPOINTS,
    authors_layout,
    llava_next,
    llava_next_processor,
    picture,
    relative,
    user,
)

pytestmark = pytest.mark.parity

KINDS = ("llama", "mistral", "qwen2", "qwen3")
# Wide, tall, square, of one tile, tiny, and so long that no row of the map is left.
SIZES = [(60, 33), (33, 60), (84, 84), (42, 42), (43, 41), (5, 3), (1, 1), (400, 21), (21, 400), (130, 97), (500, 1)]
CONVERSATIONS = {
    "one picture": user(picture(60, 33), "What is in the picture?"),
    "text only": user("A red star is left of the blue circle. What?"),
    "tiny picture": user(picture(5, 3), "What is it?"),
    "wide picture": user(picture(400, 21), "What is left?"),
    "a line": user(picture(1, 300), "What is left?"),
    "two shapes, text before, between and after": user(
        "First", picture(30, 170), "and second", picture(164, 64, 1), "What is it?"
    ),
    "two turns, a picture in each": [
        *user(picture(48, 48), "What?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
        *user(picture(90, 40, 2), "And left of it?"),
    ],
}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "A red star."}]}


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


def checkpoint(folder, draw, kind="llama", vision="clip", **changes):
    reference = llava_next(kind, draw, vision, **changes)
    reference.save_pretrained(folder)
    return reference, llava_next_processor(folder, vision)


def theirs(model, processor, messages, **options):
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **options)
    with torch.no_grad():
        return inputs, model(**inputs).logits[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_logits_and_ids_agree_on_every_conversation(tmp_path, draw, kind, vision):
    reference, processor = checkpoint(tmp_path, draw, kind, vision)
    model = eyespot.load(tmp_path)
    for name, messages in CONVERSATIONS.items():
        inputs, logits = theirs(reference, processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert relative(trace.logits, logits) <= BAR[draw], name


@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_features_agree_on_every_size_and_are_as_many_as_the_processor_counts(tmp_path, draw, vision):
    reference, processor = checkpoint(tmp_path, draw, vision=vision)
    model = eyespot.load(tmp_path)
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    inputs = processor.image_processor(pictures, return_tensors="pt")
    media = [prepare_image(decode_image(p), model.contract.image) for p in pictures]
    with torch.no_grad():
        expected = reference.get_image_features(**inputs).pooler_output
        ours = model.module.encode({"vision": media_batch(media)})["vision"].main
    counts = [len(e) for e in expected]
    for mine, their in zip(ours.split(counts), expected, strict=True):
        assert relative(mine, their) <= BAR[draw]
    encoded = model.processor.encode(read_messages(user(*pictures, "What?")))
    assert [len(m.slots) for m in encoded.media] == counts


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_agrees(tmp_path, draw, kind):
    reference, processor = checkpoint(tmp_path, draw, kind)
    model = eyespot.load(tmp_path)
    messages = CONVERSATIONS["two shapes, text before, between and after"]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    made = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    expected = processor.tokenizer.decode(made, skip_special_tokens=True)
    assert model.chat(messages, max_new_tokens=12).text == expected
    assert "".join(model.stream(messages, max_new_tokens=12)) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["direct", "through our layout"])
def test_what_we_export_they_load_and_agree(tmp_path, draw, kind, way):
    source, export = tmp_path / "source", tmp_path / "export"
    reference, _ = checkpoint(source, draw, kind)
    model = eyespot.load(source)
    if way == "direct":
        eyespot.save(model, export, layout="hf")
    else:
        eyespot.save(model, tmp_path / "own", layout="eyespot")
        eyespot.save(eyespot.load(tmp_path / "own"), export, layout="hf")
    again, info = hf.LlavaNextForConditionalGeneration.from_pretrained(
        export, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.equal(again.state_dict()[name], t) for name, t in reference.state_dict().items())
    processor = hf.AutoProcessor.from_pretrained(export, backend="pil")
    assert isinstance(processor, hf.LlavaNextProcessor)
    for messages in CONVERSATIONS.values():
        inputs, logits = theirs(again.eval(), processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist()
        assert relative(trace.logits, logits) <= BAR[draw]
    assert eyespot.load(export).contract == model.contract


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(tmp_path):
    checkpoint(tmp_path / "theirs", "wide")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "ours")
    tensors = [load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])
    configs = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("kind", KINDS)
def test_left_padded_batches_of_theirs_equal_our_packed_ones(tmp_path, draw, kind):
    reference, processor = checkpoint(tmp_path, draw, kind)
    model = eyespot.load(tmp_path)
    conversations = [CONVERSATIONS["one picture"], CONVERSATIONS["two shapes, text before, between and after"]]
    inputs = processor.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    )
    packed = pack([model.processor.encode(read_messages(c)) for c in conversations])
    with torch.no_grad():
        logits = reference(**inputs).logits
        ours = model.module.logits(model.module(packed).last).split(packed.segments.q_lens)
    for row, (mine, mask) in enumerate(zip(ours, inputs["attention_mask"].bool(), strict=True)):
        assert relative(mine, logits[row][mask]) <= BAR[draw]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_the_newlines_gradient_agree(tmp_path, draw, kind):
    reference, processor = checkpoint(tmp_path, draw, kind)
    model = eyespot.load(tmp_path)
    messages = [*CONVERSATIONS["one picture"], ANSWER]
    encoded = model.processor.encode(read_messages(messages))
    assert encoded.supervised > 0
    labels = torch.as_tensor(encoded.input_ids).clone()
    labels[torch.as_tensor(encoded.loss_weight) == 0] = -100
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == encoded.input_ids.tolist()
    expected = reference(**inputs, labels=labels[None]).loss
    batch = pack([encoded])
    total, weight = token_loss(model.module, model.module(batch).last, batch.targets, batch.loss_weight)
    loss = total / weight
    assert relative(loss.detach(), expected.detach()) <= BAR[draw]
    expected.backward()
    loss.backward()
    newline = reference.model.image_newline.grad
    if kind == "mistral":  # whose window does not reach from the answer to the picture
        assert not newline.any() and not model.module.image_newline.grad.any()
    else:
        assert relative(model.module.image_newline.grad, newline) <= 10 * BAR[draw]


@pytest.mark.parametrize("layers", [[-2, -1], [1], [-1]])
def test_feature_layers_are_read_as_they_read_them(tmp_path, draw, layers):
    layer = layers if len(layers) > 1 else layers[0]
    reference, processor = checkpoint(tmp_path, draw, vision_feature_layer=layer, multimodal_projector_bias=False)
    messages = CONVERSATIONS["one picture"]
    _, logits = theirs(reference, processor, messages)
    assert relative(eyespot.load(tmp_path).trace(messages).logits, logits) <= BAR[draw]


def test_the_four_layouts_of_the_hub_give_the_same_model(tmp_path):
    """Layouts A, A2, B and C of `transformers`' history, made by renaming."""
    reference, processor = checkpoint(tmp_path / "a2", "small", "mistral")
    tensors = load_file(tmp_path / "a2" / "model.safetensors")
    assert "image_newline" in tensors
    in_memory = reference.state_dict()
    assert "model.image_newline" in in_memory

    def wrapped(name: str) -> str:
        return name.replace("vision_tower.", "vision_tower.vision_model.")

    layouts = {
        "hf": {wrapped(k): v for k, v in tensors.items()},
        "hf-b": {wrapped(k): v for k, v in in_memory.items()},
        "hf-c": in_memory,
    }
    messages = CONVERSATIONS["two shapes, text before, between and after"]
    _, logits = theirs(reference, processor, messages)
    for name, renamed in layouts.items():
        llava_next_processor(tmp_path / name)
        reference.config.save_pretrained(tmp_path / name)
        save_file({k: v.contiguous().clone() for k, v in renamed.items()}, tmp_path / name / "model.safetensors")
        assert families.load(tmp_path / name).layout == name
        assert relative(eyespot.load(tmp_path / name).trace(messages).logits, logits) <= BAR["small"], name


def test_tiles_are_bit_equal_to_the_pil_processors(tmp_path):
    _, processor = checkpoint(tmp_path, "small")
    rule = eyespot.load(tmp_path).contract.image
    rng = np.random.default_rng(0)
    for width, height in [*SIZES, *rng.integers(1, 260, (60, 2)).tolist()]:
        image = picture(width, height, width * height)
        expected = processor.image_processor(image, return_tensors="np")["pixel_values"][0]
        medium = prepare_image(decode_image(image), rule)
        tiles = np.split(medium.patches, len(medium.grid_thw))
        ours = np.stack([unpatchify(tile, (3, 3), 14) for tile in tiles])
        assert np.array_equal(ours, expected), (width, height)


def test_the_authors_reading_of_the_canvases_is_kept_and_followed_there_too(tmp_path):
    """Written as canvases that their code reads height first, the authors' preference holds in `transformers`."""
    checkpoint(tmp_path / "theirs", "small")
    model = families.load(tmp_path / "theirs")
    tiling = model.contract.image.tiling.replace(order="width_height")
    model.contract = model.contract.replace(image=model.contract.image.replace(tiling=tiling))
    families.save(model, tmp_path / "ours")
    again = eyespot.load(tmp_path / "ours")
    assert again.contract.image.tiling == tiling
    processor = hf.AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    reference = hf.LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    messages = user(picture(30, 30), "What is in the picture?")
    inputs, logits = theirs(reference, processor, messages)
    trace = again.trace(messages)
    assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist()
    assert relative(trace.logits, logits) <= BAR["small"]
    first = eyespot.load(tmp_path / "theirs").trace(messages)
    assert first.logits.shape != trace.logits.shape or relative(first.logits, trace.logits) > 1e-3


def test_the_authors_layout_gives_the_same_numbers(tmp_path, draw):
    """Canvases are written width first there, as text; in the same order they serve as well as in theirs."""
    reference, processor = checkpoint(tmp_path / "theirs", draw)
    reference.model.vision_tower.save_pretrained(tmp_path / "tower")
    hf.CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size=42).save_pretrained(tmp_path / "tower")
    folder = tmp_path / "original"
    processor.tokenizer.save_pretrained(folder)
    turned = str([(width, height) for height, width in PINPOINTS])
    authors_layout(reference, tmp_path / "tower", folder, image_aspect_ratio="anyres", image_grid_pinpoints=turned)
    model = eyespot.load(folder)
    assert model.loaded.layout == "original"
    for name, messages in CONVERSATIONS.items():
        inputs, logits = theirs(reference, processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert relative(trace.logits, logits) <= BAR[draw], name
