"""InternVL's files: what they say of tiles, frames and tokens, and what is refused."""

import json

import numpy as np
import pytest

from eyespot import families
from eyespot.contracts.contract import AspectTiling
from eyespot.errors import EyespotError
from eyespot.inputs.film import Film
from eyespot.inputs.frames import choose_frames
from eyespot.inputs.messages import read_messages
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from tests.families.makers import TEMPLATE, family_named, random_module
from tests.films import film

TOKENS = ["<unk>", "<s>", "</s>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]


@pytest.fixture
def model(tmp_path):
    """A whole checkpoint on disk, read back."""
    family, tokens = family_named("internvl"), words(["Frame1: What is in the picture?"], TOKENS)
    config = family.tiny()["small-qwen2"]
    config = config.replace(decoder=config.decoder.replace(vocab_size=320))
    template = TEMPLATE.replace("'<image>'", "('<IMG_CONTEXT>' if p.type == 'image' else '<video>') + '\n'")
    files = {"chat_template.jinja": template, "config.json": {"image_token_id": tokens.id_of("<IMG_CONTEXT>")}}
    contract = family.contract_from_hf(files, config, tokens)
    made = families.Loaded(random_module(config), Processor(contract, tokens), contract, "internvl", "hf")
    families.save(made, tmp_path / "model")
    return families.load(tmp_path / "model")


def rewrite(folder, name, **changes):
    """Change a file and forget the seal."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    (folder / "eyespot.json").unlink(missing_ok=True)


def read(folder, name):
    return json.loads((folder / name).read_text())


def encoded(model, *parts):
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return model.processor.encode(read_messages([{"role": "user", "content": content}]))


def image(height, width):
    return {"type": "image", "image": np.zeros((height, width, 3), np.uint8)}


def test_pictures_and_frames_are_written_as_published(model):
    frames = [np.zeros((30, 50, 3), np.uint8)] * 2
    sample = encoded(model, image(20, 60), {"type": "video", "video": frames, "fps": 1.0}, "What?")
    text = model.tokenizer.decode(sample.input_ids, skip_special=False)
    tile = "<IMG_CONTEXT>" * 4
    assert f"<img>{tile * 4}</img>" in text  # three tiles and the whole
    assert f"Frame1: <img>{tile}</img>\nFrame2: <img>{tile}</img>" in text
    assert "<video>" not in text
    assert [len(m.slots) for m in sample.media] == [16, 8]


def test_of_a_film_a_frame_of_each_of_eight_stretches_is_read(model, tmp_path):
    clip = film(tmp_path / "a.mp4", 40)
    sample = encoded(model, {"type": "video", "video": clip}, "What?")
    (medium,) = sample.media
    assert len(medium.grid_thw) == 8 and "Frame8: " in model.tokenizer.decode(sample.input_ids, skip_special=False)
    rule = model.contract.frames
    assert (rule.max_frames, rule.spacing) == (8, "segments")
    wanted = choose_frames(40, 10.0, rule)
    with clip.open("rb") as file, Film(file) as opened:
        frames = [p.pixels for p in opened.frames(wanted.tolist())]
    (listed,) = encoded(model, {"type": "video", "video": frames, "fps": 2.0}, "What?").media
    assert np.array_equal(medium.patches, listed.patches)
    (four,) = encoded(model, {"type": "video", "video": clip, "num_frames": 4}, "What?").media
    assert len(four.grid_thw) == 4


@pytest.mark.parametrize(("said", "expected"), [
    ({"num_frames": 16}, (None, 16, "segments")),
    ({"do_sample_frames": True, "num_frames": 4}, (None, 4, "middles")),
    ({"do_sample_frames": True, "fps": 1, "num_frames": None}, (1.0, 768, "middles")),
])  # fmt: skip
def test_frames_that_the_processors_file_names_are_kept(model, tmp_path, said, expected):
    rewrite(tmp_path / "model", "video_preprocessor_config.json", **said)
    again = families.load(tmp_path / "model")
    frames = again.contract.frames
    assert (frames.fps, frames.max_frames, frames.spacing) == expected
    families.save(again, tmp_path / "out")
    (tmp_path / "out" / "eyespot.json").unlink()
    assert families.load(tmp_path / "out").contract.frames == frames


@pytest.mark.parametrize("said", [{"num_frames": 0}, {"num_frames": None, "fps": -1}, {"initial_shift": 0.5}])
def test_frames_that_cannot_be_chosen_are_refused_by_their_key(model, tmp_path, said):
    rewrite(tmp_path / "model", "video_preprocessor_config.json", **said)
    with pytest.raises(EyespotError, match=next(key for key in said if said[key] is not None)):
        families.load(tmp_path / "model")


def test_tiles_of_the_contract_are_written_and_read_back(model, tmp_path):
    for tiling in (AspectTiling(1, 4), AspectTiling(2, 9), None):
        model.contract = model.contract.replace(image=model.contract.image.replace(aspect_tiling=tiling))
        families.save(model, tmp_path / "out")
        raw = read(tmp_path / "out", "preprocessor_config.json")
        assert (raw["min_patches"], raw["max_patches"]) == ((tiling.least, tiling.most) if tiling else (1, 1))
        assert families.load(tmp_path / "out").contract == model.contract


def test_tiles_without_the_whole_picture_cannot_be_written(model, tmp_path):
    tiling = AspectTiling(1, 6, thumbnail=False)
    model.contract = model.contract.replace(image=model.contract.image.replace(aspect_tiling=tiling))
    with pytest.raises(EyespotError, match="whole picture") as caught:
        families.save(model, tmp_path / "out")
    assert caught.value.code == "layout-unsupported"


@pytest.mark.parametrize(("name", "changes", "match"), [
    ("processor_config.json", {"image_seq_length": 256}, "image_seq_length"),
    ("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor"}, "image_processor_type"),
    ("preprocessor_config.json", {"size": {"height": 50, "width": 50}}, "multiples of 28"),
    ("preprocessor_config.json", {"size": {"height": 56, "width": 84}}, "square"),
    ("preprocessor_config.json", {"size": None}, "square"),
    ("preprocessor_config.json", {"max_patches": "many"}, "max_patches"),
    ("preprocessor_config.json", {"do_resize": False}, "do_resize"),
    ("config.json", {"downsample_ratio": 0.3}, "downsample_ratio"),
    ("config.json", {"downsample_ratio": 0.0}, "downsample_ratio"),
    ("config.json", {"downsample_ratio": True}, "downsample_ratio"),
    ("config.json", {"projector_hidden_act": "relu"}, "projector_hidden_act"),
    ("config.json", {"vision_feature_layer": 9}, "vision_feature_layer"),
    ("config.json", {"vision_feature_layer": [-1, -2]}, "vision_feature_layer"),
    ("config.json", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy"),
    ("tokenizer_config.json", {"context_image_token": 7}, "context_image_token"),
])  # fmt: skip
def test_what_cannot_be_followed_is_named(model, tmp_path, name, changes, match):
    rewrite(tmp_path / "model", name, **changes)
    with pytest.raises(EyespotError, match=match) as caught:
        families.load(tmp_path / "model")
    assert caught.value.code == "family-config"


@pytest.mark.parametrize(("key", "value"), [
    ("norm_type", "batch_norm"), ("use_mean_pooling", False), ("use_mask_token", True),
    ("use_absolute_position_embeddings", False),
])  # fmt: skip
def test_what_the_tower_cannot_follow_is_named(model, tmp_path, key, value):
    tower = read(tmp_path / "model", "config.json")["vision_config"]
    rewrite(tmp_path / "model", "config.json", vision_config={**tower, key: value})
    with pytest.raises(EyespotError, match=key):
        families.load(tmp_path / "model")


def test_a_context_token_with_another_id_is_refused(model, tmp_path):
    rewrite(tmp_path / "model", "config.json", image_token_id=0)
    with pytest.raises(EyespotError) as caught:
        families.load(tmp_path / "model")
    assert caught.value.code == "tokenizer-token"


def test_llavas_layouts_have_no_place_for_it(model, tmp_path):
    with pytest.raises(EyespotError) as caught:
        families.save(model, tmp_path / "out", layout="hf-a2")
    assert caught.value.code == "layout-unsupported"
