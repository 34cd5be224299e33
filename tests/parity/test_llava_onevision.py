"""LLaVA-OneVision against `transformers`: one picture, several, videos; both directions, two draws."""

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
from eyespot.inputs.video import decode_video, prepare_video
from eyespot.train.losses import token_loss
from tests.parity.onevision_references import llava_onevision, llava_onevision_processor, whole_processor
from tests.parity.references import BAR, DRAWS, authors_layout, picture, relative, user, vision_config

pytestmark = pytest.mark.parity

# Of one tile, of nearly all tiles and hence scaled down, wide, tall, tiny, and so long that no row of the map is left.
SIZES = [(48, 48), (190, 188), (190, 95), (60, 180), (60, 33), (5, 3), (1, 1), (400, 21), (21, 400), (500, 1), (1, 500)]


def video(count: int, width: int = 60, height: int = 40) -> dict:
    return {"type": "video", "video": [picture(width, height, seed) for seed in range(count)], "fps": 2.0}


def turn(*parts) -> list[dict]:
    """As `user`, with videos."""
    made = user(*(p for p in parts if not isinstance(p, dict)))
    made[0]["content"] += [p for p in parts if isinstance(p, dict)]
    return made


CONVERSATIONS = {
    "one picture": user(picture(60, 33), "What is in the picture?"),
    "one large picture": user(picture(190, 188), "What is in the picture?"),
    "text only": user("A red star is left of the blue circle. What?"),
    "tiny picture": user(picture(5, 3), "What is it?"),
    "a line": user(picture(1, 300), "What is left?"),
    "several of unlike shapes": user("First", picture(30, 170), "and", picture(164, 64, 1), picture(9, 9, 2), "What?"),
    "several, one in each turn": [
        *user(picture(48, 48), "What?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A star."}]},
        *user(picture(90, 40, 2), "And left of it?"),
    ],
    "a video": turn(video(5), "What is it?"),
    "one frame": turn(video(1), "What is it?"),
    "a picture and a video": turn(picture(90, 61), "What is left of", video(3)),
    "two pictures and a video": turn(picture(90, 61), "What is left of", picture(33, 70, 1), video(4)),
}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "A red star."}]}


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


def checkpoint(folder, draw, kind="qwen2", vision="siglip", side=48, **changes):
    reference = llava_onevision(kind, draw, vision, side, **changes)
    reference.save_pretrained(folder)
    return reference, llava_onevision_processor(folder, vision, side)


def theirs(model, processor, messages, **options):
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **options)
    with torch.no_grad():
        return inputs, model(**inputs).logits[0]


