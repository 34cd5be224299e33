"""Our pixels are the published processors' pixels, bit for bit, over odd sizes and every rule."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.contract import ImageRule
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image, unpatchify
from eyespot.inputs.resize import FILTERS

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
GOLDEN = Path(__file__).parent.parent / "goldens" / "image_processors.json"
# (height, width): squares, one-pixel sides, off by one from the target, both orientations, up and down.
SIZES = [
    (1, 1), (1, 40), (40, 1), (2, 3), (27, 28), (28, 27), (28, 28), (29, 29), (30, 57), (57, 30), (31, 31), (55, 56),
    (56, 57), (57, 58), (61, 200), (200, 61), (63, 64), (100, 33), (128, 97), (13, 500), (500, 13), (240, 321),
]  # fmt: skip


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([height, width, seed]).integers(0, 256, (height, width, 3), np.uint8)


def ours(pixels: np.ndarray, rule: ImageRule) -> np.ndarray:
    encoded = prepare_image(decode_image(pixels), rule)
    return unpatchify(encoded.patches, tuple(encoded.grid_thw[0].tolist()), rule.patch_size)


def theirs(processor, pixels: np.ndarray, patch: int) -> np.ndarray:
    from PIL import Image

    values = np.asarray(processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0])
    height, width = (n // patch * patch for n in values.shape[1:])
    return values[:, :height, :width]


def clip(size: int, crop: tuple[int, int], resample: int = 3, **extra):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": crop[0], "width": crop[1]}, resample=resample, **extra
    )


def siglip(size: tuple[int, int], resample: int = 3, **extra):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil(size={"height": size[0], "width": size[1]}, resample=resample, **extra)


def llava(size: int, do_pad: bool):
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    return LlavaImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_pad=do_pad
    )


def clip_rule(size: tuple[int, int], **changes) -> ImageRule:
    return ImageRule(size=size, mean=CLIP_MEAN, std=CLIP_STD, patch_size=1).replace(**changes)


PAD = tuple(int(255 * m) for m in CLIP_MEAN)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_clip_pixels_are_bit_equal(height: int, width: int) -> None:
    pixels = picture(height, width)
    assert np.array_equal(ours(pixels, clip_rule((28, 28))), theirs(clip(28, (28, 28)), pixels, 1))


@pytest.mark.parametrize("resample", sorted(FILTERS))
def test_every_filter_is_bit_equal(resample: str) -> None:
    for height, width in [(61, 200), (200, 61), (17, 19), (28, 28), (90, 91)]:
        pixels = picture(height, width)
        processor = clip(28, (28, 28), int(FILTERS[resample]))
        assert np.array_equal(ours(pixels, clip_rule((28, 28), resample=resample)), theirs(processor, pixels, 1))


@pytest.mark.parametrize("crop", [(20, 20), (28, 20), (41, 41), (33, 40), (20, 45), (29, 27)])
def test_a_crop_smaller_or_larger_than_the_resized_picture_is_bit_equal(crop: tuple[int, int]) -> None:
    for height, width in [(28, 28), (29, 57), (57, 29), (31, 100), (101, 30)]:
        pixels = picture(height, width)
        rule = clip_rule(crop, shortest_edge=28)
        assert np.array_equal(ours(pixels, rule), theirs(clip(28, crop), pixels, 1))


def test_no_crop_gives_the_whole_resized_picture() -> None:
    pixels = picture(61, 200)
    rule = clip_rule((28, 28), crop=False)
    assert np.array_equal(ours(pixels, rule), theirs(clip(28, (28, 28), do_center_crop=False), pixels, 1))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("size", [(28, 28), (27, 31)])
def test_siglip_pixels_are_bit_equal(height: int, width: int, size: tuple[int, int]) -> None:
    pixels = picture(height, width)
    rule = ImageRule(size=size, resize="exact", patch_size=1)
    assert np.array_equal(ours(pixels, rule), theirs(siglip(size), pixels, 1))


def test_siglip_drops_the_remainder_beyond_the_last_patch() -> None:
    pixels = picture(50, 61)
    rule = ImageRule(size=(40, 40), resize="exact", patch_size=14)
    values = ours(pixels, rule)
    assert values.shape == (3, 28, 28)
    assert np.array_equal(values, theirs(siglip((40, 40)), pixels, 14))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("do_pad", [False, True])
def test_llava_pixels_are_bit_equal(height: int, width: int, do_pad: bool) -> None:
    pixels = picture(height, width)
    rule = clip_rule((28, 28), resize="pad" if do_pad else "shortest_edge", pad_color=PAD)
    assert np.array_equal(ours(pixels, rule), theirs(llava(28, do_pad), pixels, 1))


@pytest.mark.parametrize(("scale", "normalize"), [(1 / 255, False), (1 / 127.5, True), (1.0, True), (1.0, False)])
def test_scale_and_normalise_follow_the_published_order(scale: float, normalize: bool) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)[:, :, None].repeat(3, axis=2)
    rule = clip_rule((16, 16), resize="exact", scale=scale, normalize=normalize)
    processor = siglip(
        (16, 16), rescale_factor=scale, do_normalize=normalize, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD)
    )
    assert np.array_equal(ours(pixels, rule), theirs(processor, pixels, 1))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 130), width=st.integers(1, 130), size=st.integers(1, 64), crop=st.integers(1, 80),
    kind=st.sampled_from(["clip", "siglip", "pad"]),
)  # fmt: skip
def test_any_size_is_bit_equal(height: int, width: int, size: int, crop: int, kind: str) -> None:
    pixels = picture(height, width)
    if kind == "clip":
        rule, processor = clip_rule((crop, crop), shortest_edge=size), clip(size, (crop, crop))
    elif kind == "siglip":
        rule, processor = ImageRule(size=(size, crop), resize="exact", patch_size=1), siglip((size, crop))
    else:
        rule, processor = clip_rule((size, size), resize="pad", pad_color=PAD), llava(size, True)
    assert np.array_equal(ours(pixels, rule), theirs(processor, pixels, 1))


def test_published_input_sizes_are_bit_equal_on_a_photograph_sized_picture() -> None:
    pixels = picture(480, 643)
    assert np.array_equal(ours(pixels, clip_rule((336, 336), patch_size=14)), theirs(clip(336, (336, 336)), pixels, 14))
    rule = clip_rule((336, 336), resize="pad", pad_color=PAD, patch_size=14)
    assert np.array_equal(ours(pixels, rule), theirs(llava(336, True), pixels, 14))
    rule = ImageRule(size=(384, 384), resize="exact", patch_size=14)
    assert np.array_equal(ours(pixels, rule), theirs(siglip((384, 384)), pixels, 14))


@pytest.mark.parametrize(("height", "width"), [(3000, 2), (2, 3000), (1500, 3001)])
def test_long_pictures_below_the_strip_threshold_are_bit_equal(height: int, width: int) -> None:
    pixels = picture(height, width)
    assert np.array_equal(ours(pixels, clip_rule((28, 28))), theirs(clip(28, (28, 28)), pixels, 1))
    rule = clip_rule((28, 28), resize="pad", pad_color=PAD)
    assert np.array_equal(ours(pixels, rule), theirs(llava(28, True), pixels, 1))


def test_transparency_is_laid_on_white_as_the_published_conversion_does() -> None:
    from PIL import Image

    rgba = np.random.default_rng(5).integers(0, 256, (33, 44, 4), np.uint8)
    image = Image.fromarray(rgba)
    expected = clip(28, (28, 28))(image, return_tensors="np")["pixel_values"][0]
    rule = clip_rule((28, 28))
    for source in (image, rgba):
        encoded = prepare_image(decode_image(source), rule)
        assert np.array_equal(unpatchify(encoded.patches, (28, 28), 1), expected)


def test_the_committed_golden_is_what_the_published_processors_give() -> None:
    import PIL

    golden = {"pillow": PIL.__version__}
    for case in golden_cases():
        values = theirs(case.pop("processor"), golden_picture(*case["picture"]), case["patch_size"])
        golden[case["name"]] = {
            "shape": list(values.shape),
            "sum": float(values.astype(np.float64).sum()),
            "every_97th": values.reshape(-1)[::97].tolist(),
        }
    if os.environ.get("EYESPOT_WRITE_GOLDENS"):
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    stored = json.loads(GOLDEN.read_text())
    if stored["pillow"] != PIL.__version__:
        pytest.skip("the golden is of another Pillow, whose resize may round otherwise")
    assert stored == golden


def golden_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 7 + y * 3) % 256, (x * y) % 251, (x * x + 5 * y) % 253], axis=-1).astype(np.uint8)


def golden_cases() -> list[dict]:
    return [
        {"name": "clip", "picture": (61, 90), "patch_size": 7, "processor": clip(28, (28, 28))},
        {"name": "clip_padded_crop", "picture": (90, 61), "patch_size": 7, "processor": clip(28, (49, 35))},
        {"name": "siglip", "picture": (50, 77), "patch_size": 14, "processor": siglip((40, 40))},
        {"name": "siglip_bilinear", "picture": (77, 50), "patch_size": 8, "processor": siglip((32, 32), 2)},
        {"name": "llava_pad_tall", "picture": (91, 40), "patch_size": 7, "processor": llava(28, True)},
        {"name": "llava_pad_wide", "picture": (40, 91), "patch_size": 7, "processor": llava(28, True)},
    ]
