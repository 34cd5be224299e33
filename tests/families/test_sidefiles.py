"""Processor files, templates and end tokens."""

import pytest

from eyespot.contracts.contract import ImageRule, Tiling
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.sidefiles import CLIP_MEAN, CLIP_STD, image_files, image_rule, stop_tokens, template

CLIP, SIGLIP = "CLIPImageProcessor", "SiglipImageProcessor"
TILED, PATCHED = "LlavaNextImageProcessor", "Siglip2ImageProcessor"


def rule(kind: str = CLIP, **settings) -> ImageRule:
    files = {"preprocessor_config.json": settings} if settings else {}
    return image_rule(files, kind, patch_size=14, image_size=(336, 336))


def test_without_a_file_the_encoders_size_and_the_published_class_decide():
    assert rule() == ImageRule((336, 336), "shortest_edge", mean=CLIP_MEAN, std=CLIP_STD)
    assert rule(SIGLIP) == ImageRule((336, 336), "exact", crop=False)


def test_a_clip_processor_of_any_age_is_read():
    new = rule(image_processor_type=CLIP, size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    old = rule(feature_extractor_type="CLIPFeatureExtractor", size=28, crop_size=28, resample=3)
    fast = rule(image_processor_type="CLIPImageProcessorFast", size={"shortest_edge": 28}, crop_size=28)
    assert new == old == fast == ImageRule((28, 28), "shortest_edge", mean=CLIP_MEAN, std=CLIP_STD)


def test_a_shortest_edge_other_than_the_crop_is_kept():
    made = rule(size={"shortest_edge": 36}, crop_size=28)
    assert (made.size, made.shortest_edge) == ((28, 28), 36)


def test_padding_to_a_square_uses_the_mean_colour():
    made = rule(image_processor_type="LlavaImageProcessor", do_pad=True, size={"shortest_edge": 28}, crop_size=28)
    assert (made.resize, made.pad_color) == ("pad", (122, 116, 104))


def test_siglip_squeezes_to_both_sides():
    made = rule(SIGLIP, size={"height": 28, "width": 42}, resample=2)
    assert (made.resize, made.size, made.resample, made.crop) == ("exact", (28, 42), "bilinear", False)


def test_tiles_have_their_final_size_from_the_start():
    made = rule(TILED, size={"shortest_edge": 28}, crop_size=28, image_grid_pinpoints=[[28, 56], [56, 28]], do_pad=True)
    tiling = Tiling(((28, 56), (56, 28)))
    assert made == ImageRule((28, 28), "exact", crop=False, mean=CLIP_MEAN, std=CLIP_STD, tiling=tiling)
    assert rule(TILED).tiling.canvases[0] == (336, 672)


def test_the_nested_file_of_v5_comes_before_the_flat_one():
    files = {"processor_config.json": {"image_processor": {"size": {"shortest_edge": 28}, "crop_size": 28}},
             "preprocessor_config.json": {"size": {"shortest_edge": 56}, "crop_size": 56}}  # fmt: skip
    assert image_rule(files, CLIP, patch_size=14, image_size=(336, 336)).size == (28, 28)


@pytest.mark.parametrize(("settings", "key"), [
    ({"image_processor_type": "MagicImageProcessor"}, "image_processor_type"),
    ({"do_center_crop": False, "size": {"shortest_edge": 28}}, "do_center_crop"),
    ({"size": {"longest_edge": 28}, "do_center_crop": False}, "size"),
    ({"size": {"height": 28, "width": 28}, "crop_size": 14}, "crop_size"),
    ({"image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": 28, "crop_size": 14}, "do_pad"),
])  # fmt: skip
def test_what_cannot_be_followed_is_refused_by_name(settings, key):
    with pytest.raises(EyespotError, match=key) as caught:
        rule(**settings)
    assert caught.value.code == "family-config"


@pytest.mark.parametrize(("settings", "key"), [
    ({"image_processor_type": CLIP}, "image_processor_type"),
    ({"size": {"shortest_edge": 28}, "crop_size": 14}, "crop_size"),
    ({"size": 28, "crop_size": {"height": 28, "width": 14}}, "crop_size"),
    ({"size": 28, "crop_size": 28, "image_grid_pinpoints": [[28, 57]]}, "image_grid_pinpoints"),
    ({"size": 28, "crop_size": 28, "image_grid_pinpoints": [[28]]}, "image_grid_pinpoints"),
    ({"size": 28, "crop_size": 28, "image_grid_pinpoints": []}, "image_grid_pinpoints"),
    ({"size": 28, "crop_size": 28, "image_grid_pinpoints": "(1x1),...,(6x6)"}, "image_grid_pinpoints"),
])  # fmt: skip
def test_tiles_that_cannot_be_cut_are_refused_by_name(settings, key):
    with pytest.raises(EyespotError, match=key) as caught:
        rule(TILED, **settings)
    assert caught.value.code == "family-config"


def test_a_model_without_tiles_refuses_a_processor_that_cuts_them():
    with pytest.raises(EyespotError, match="image_processor_type"):
        rule(CLIP, image_processor_type=TILED)


def test_a_file_that_must_cut_tiles_cannot_be_written_without_them():
    for made, kind in ((rule(), TILED), (rule(TILED), CLIP)):
        with pytest.raises(EyespotError, match="tiles") as caught:
            image_files(made, kind)
        assert caught.value.code == "layout-unsupported"


def test_a_picture_in_its_own_aspect_has_a_number_of_patches():
    made = rule(PATCHED, patch_size=14, max_num_patches=100)
    assert made == ImageRule((336, 336), "patches", crop=False, resample="bilinear", max_patches=100)
    assert image_rule(image_files(made, PATCHED), PATCHED, patch_size=14, image_size=(336, 336)) == made
    assert image_rule({}, PATCHED, patch_size=16, image_size=(256, 256)).max_patches == 256
    with pytest.raises(EyespotError, match="resize") as caught:
        image_files(made, SIGLIP)
    assert caught.value.code == "layout-unsupported"


@pytest.mark.parametrize(("settings", "key"), [
    ({"patch_size": 16}, "patch_size"), ({"do_resize": False}, "do_resize"),
    ({"max_num_patches": 0}, "max_num_patches"), ({"max_num_patches": "all"}, "max_num_patches"),
    ({"image_processor_type": SIGLIP}, "image_processor_type"),
])  # fmt: skip
def test_patches_that_cannot_be_made_are_refused_by_name(settings, key):
    with pytest.raises(EyespotError, match=key) as caught:
        rule(PATCHED, **{"patch_size": 14, **settings})
    assert caught.value.code == "family-config"


@pytest.mark.parametrize("made", [
    rule(), rule(SIGLIP), rule(size=30, crop_size=28),
    rule(do_rescale=False, do_normalize=False, size=28, crop_size=28),
    rule(image_processor_type="LlavaImageProcessor", do_pad=True, size=28, crop_size=28),
    rule(SIGLIP, size={"height": 28, "width": 42}, image_mean=[0.1, 0.2, 0.3]),
    rule(do_resize=False, size=28, crop_size=28),
    rule(TILED, size=28, crop_size=28, image_grid_pinpoints=[[28, 56], [56, 28]], image_mean=[0.1, 0.2, 0.3]),
])  # fmt: skip
def test_a_rule_is_written_and_read_back(made):
    kind = TILED if made.tiling else SIGLIP if made.resize == "exact" else CLIP
    files = image_files(made, kind)
    assert image_rule(files, kind, patch_size=made.patch_size, image_size=(9, 9)) == made


ORDER = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")
FILES = {
    "processor_config.json": {"chat_template": "P"},
    "chat_template.json": {"chat_template": "J"},
    "chat_template.jinja": "X",
    "tokenizer_config.json": {"chat_template": "T"},
}


@pytest.mark.parametrize("count", range(5))
def test_templates_are_looked_for_in_order(count):
    files = {name: FILES[name] for name in ORDER[count:]}
    assert template(files, ORDER) == ["P", "J", "X", "T", None][count]


def test_of_several_named_templates_the_default_one_is_taken():
    named = [{"name": "tools", "template": "A"}, {"name": "default", "template": "B"}]
    assert template({"tokenizer_config.json": {"chat_template": named}}, ORDER) == "B"


@pytest.mark.parametrize(("files", "expected"), [
    ({"generation_config.json": {"eos_token_id": [7, 8]}, "config.json": {"eos_token_id": 2}}, (7, 8)),
    ({"generation_config.json": {}, "config.json": {"text_config": {"eos_token_id": 5}, "eos_token_id": 2}}, (5,)),
    ({"config.json": {"eos_token_id": 2}}, (2,)),
    ({}, ()),
])  # fmt: skip
def test_end_tokens_come_from_the_generation_config_first(files, expected):
    assert stop_tokens(files) == expected


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{nope")
    with pytest.raises(EyespotError, match="preprocessor_config.json"):
        sidefiles.read(tmp_path)
