"""The quick way to pixels: JPEG bit-equal, every resize within 1 of PIL's, and the contract says which it was."""

import io
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eyespot.contracts.contract import Contract, ImageRule, Tiling
from eyespot.errors import EyespotError
from eyespot.inputs import fast
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.resize import resize_image

FAST = ImageRule(pixels="fast")
SIDES = st.integers(1, 260)


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth, noisy, or black and white by halves, where a resize swings furthest."""
    rng = np.random.default_rng([height, width, seed])
    if seed % 3 == 0:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if seed % 3 == 1:
        return np.repeat(rng.integers(0, 2, (height, width, 1), np.uint8) * 255, 3, axis=2)
    small = Image.fromarray(rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(height=SIDES, width=SIDES, rows=SIDES, columns=SIDES, seed=st.integers(0, 8),
       resample=st.sampled_from(["bilinear", "bicubic", "lanczos", "box"]))  # fmt: skip
def test_any_resize_is_within_one_of_pils(height, width, rows, columns, seed, resample):
    pixels = scene(height, width, seed)
    expected = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling[resample.upper()]))
    made = fast.resize(pixels, rows, columns, resample)
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("sizes", [((480, 640), (476, 644)), ((900, 1600), (336, 336)), ((300, 200), (900, 180))])
def test_published_sizes_are_within_one(sizes):
    for seed in range(3):
        pixels = scene(*sizes[0], seed)
        expected = np.asarray(Image.fromarray(pixels).resize(sizes[1][::-1], Image.Resampling.BICUBIC))
        assert np.abs(fast.resize(pixels, *sizes[1], "bicubic").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("rule", [
    ImageRule(size=(32, 32)), ImageRule(size=(32, 32), resize="pad", pad_color=(9, 8, 7)),
    ImageRule(size=(28, 42), resize="exact", resample="bilinear"),
    ImageRule(resize="dynamic", crop=False, min_pixels=784, max_pixels=9000, merge_size=2),
    ImageRule(size=(28, 28), resize="exact", tiling=Tiling(((28, 56), (56, 28), (56, 56)))),
])  # fmt: skip
def test_patches_of_every_rule_are_within_a_255th(rule):
    media, rule = decode_image(scene(90, 61, 2)), rule.replace(normalize=False)
    exact, quick = (prepare_image(media, rule.replace(pixels=p)) for p in ("exact", "fast"))
    assert np.array_equal(exact.grid_thw, quick.grid_thw)
    assert exact.transform == quick.transform
    assert np.abs(exact.patches - quick.patches).max() <= 1 / 255 + 1e-7


def test_a_picture_of_the_models_size_is_not_touched():
    pixels = scene(28, 28, 0)
    assert np.array_equal(resize_image(pixels, FAST.replace(size=(28, 28)))[0], pixels)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 8), quality=st.integers(5, 100), progressive=st.booleans(),
       subsampling=st.sampled_from([0, 1, 2]))  # fmt: skip
def test_any_jpeg_is_bit_equal(height, width, seed, quality, progressive, subsampling):
    data = jpeg(scene(height, width, seed), quality=quality, progressive=progressive, subsampling=subsampling)
    assert np.array_equal(fast.decode_jpeg(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_set_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(scene(12, 20, 2), exif=exif)
    assert np.array_equal(decode_image(data, rule=FAST).data, decode_image(data).data)


def test_grey_and_four_inks_are_read_as_ever():
    for mode in ("L", "CMYK"):
        file = io.BytesIO()
        Image.fromarray(scene(12, 20, 2)).convert(mode).save(file, "JPEG")
        assert np.array_equal(decode_image(file.getvalue(), rule=FAST).data, decode_image(file.getvalue()).data)


def test_a_jpeg_that_ends_early_is_refused_as_ever():
    data = jpeg(scene(90, 90, 0))
    for kept in (0.3, 0.9):
        with pytest.raises(EyespotError) as caught:
            decode_image(data[: int(len(data) * kept)], rule=FAST)
        assert caught.value.code == "media-truncated"


def test_without_the_library_pil_decodes(monkeypatch):
    data = jpeg(scene(30, 40, 2))
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    fast._library.cache_clear()
    try:
        assert fast.decode_jpeg(data) is None
        assert np.array_equal(decode_image(data, rule=FAST).data, decode_image(data).data)
    finally:
        fast._library.cache_clear()


def test_the_contract_says_which_pixels_and_names_the_field_where_they_differ():
    exact = Contract(image=ImageRule(), video=ImageRule(), several=ImageRule())
    quick = exact.with_pixels("fast")
    assert [r.pixels for r in (quick.image, quick.video, quick.several)] == ["fast"] * 3
    assert quick.id != exact.id
    assert quick.with_pixels("exact").id == exact.id
    with pytest.raises(EyespotError, match="image.pixels: 'exact' here, 'fast' there"):
        exact.check_same(quick)