@pytest.mark.parametrize(("kind", "vision", "side"), [
    ("qwen2", "siglip", 48), ("qwen2", "siglip", 56), ("qwen3", "siglip", 48), ("llama", "clip", 48),
])  # fmt: skip
def test_logits_and_ids_agree_on_every_conversation(tmp_path, draw, kind, vision, side):
    reference, processor = checkpoint(tmp_path, draw, kind, vision, side)
    model = eyespot.load(tmp_path)
    for name, messages in CONVERSATIONS.items():
        inputs, logits = theirs(reference, processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert trace.position_ids.tolist() == [list(range(len(trace.input_ids)))]
        assert relative(trace.logits, logits) <= BAR[draw], name


def test_features_agree_on_every_size_and_are_as_many_as_the_processor_counts(tmp_path, draw):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    pictures = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    # A list of pictures are those of as many conversations, a list in a list those of one.
    for given, rule in ((pictures, model.contract.image), ([pictures], model.contract.several)):
        inputs = processor.image_processor(given, return_tensors="pt")
        media = [prepare_image(decode_image(p), rule) for p in pictures]
        with torch.no_grad():
            expected = reference.get_image_features(**inputs).pooler_output
            ours = model.module.encode({"vision": media_batch(media)})["vision"].main
        counts = [len(e) for e in expected]
        for mine, their in zip(ours.split(counts), expected, strict=True):
            assert relative(mine, their) <= BAR[draw]
        told = [processor.replace_image_token(inputs, i).count("<image>") for i in range(len(pictures))]
        assert told == counts == model.processor._counts(media)


def test_the_features_of_a_video_agree(tmp_path, draw):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    given = video(7)
    pixels = processor.video_processor([[given["video"]]])["pixel_values_videos"]
    medium = prepare_video(decode_video(given["video"], 2.0), model.contract.video)
    with torch.no_grad():
        expected = reference.get_video_features(pixels).pooler_output[0]
        ours = model.module.encode({"vision": media_batch([medium])})["vision"].main
    assert len(expected) == 7 * 4 + 1
    assert relative(ours, expected) <= BAR[draw]


@pytest.mark.parametrize("name", ["one large picture", "several of unlike shapes", "two pictures and a video"])
def test_greedy_text_agrees(tmp_path, draw, name):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    messages = CONVERSATIONS[name]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    made = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    expected = processor.tokenizer.decode(made, skip_special_tokens=True)
    assert model.chat(messages, max_new_tokens=12).text == expected
    assert "".join(model.stream(messages, max_new_tokens=12)) == expected


@pytest.mark.parametrize("way", ["direct", "through our layout"])
@pytest.mark.parametrize("vision", ["siglip", "clip"])
def test_what_we_export_they_load_and_agree(tmp_path, draw, way, vision):
    source, export = tmp_path / "source", tmp_path / "export"
    reference, _ = checkpoint(source, draw, vision=vision)
    model = eyespot.load(source)
    if way == "direct":
        eyespot.save(model, export, layout="hf")
    else:
        eyespot.save(model, tmp_path / "own", layout="eyespot")
        eyespot.save(eyespot.load(tmp_path / "own"), export, layout="hf")
    again, info = hf.LlavaOnevisionForConditionalGeneration.from_pretrained(
        export, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.equal(again.state_dict()[name], t) for name, t in reference.state_dict().items())
    image = hf.AutoImageProcessor.from_pretrained(export, backend="pil")
    assert isinstance(image, hf.LlavaOnevisionImageProcessorPil)
    text = hf.AutoTokenizer.from_pretrained(export)
    processor = whole_processor(image, text, 3, vision)
    for messages in CONVERSATIONS.values():
        inputs, logits = theirs(again.eval(), processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist()
        assert relative(trace.logits, logits) <= BAR[draw]
    assert eyespot.load(export).contract == model.contract


def test_the_processor_files_that_we_write_are_what_their_processor_is_made_with(tmp_path):
    """The whole processor cannot be loaded without torchvision; what it would be given is read from the files."""
    _, processor = checkpoint(tmp_path / "theirs", "small")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "own", layout="eyespot")
    eyespot.save(eyespot.load(tmp_path / "own"), tmp_path / "ours", layout="hf")
    written = json.loads((tmp_path / "ours" / "processor_config.json").read_text())
    assert written["processor_class"] == "LlavaOnevisionProcessor"
    keys = ("image_token", "video_token", "num_image_tokens", "vision_aspect_ratio", "vision_feature_select_strategy")
    assert {key: written[key] for key in keys} == {key: getattr(processor, key) for key in keys}
    frames = json.loads((tmp_path / "ours" / "video_preprocessor_config.json").read_text())
    assert frames["video_processor_type"] == "LlavaOnevisionVideoProcessor"
    assert frames["size"] == {"height": 48, "width": 48} and frames["image_mean"] == [0.5] * 3


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(tmp_path):
    checkpoint(tmp_path / "theirs", "wide")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "ours")
    tensors = [load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])
    configs = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert configs[0] == configs[1]


def test_left_padded_batches_of_theirs_equal_our_packed_ones(tmp_path, draw):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    conversations = [
        CONVERSATIONS[name] for name in ("one picture", "several of unlike shapes", "a video", "text only")
    ]
    inputs = processor.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_tensors="pt", padding=True
    )
    packed = pack([model.processor.encode(read_messages(c)) for c in conversations])
    with torch.no_grad():
        logits = reference(**inputs).logits
        ours = model.module.logits(model.module(packed).last).split(packed.segments.q_lens)
    for row, (mine, mask) in enumerate(zip(ours, inputs["attention_mask"].bool(), strict=True)):
        assert relative(mine, logits[row][mask]) <= BAR[draw]


@pytest.mark.parametrize("name", ["one large picture", "two pictures and a video"])
def test_the_loss_and_the_newlines_gradient_agree(tmp_path, draw, name):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    messages = [*CONVERSATIONS[name], ANSWER]
    encoded = model.processor.encode(read_messages(messages))
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    learnt = inputs.pop("assistant_masks")[0]
    assert inputs["input_ids"][0].tolist() == encoded.input_ids.tolist()
    assert (torch.as_tensor(encoded.loss_weight) > 0).int().tolist() == learnt.tolist()
    labels = torch.where(learnt > 0, inputs["input_ids"][0], -100)
    expected = reference(**inputs, labels=labels[None]).loss
    batch = pack([encoded])
    total, weight = token_loss(model.module, model.module(batch).last, batch.targets, batch.loss_weight)
    loss = total / weight
    assert relative(loss.detach(), expected.detach()) <= BAR[draw]
    expected.backward()
    loss.backward()
    assert relative(model.module.image_newline.grad, reference.model.image_newline.grad) <= 10 * BAR[draw]


