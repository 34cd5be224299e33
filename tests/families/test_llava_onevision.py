"""LLaVA-OneVision's files, and which rule prepares what in a conversation."""

import json

import numpy as np
import pytest

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages
from eyespot.inputs.tokenizer import words
from tests.families.makers import SPECIALS, equal, family_named, loaded
from tests.films import film

TEMPLATE = (
    "{% for m in messages %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<' + p.type + '>' }}"
    "{% endfor %}\n{% endfor %}"
)


def checkpoint(folder, layout="hf", video=True, case="siglip-qwen3"):
    """A whole checkpoint whose canvases have up to three by three tiles of 32 pixels, 16 patches each."""
    family = family_named("llava_onevision")
    config = family.tiny()[case]
    config = config.replace(decoder=config.decoder.replace(vocab_size=320))
    pinpoints = [[32 * rows, 32 * columns] for rows in range(1, 4) for columns in range(1, 4)]
    raw = {"model_type": "llava_onevision", "image_token_index": 4, "video_token_index": 5}
    raw |= {"image_grid_pinpoints": pinpoints, "vision_aspect_ratio": "anyres_max_4"}
    if case.startswith("clip"):
        raw["vision_feature_select_strategy"] = "default"
    tokens = words(["What is in the picture?"], [*SPECIALS, *(["<video>"] if video else [])])
    made = loaded(family, config, layout, tokens, **{"chat_template.jinja": TEMPLATE, "config.json": raw})
    families.save(made, folder)
    return made


def rewrite(folder, name, **changes):
    """Change a file and forget the seal."""
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))
    (folder / "eyespot.json").unlink(missing_ok=True)


def encode(model, *parts):
    made = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return model.processor.encode(read_messages([{"role": "user", "content": made}]))


def picture(height, width):
    return {"type": "image", "image": np.zeros((height, width, 3), np.uint8)}


def video(frames):
    return {"type": "video", "video": np.zeros((frames, 20, 30, 3), np.uint8), "fps": 2}


@pytest.mark.parametrize("layout", ["hf", "hf-a2", "hf-b", "hf-c"])
def test_all_four_layouts_are_recognised_by_their_keys_and_kept(tmp_path, layout):
    made = checkpoint(tmp_path / "one", layout)
    model = families.load(tmp_path / "one")
    assert (model.family, model.layout) == ("llava_onevision", layout)
    assert equal(model.module, made.module)


def test_one_picture_is_cut_into_tiles_and_of_several_none(tmp_path):
    checkpoint(tmp_path)
    model = families.load(tmp_path)
    (alone,) = encode(model, picture(30, 60), "What is in the picture?").media
    assert len(alone.grid_thw) == 1 + 2 and len(alone.slots) == 16 + 4 * (8 + 1)
    several = encode(model, picture(30, 60), picture(40, 40), "What is in the picture?").media
    assert [len(m.grid_thw) for m in several] == [1, 1]
    assert [len(m.slots) for m in several] == [17, 17]


def test_a_large_map_is_scaled_down_to_the_bound(tmp_path):
    checkpoint(tmp_path)
    (medium,) = encode(families.load(tmp_path), picture(96, 96), "What is in the picture?").media
    assert len(medium.grid_thw) == 1 + 9
    assert medium.plan.scaled == (8, 8) and len(medium.slots) == 16 + 8 * 9


def test_a_video_beside_one_picture_leaves_its_tiles(tmp_path):
    checkpoint(tmp_path)
    still, moving = encode(families.load(tmp_path), picture(30, 60), video(3), "What is in the picture?").media
    assert len(still.grid_thw) == 1 + 2
    assert moving.grid_thw.tolist() == [[1, 4, 4]] * 3 and len(moving.slots) == 3 * 4 + 1


