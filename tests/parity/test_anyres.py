"""The geometry of any-resolution tiles against `transformers`' own functions, over many sizes and lists of canvases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches, unpad_image
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from eyespot.contracts.contract import ImageRule, Tiling
from eyespot.inputs.anyres import best_canvas, covered, fitted_size, plan_tiles

pytestmark = pytest.mark.parity

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
ONEVISION = tuple((384 * a, 384 * b) for a in range(1, 7) for b in range(1, 7))
many = settings(max_examples=3000, deadline=None, derandomize=True)
side = st.one_of(st.integers(1, 400), st.integers(1, 5000), st.sampled_from([335, 336, 337, 672, 1008, 12000]))
sizes = st.tuples(side, side)
lists = st.one_of(
    st.sampled_from([PINPOINTS, ONEVISION]),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12).map(
        lambda pairs: tuple((14 * a, 14 * b) for a, b in pairs)
    ),
)


@many
@given(picture=sizes, canvases=lists)
def test_the_canvas_and_the_size_on_it_are_theirs(picture, canvases):
    canvas = best_canvas(picture, canvases)
    assert canvas == select_best_resolution(picture, list(canvases))
    pixels = np.broadcast_to(np.zeros((), np.uint8), (3, *picture))
    assert fitted_size(picture, canvas) == get_patch_output_size(pixels, canvas, "channels_first")


@many
@given(picture=sizes, cells=st.tuples(st.integers(1, 80), st.integers(1, 80)))
def test_what_a_picture_covers_is_what_they_keep(picture, cells):
    numbered = torch.arange(cells[0] * cells[1]).view(1, *cells)
    left, top, right, bottom = covered(picture, cells)
    assert torch.equal(numbered[:, top:bottom, left:right], unpad_image(numbered, picture))


def test_every_published_size_up_to_two_tiles_goes_onto_their_canvas():
    for height in range(1, 700, 13):
        for width in range(1, 700, 13):
            assert best_canvas((height, width), PINPOINTS) == select_best_resolution((height, width), list(PINPOINTS))


@many
@given(picture=sizes)
def test_tiles_and_tokens_are_counted_as_they_count_them(picture):
    rule = ImageRule(size=(336, 336), resize="exact", crop=False, patch_size=14, tiling=Tiling(PINPOINTS))
    _, plan = plan_tiles(picture, rule)
    assert 1 + plan.tile_rows * plan.tile_cols == image_size_to_num_patches(list(picture), list(PINPOINTS), 336)
    counter = object.__new__(LlavaNextProcessor)
    counter.patch_size, counter.num_additional_image_tokens = 14, 0
    counter.image_processor = type("Pinpoints", (), {"image_grid_pinpoints": list(PINPOINTS)})
    left, top, right, bottom = plan.crop
    ours = 24 * 24 + (bottom - top) * (right - left + 1)
    assert ours == counter._get_number_of_features(*picture, 336, 336)


@many
@given(picture=sizes, bound=st.sampled_from([1, 4, 9]))
def test_maps_with_a_bound_are_counted_as_they_count_them(picture, bound):
    tiling = Tiling(ONEVISION, shrink_to=bound)
    rule = ImageRule(size=(384, 384), resize="exact", crop=False, patch_size=14, tiling=tiling)
    _, plan = plan_tiles(picture, rule)
    counter = object.__new__(LlavaOnevisionProcessor)
    counter.num_image_tokens, counter.vision_aspect_ratio = 27 * 27, f"anyres_max_{bound}"
    counter.image_processor = type("Pinpoints", (), {"image_grid_pinpoints": list(ONEVISION)})
    left, top, right, bottom = plan.crop
    rows, columns = plan.scaled or (bottom - top, right - left)
    assert 27 * 27 + rows * (columns + 1) == counter._get_number_of_features(*picture, 384, 384)
