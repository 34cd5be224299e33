"""Sizes, crops, pads and the mapping of points; bit-equality with transformers is tests/parity's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eyespot.contracts.contract import ImageRule
from eyespot.errors import EyespotError
from eyespot.inputs import resize
from eyespot.inputs.resize import resize_image, shortest_edge_size, smart_resize
from eyespot.runtime.limits import LIMITS

SQUARE = ImageRule(size=(28, 28))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "edge", "expected"),
    [(480, 640, 224, (224, 298)), (640, 480, 224, (298, 224)), (3, 5, 7, (7, 11)), (100, 100, 33, (33, 33))],
)
def test_the_longer_side_is_truncated(height: int, width: int, edge: int, expected: tuple[int, int]) -> None:
    assert shortest_edge_size(height, width, edge) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((224, 224), (224, 224)), ((480, 640), (476, 644)), ((600, 800), (588, 812)), ((1080, 1920), (728, 1316)),
        ((3000, 2000), (1204, 812)), ((30, 40), (56, 84)), ((14, 1000), (28, 476)), ((42, 42), (56, 56)),
        ((70, 70), (56, 56)), ((1, 1), (56, 56)),
    ],
)  # fmt: skip
def test_the_published_sizes_of_whole_blocks(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert smart_resize(*size, 28, 56 * 56, 28 * 28 * 1280) == expected


def test_a_dynamic_resize_maps_points_by_both_scales() -> None:
    rule = ImageRule(resize="dynamic", patch_size=14, merge_size=2, min_pixels=3136, max_pixels=10**6)
    result, transform = resize_image(noise(60, 100), rule)
    assert result.shape == (56, 112, 3)
    assert transform.to_input(50, 30) == pytest.approx((56, 28))


def test_a_line_is_refused_where_both_sides_are_kept() -> None:
    rule = ImageRule(resize="dynamic", patch_size=14, merge_size=2, min_pixels=3136, max_pixels=10**6)
    with pytest.raises(EyespotError, match="200-fold") as caught:
        resize_image(noise(1, 201), rule)
    assert caught.value.code == "media-size"
    assert resize_image(noise(1, 200), rule)[0].shape[0] == 28


def test_a_dynamic_rule_needs_its_bounds() -> None:
    for bounds in ({}, {"min_pixels": 1}, {"min_pixels": 2, "max_pixels": 1}):
        with pytest.raises(EyespotError, match="min_pixels"):
            ImageRule(resize="dynamic", **bounds)


def test_a_resize_is_pils_resize_of_the_whole() -> None:
    pixels = noise(61, 90)
    whole = np.asarray(Image.fromarray(pixels).resize((41, 28), Image.Resampling.BICUBIC))
    result, _ = resize_image(pixels, SQUARE)
    assert np.array_equal(result, whole[:, 6:34])  # (41 - 28) // 2


def test_a_crop_larger_than_the_picture_is_black_outside_with_the_odd_pixel_before() -> None:
    pixels = np.full((28, 28, 3), 200, np.uint8)
    result, transform = resize_image(pixels, SQUARE.replace(size=(31, 28), shortest_edge=28))
    assert result[:, 0, 0].tolist() == [0, 0] + [200] * 28 + [0]  # the published processors put 2 above, 1 below
    assert transform.to_input(0.0, 0.0) == (0, 2)


def test_pad_lays_the_colour_around_the_picture_with_the_odd_pixel_after() -> None:
    pixels = np.full((3, 6, 3), 200, np.uint8)
    rule = SQUARE.replace(size=(6, 6), resize="pad", pad_color=(1, 2, 3))
    result, _ = resize_image(pixels, rule)
    assert result[:, 0].tolist() == [[1, 2, 3]] + [[200] * 3] * 3 + [[1, 2, 3]] * 2


def test_exact_ignores_the_aspect() -> None:
    result, transform = resize_image(noise(10, 40), ImageRule(size=(20, 20), resize="exact"))
    assert result.shape == (20, 20, 3)
    assert transform.scale == (0.5, 2.0)


def test_none_takes_only_the_right_size() -> None:
    rule = ImageRule(size=(20, 30), resize="none")
    pixels = noise(20, 30)
    assert np.array_equal(resize_image(pixels, rule)[0], pixels)
    with pytest.raises(EyespotError) as caught:
        resize_image(noise(30, 20), rule, name="row 7")
    assert (caught.value.code, caught.value.where) == ("media-size", "row 7")


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    kind=st.sampled_from(["shortest_edge", "exact", "pad"]),
    fx=st.floats(0.3, 0.7),
    fy=st.floats(0.3, 0.7),
)
def test_points_map_to_where_their_pixels_went(height: int, width: int, kind: str, fx: float, fy: float) -> None:
    column, row = int(fx * width), int(fy * height)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[row, column] = 255
    rule = ImageRule(size=(64, 64), resize=kind, resample="bilinear")
    result, transform = resize_image(pixels, rule)
    x, y = transform.to_input(column + 0.5, row + 0.5)
    if not (2 <= x < 62 and 2 <= y < 62):
        return  # cropped away
    weight = result[..., 0].astype(float)
    assert weight.sum() > 0
    ys, xs = np.mgrid[:64, :64] + 0.5
    assert abs((weight * xs).sum() / weight.sum() - x) < 1.1
    assert abs((weight * ys).sum() / weight.sum() - y) < 1.1
    assert transform.to_original(x, y) == pytest.approx((column + 0.5, row + 0.5))


@pytest.mark.parametrize("kind", ["shortest_edge", "exact", "pad"])
@pytest.mark.parametrize(("height", "width"), [(31, 200), (200, 31), (90, 91)])
def test_strips_give_the_whole_within_rounding(kind: str, height: int, width: int, monkeypatch) -> None:
    pixels = noise(height, width)
    rule = SQUARE.replace(resize=kind, pad_color=(9, 99, 199), resample="bilinear")  # bicubic overshoots and clips
    whole, transform = resize_image(pixels, rule)
    monkeypatch.setattr(resize, "WHOLE_PIXELS", 0)
    monkeypatch.setattr(resize, "STRIP_PIXELS", 512)
    strips, same = resize_image(pixels, rule)
    assert np.abs(whole.astype(int) - strips).max() <= 1
    assert same == transform


@pytest.mark.parametrize(("height", "width"), [(8, 20_000), (20_000, 8), (1000, 12_000)])
@pytest.mark.parametrize("kind", ["shortest_edge", "pad"])
def test_very_long_pictures_are_resized_without_a_huge_canvas(kind: str, height: int, width: int) -> None:
    result, _ = resize_image(np.full((height, width, 3), 77, np.uint8), ImageRule(resize=kind, pad_color=(77, 77, 77)))
    assert result.shape == (224, 224, 3)
    assert (result == 77).all()


def test_a_hairline_is_refused_before_any_work() -> None:
    with pytest.raises(EyespotError) as caught:
        resize_image(np.zeros((1, 60_000, 3), np.uint8), ImageRule(), name="line.png")
    assert caught.value.code == "media-too-large"
    assert "max_side" in caught.value.remedy


def test_the_side_limit_can_be_raised() -> None:
    result, _ = resize_image(np.zeros((1, 6000, 3), np.uint8), SQUARE, limits=LIMITS.replace(max_side=168_000))
    assert result.shape == (28, 28, 3)