def test_of_a_film_so_many_frames_are_taken_from_end_to_end(tmp_path):
    checkpoint(tmp_path)
    model = families.load(tmp_path)
    assert (model.contract.frames.max_frames, model.contract.frames.spacing) == (32, "ends_down")
    part = {"type": "video", "video": film(tmp_path / "a.mp4", 40)}
    (medium,) = encode(model, part, "What is in the picture?").media
    assert len(medium.grid_thw) == 32 and len(medium.slots) == 32 * 4 + 1
    (few,) = encode(model, part | {"num_frames": 5}, "What is in the picture?").media
    assert len(few.grid_thw) == 5
    rewrite(tmp_path, "video_preprocessor_config.json", do_sample_frames=True, num_frames=6)
    frames = families.load(tmp_path).contract.frames
    assert (frames.max_frames, frames.spacing) == (6, "steps")


def test_a_tokenizer_without_the_videos_token_makes_a_model_for_pictures(tmp_path):
    checkpoint(tmp_path, video=False)
    model = families.load(tmp_path)
    assert model.contract.video is None and model.contract.several is not None
    with pytest.raises(EyespotError, match="not video"):
        encode(model, video(2), "What is in the picture?")


def test_a_videos_token_with_another_id_is_refused(tmp_path):
    checkpoint(tmp_path)
    rewrite(tmp_path, "config.json", video_token_index=7)
    with pytest.raises(EyespotError, match="video_token_index 7") as caught:
        families.load(tmp_path)
    assert caught.value.code == "tokenizer-token"


@pytest.mark.parametrize(("file", "changes", "words"), [
    ("config.json", {"vision_aspect_ratio": "anyres"}, "anyres_max_N"),
    ("config.json", {"vision_aspect_ratio": "anyres_max_9"}, "anyres_max_9"),
    ("config.json", {"image_grid_pinpoints": [[32, 32]]}, "image_grid_pinpoints"),
    ("preprocessor_config.json", {"size": {"height": 16, "width": 16}, "crop_size": None}, "tower's image_size"),
    ("video_preprocessor_config.json", {"size": {"height": 16, "width": 16}}, "video processor"),
])  # fmt: skip
def test_files_that_contradict_one_another_are_refused(tmp_path, file, changes, words):
    checkpoint(tmp_path)
    rewrite(tmp_path, file, **changes)
    with pytest.raises(EyespotError, match=words) as caught:
        families.load(tmp_path)
    assert caught.value.code == "family-config"


def test_a_change_of_the_bound_is_written_to_both_files(tmp_path):
    checkpoint(tmp_path / "one")
    model = families.load(tmp_path / "one")
    image = model.contract.image
    tiling = image.tiling.replace(shrink_to=2)
    model.contract = model.contract.replace(image=image.replace(tiling=tiling))
    families.save(model, tmp_path / "two")
    for name in ("config.json", "processor_config.json"):
        assert json.loads((tmp_path / "two" / name).read_text())["vision_aspect_ratio"] == "anyres_max_2"
    assert families.load(tmp_path / "two").contract == model.contract


@pytest.mark.parametrize("field", ["several", "video"])
def test_what_the_published_files_cannot_say_is_refused(tmp_path, field):
    checkpoint(tmp_path / "one")
    model = families.load(tmp_path / "one")
    rule = getattr(model.contract, field)
    model.contract = model.contract.replace(**{field: rule.replace(newline="none")})
    with pytest.raises(EyespotError, match=field) as caught:
        families.save(model, tmp_path / "two")
    assert caught.value.code == "layout-unsupported"
    families.save(model, tmp_path / "own", layout="eyespot")
    assert families.load(tmp_path / "own").contract == model.contract


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_its_kin_is_told_apart_by_the_bound_on_the_way_back(tmp_path, name):
    config = family_named("llava_onevision").tiny()["siglip-qwen3"]
    made = loaded(family_named(name), config, **{"config.json": {"image_grid_pinpoints": [[32, 64], [64, 32]]}})
    families.save(made, tmp_path / "own", layout="eyespot")
    families.save(families.load(tmp_path / "own"), tmp_path / "hf", layout="hf")
    again = families.load(tmp_path / "hf")
    assert (again.family, again.contract) == (name, made.contract)


def test_a_towers_class_token_has_no_place_on_a_map(tmp_path):
    checkpoint(tmp_path, case="clip-qwen2")
    rewrite(tmp_path, "config.json", vision_feature_select_strategy="full")
    with pytest.raises(EyespotError, match="vision_feature_select_strategy"):
        families.load(tmp_path)
