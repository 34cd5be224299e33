"""Decoded pixels → raw patches: layout, arithmetic, and the committed values of the published processors."""

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.contract import ImageRule
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image, image_media
from eyespot.inputs.patches import prepare_image, unpatchify

GOLDEN = json.loads((Path(__file__).parent.parent / "goldens" / "image_processors.json").read_text())
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = ImageRule(size=(28, 28), mean=CLIP_MEAN, std=CLIP_STD, patch_size=7)
PAD = CLIP.replace(resize="pad", pad_color=(122, 116, 104))
SIGLIP = ImageRule(size=(40, 40), resize="exact", patch_size=14)
CASES = {
    "clip": ((61, 90), CLIP),
    "clip_padded_crop": ((90, 61), CLIP.replace(size=(49, 35), shortest_edge=28)),
    "siglip": ((50, 77), SIGLIP),
    "siglip_bilinear": ((77, 50), SIGLIP.replace(size=(32, 32), patch_size=8, resample="bilinear")),
    "llava_pad_tall": ((91, 40), PAD),
    "llava_pad_wide": ((40, 91), PAD),
}
PLAIN = ImageRule(size=(6, 9), resize="none", patch_size=3, normalize=False, scale=1.0)


def golden_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 7 + y * 3) % 256, (x * y) % 251, (x * x + 5 * y) % 253], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("name", sorted(CASES))
def test_pixels_are_those_of_the_published_processor(name: str) -> None:
    (height, width), rule = CASES[name]
    encoded = prepare_image(image_media(golden_picture(height, width)), rule)
    values = unpatchify(encoded.patches, tuple(encoded.grid_thw[0].tolist()), rule.patch_size)
    assert list(values.shape) == GOLDEN[name]["shape"]
    expected = np.array(GOLDEN[name]["every_97th"], np.float32)
    # Another Pillow may order the two passes of a resize otherwise: one step of uint8, 1/255/0.26 at most.
    tolerance = 0 if PIL.__version__ == GOLDEN["pillow"] else 0.032
    assert np.abs(values.reshape(-1)[::97] - expected).max() <= tolerance


def test_patches_run_row_by_row_with_features_as_channel_row_column() -> None:
    pixels = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    encoded = prepare_image(image_media(pixels), PLAIN)
    assert encoded.grid_thw.tolist() == [[1, 2, 3]]
    assert encoded.patches.shape == (6, 27)
    assert encoded.patches.dtype == np.float32
    fourth = encoded.patches[4].reshape(3, 3, 3)  # grid row 1, column 1
    assert np.array_equal(fourth, pixels[3:6, 3:6].transpose(2, 0, 1))


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), side=st.integers(1, 6), seed=st.integers(0, 99))
def test_unpatchify_inverts_the_cut(rows: int, columns: int, side: int, seed: int) -> None:
    size = (rows * side, columns * side)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    encoded = prepare_image(image_media(pixels), PLAIN.replace(size=size, patch_size=side))
    assert np.array_equal(unpatchify(encoded.patches, (rows, columns), side), pixels.transpose(2, 0, 1))


def test_the_remainder_beyond_the_last_whole_patch_is_dropped() -> None:
    encoded = prepare_image(image_media(golden_picture(40, 40)), SIGLIP)
    assert encoded.grid_thw.tolist() == [[1, 2, 2]]
    assert encoded.input_size == (40, 40)


def test_sizes_hash_and_empty_slots_travel_with_the_patches() -> None:
    media = image_media(golden_picture(61, 90))
    encoded = prepare_image(media, CLIP)
    assert (encoded.kind, encoded.original_size, encoded.input_size) == ("image", (90, 61), (28, 28))
    assert encoded.sha256 == media.sha256
    assert encoded.slots.tolist() == []


def test_a_picture_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(EyespotError) as caught:
        prepare_image(image_media(golden_picture(5, 5), "tiny.png"), SIGLIP.replace(size=(5, 5)))
    assert caught.value.code == "media-size"
    assert "tiny.png" in str(caught.value)


def test_patches_of_a_block_stand_together_and_frames_repeat() -> None:
    rule = ImageRule(
        resize="dynamic", patch_size=2, merge_size=2, temporal_patch_size=2, min_pixels=1, max_pixels=10**6,
        scale=1.0, normalize=False, positions="grid",
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    encoded = prepare_image(decode_image(pixels), rule)
    assert encoded.grid_thw.tolist() == [[1, 4, 6]]
    assert encoded.patches.shape == (24, 3 * 2 * 4)
    assert (encoded.plan.merge_size, encoded.plan.positions) == (2, "grid")
    frames = encoded.patches.reshape(24, 3, 2, 2, 2)
    assert np.array_equal(frames[:, :, 0], frames[:, :, 1])
    for row, (y, x) in {1: (0, 1), 2: (1, 0), 4: (0, 2), 13: (2, 1)}.items():
        cut = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].transpose(2, 0, 1)
        assert np.array_equal(frames[row, :, 0], cut), row
    assert np.array_equal(unpatchify(encoded.patches, (4, 6), 2, 2), pixels.transpose(2, 0, 1))
