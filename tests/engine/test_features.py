"""Patch features: the place of a feature is the place of its patch, in every family that sees."""

import numpy as np
import pytest
import torch

from eyespot import families
from eyespot.engine.features import patch_features
from eyespot.engine.model import Model
from eyespot.errors import EyespotError
from eyespot.models.encoders.vit import VisionEncoder, VitConfig
from tests.families.makers import family_named, loaded, random_module

SEEING = ["clip", "siglip2", "vit", "dinov2", "qwen2_vl", "qwen2_5_vl", "llava_next"]


def model(name: str, case: str | None = None) -> Model:
    family = family_named(name)
    config = family.tiny()[case or next(iter(family.tiny()))]
    files = {"config.json": {"model_type": name, "text_config": {}, "image_token_index": 4}}
    made = loaded(family, config, **files)
    return Model(made)


@pytest.mark.parametrize("name", SEEING)
def test_a_feature_stands_where_its_patch_does(name):
    seen = model(name)
    rule = seen.contract.image
    # A picture that no rule resizes: its patches are known.
    fixed = rule.resize not in ("dynamic", "patches")
    height, width = rule.size if fixed else (4 * rule.patch_size, 6 * rule.patch_size)
    if not fixed:
        bounds = {"max_patches": 24} if rule.resize == "patches" else {"min_pixels": 1, "max_pixels": height * width}
        seen.contract = seen.contract.replace(image=rule.replace(**bounds))
    blank = np.full((height, width, 3), 100, np.uint8)
    rows, columns = height // rule.patch_size, width // rule.patch_size
    plain = seen.features(blank, layers=(0,))
    for row, column in ((0, 1), (rows - 1, 0), (1, columns - 1)):
        marked = blank.copy()
        p = rule.patch_size
        marked[row * p : (row + 1) * p, column * p : (column + 1) * p] = 200
        changed = [(a - b).abs().amax((0, -1)) > 0 for a, b in zip(
            seen.features(marked, layers=(0,)).maps(), plain.maps(), strict=True)]  # fmt: skip
        assert changed[0].shape == (rows, columns)
        assert changed[0].nonzero().tolist() == [[row, column]]


def test_pictures_of_several_sizes_keep_their_grids():
    seen = model("qwen2_vl")
    p = seen.contract.image.patch_size
    image = seen.contract.image.replace(min_pixels=1, max_pixels=24 * p * p)
    seen.contract = seen.contract.replace(image=image)
    small, wide = (np.full((h * p, w * p, 3), 90, np.uint8) for h, w in ((4, 4), (4, 6)))
    found = seen.features([small, wide], layers=(0, -1))
    assert found.grids == ((4, 4), (4, 6))
    assert found.tiles == (1, 1)
    assert [tuple(m.shape) for m in found.maps()] == [(2, 4, 4, 16), (2, 4, 6, 16)]
    alone = seen.features(wide, layers=(0, -1)).maps()[0]
    assert torch.allclose(found.maps()[1], alone, atol=1e-6)


def test_each_tile_has_its_map():
    seen = model("llava_next")
    found = seen.features(np.zeros((60, 30, 3), np.uint8))
    assert found.tiles == (len(found.grids),)
    assert len(found.maps()) > 1


def test_a_tower_alone_gives_its_pooled_vector_as_it_is():
    seen = model("dinov2", "registers")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    vector = seen.encode_images([picture])
    assert vector.shape == (1, 16)
    assert abs(float(vector.norm()) - 1) > 1e-2
    with pytest.raises(EyespotError, match="two towers"):
        seen.encode_texts(["a"])


def test_the_final_norm_follows_where_it_is_asked_for():
    seen = model("vit")
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    plain, normed = seen.features(picture), seen.features(picture, norm=True)
    with torch.inference_mode():
        assert torch.equal(normed.values, seen.module.post_norm(plain.values))
    with pytest.raises(EyespotError, match="no final norm"):
        model("qwen2_vl").features(np.zeros((32, 32, 3), np.uint8), norm=True)


@pytest.mark.parametrize(("layers", "message"), [((), "at least one layer"), ((9,), "layer 9")])
def test_layers_that_there_are_not_are_refused(layers, message):
    with pytest.raises(EyespotError, match=message) as caught:
        model("vit").features(np.zeros((28, 28, 3), np.uint8), layers=layers)
    assert caught.value.code == "argument"


def test_a_text_model_has_no_features():
    with pytest.raises(EyespotError, match="no vision encoder"):
        model("llama").features(np.zeros((28, 28, 3), np.uint8))


def test_registers_need_no_class_token():
    config = VitConfig(
        hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, image_size=(28, 28), patch_size=14, registers=3
    )  # fmt: skip
    module = random_module(config)
    assert isinstance(module, VisionEncoder)
    seen = Model(loaded(family_named("vit"), family_named("vit").tiny()["plain"]))
    media = seen._pictures([np.zeros((28, 28, 3), np.uint8)])
    found = patch_features(module, media, (0,), norm=False)
    alone = config.replace(registers=0)
    bare = families.build(alone)
    bare.load_state_dict({k: v for k, v in module.state_dict().items() if k != "registers"})
    assert torch.equal(found.values, patch_features(bare, media, (0,), norm=False).values)