def test_the_four_layouts_of_the_hub_give_the_same_model(tmp_path):
    """Layouts A, A2, B and C of `transformers`' history, made by renaming; the old configs state fewer keys."""
    reference, processor = checkpoint(tmp_path / "a2", "small")
    tensors, in_memory = load_file(tmp_path / "a2" / "model.safetensors"), reference.state_dict()

    def wrapped(name: str) -> str:
        return name.replace("vision_tower.", "vision_tower.vision_model.")

    layouts = {
        "hf": {wrapped(k): v for k, v in tensors.items()},
        "hf-b": {wrapped(k): v for k, v in in_memory.items()},
        "hf-c": in_memory,
    }
    messages = CONVERSATIONS["two pictures and a video"]
    _, logits = theirs(reference, processor, messages)
    raw = json.loads((tmp_path / "a2" / "config.json").read_text())
    for key in ("vision_feature_layer", "vision_feature_select_strategy", "projector_hidden_act"):
        del raw[key]
    del raw["text_config"]["model_type"], raw["vision_config"]["model_type"]
    for name, renamed in layouts.items():
        llava_onevision_processor(tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(raw))
        save_file({k: v.contiguous().clone() for k, v in renamed.items()}, tmp_path / name / "model.safetensors")
        assert families.load(tmp_path / name).layout == name
        assert relative(eyespot.load(tmp_path / name).trace(messages).logits, logits) <= BAR["small"], name


def test_tiles_and_padded_pictures_are_bit_equal_to_the_pil_processors(tmp_path):
    _, processor = checkpoint(tmp_path, "small")
    contract = eyespot.load(tmp_path).contract
    rng = np.random.default_rng(0)
    for width, height in [*SIZES, *rng.integers(1, 260, (30, 2)).tolist()]:
        image = picture(width, height, width * height)
        for given, rule in ((image, contract.image), ([[image, image]], contract.several)):
            expected = processor.image_processor(given, return_tensors="np")["pixel_values"][0]
            medium = prepare_image(decode_image(image), rule)
            tiles = np.split(medium.patches, len(medium.grid_thw))
            ours = np.stack([unpatchify(tile, (3, 3), 14) for tile in tiles])
            assert np.array_equal(ours, expected[..., :42, :42]), (width, height)


def test_their_defaults_are_ours(tmp_path):
    """A config that says nothing is the published one, of which only the shapes are built."""
    raw = json.loads(hf.LlavaOnevisionConfig().to_json_string())
    family = next(f for f in families.all_families() if f.name == "llava_onevision")
    with torch.device("meta"):
        reference = hf.LlavaOnevisionForConditionalGeneration(hf.LlavaOnevisionConfig())
    said = {"model_type": "llava_onevision", "text_config": {"model_type": "qwen2"}}
    for given in (raw, said):
        config = family.config_from_hf(given, (), {})
        keymap = family.layouts["hf-c"].keymap(config)
        ours = families.build(config, "meta").state_dict()
        shapes = {keymap.their_name(name): None for name in ours}
        assert shapes.keys() == {
            n for n in reference.state_dict() if "head.weight" not in n or config.decoder.tie_word_embeddings is False
        }
    image = hf.LlavaOnevisionImageProcessorPil()
    contract = family.contract_from_hf({"config.json": said}, config, None)
    assert [list(c) for c in contract.image.tiling.canvases] == image.image_grid_pinpoints
    assert contract.image.mean == tuple(image.image_mean)


@pytest.mark.parametrize("held", ["a tower inside", "a tower only named"])
def test_the_authors_layout_gives_the_same_numbers(tmp_path, draw, held):
    """There the tower stands without its last block, or whole beside it; both are read before that block."""
    reference, processor = checkpoint(tmp_path / "theirs", draw)
    whole = hf.SiglipVisionModel(vision_config("siglip", image_size=48, num_hidden_layers=4)).eval()
    inside = reference.model.vision_tower.state_dict()
    missing = whole.load_state_dict(inside, strict=False)
    assert not missing.unexpected_keys and all("layers.3." in k or "head." in k for k in missing.missing_keys)
    whole.save_pretrained(tmp_path / "tower")
    image = hf.SiglipImageProcessorPil(size={"height": 48, "width": 48}, resample=3)
    image.save_pretrained(tmp_path / "tower")
    folder = tmp_path / "original"
    processor.tokenizer.save_pretrained(folder)
    authors_layout(
        reference, tmp_path / "tower", folder, architectures=["LlavaQwenForCausalLM"],
        image_aspect_ratio="anyres_max_4", image_grid_pinpoints="(1x1),...,(4x4)", mm_spatial_pool_mode="bilinear",
    )  # fmt: skip
    if held == "a tower only named":
        tensors = load_file(folder / "model.safetensors")
        save_file({k: v for k, v in tensors.items() if "vision_tower" not in k}, folder / "model.safetensors")
    model = eyespot.load(folder)
    assert model.module.config.vision.num_layers == (3 if held == "a tower inside" else 4)
    for name, messages in CONVERSATIONS.items():
        inputs, logits = theirs(reference, processor, messages, add_generation_prompt=True)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == inputs["input_ids"][0].tolist(), name
        assert relative(trace.logits, logits) <= BAR[draw], name
