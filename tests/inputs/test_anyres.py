"""Any-resolution tiles: published token counts, the two readings of a list, pixels against a plain way to make them."""

from itertools import product

import numpy as np
import pytest
from PIL import Image

from eyespot.contracts.contract import Contract, ImageRule, Tiling
from eyespot.contracts.coordinates import BoxAbs
from eyespot.contracts.encoded import EncodedMedia
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import best_canvas, covered, embeddings_of, fitted_size, plan_tiles, pooled, scaled_down
from eyespot.inputs.decode import image_media
from eyespot.inputs.patches import prepare_image, unpatchify
from eyespot.inputs.places import written_place

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
NEXT = ImageRule(size=(336, 336), resize="exact", crop=False, patch_size=14, tiling=Tiling(PINPOINTS))
ONEVISION = ImageRule(
    size=(384, 384), resize="exact", crop=False, patch_size=14,
    tiling=Tiling(tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7)), shrink_to=9),
)  # fmt: skip
SMALL = ImageRule(
    size=(28, 28), resize="exact", crop=False, patch_size=14, normalize=False, scale=1.0,
    tiling=Tiling(((28, 56), (56, 28), (56, 56))),
)  # fmt: skip


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("width", "height", "count"), [
    (336, 336, 1176), (640, 480, 2340), (480, 640, 2352), (1024, 899, 2634), (672, 672, 2928), (1000, 1000, 2928),
    (2000, 500, 1890),
])  # fmt: skip
def test_a_picture_takes_as_many_places_as_published(width, height, count):
    assert embeddings_of(prepare_image(image_media(np.zeros((height, width, 3), np.uint8)), NEXT)) == count


@pytest.mark.parametrize(("width", "height", "count"), [
    (384, 384, 1485), (640, 480, 2929), (1024, 899, 6551), (1920, 1080, 7269), (2304, 2304, 7371),
])  # fmt: skip
def test_a_bounded_map_takes_as_many_places_as_published(width, height, count):
    _, plan = plan_tiles((height, width), ONEVISION)
    grid = np.array([[1, 27, 27]] * (1 + plan.tile_rows * plan.tile_cols))
    empty = np.zeros((0, 588), np.float32)
    medium = EncodedMedia("image", empty, grid, np.zeros(0, np.int64), (width, height), (384, 384), "", plan)
    assert embeddings_of(medium) == count


def test_a_map_is_scaled_down_only_where_it_is_larger_by_a_fifth():
    assert scaled_down((30, 30), 900) is None
    assert scaled_down((33, 33), 900) is None
    assert scaled_down((34, 33), 900) == (30, 29)
    assert scaled_down((0, 90), 9) is None


def test_a_map_of_which_nothing_would_be_left_is_refused():
    with pytest.raises(EyespotError, match="1 x 2000") as caught:
        scaled_down((1, 2000), 9)
    assert caught.value.code == "media-size"


def test_of_a_pooled_frame_squares_that_stick_out_count():
    assert pooled((27, 27), 2) == (14, 14)
    assert pooled((4, 6), 2) == (2, 3)
    assert pooled((27, 27), 1) is None


def test_the_authors_reading_of_all_canvases_up_to_six_by_six_never_differs():
    """They hold the tile itself, which serves best where wide and tall are equal."""
    tiling = ONEVISION.tiling
    turned = tiling.replace(order="width_height").canvases
    sides = [*range(1, 400, 23), *range(400, 2400, 211), 384, 768, 769, 2304, 5000, 12000]
    assert [p for p in product(sides, sides) if best_canvas(p, tiling.canvases) != best_canvas(p, turned)] == []


@pytest.mark.parametrize(("picture", "wide_first", "tall_first"), [
    ((300, 300), (336, 672), (672, 336)), ((10, 336), (336, 672), (672, 336)), ((337, 336), (672, 336), (672, 336)),
    ((480, 640), (672, 672), (672, 672)), ((100, 900), (336, 1008), (336, 1008)),
])  # fmt: skip
def test_the_authors_reading_differs_for_pictures_no_larger_than_a_tile(picture, wide_first, tall_first):
    tiling = Tiling(PINPOINTS)
    assert best_canvas(picture, tiling.canvases) == wide_first
    assert best_canvas(picture, tiling.replace(order="width_height").canvases) == tall_first


def test_a_list_written_in_another_order_names_the_same_canvases():
    for order in ("height_width", "width_height"):
        again = Tiling(PINPOINTS, "width_height").ordered(order)
        assert again.canvases == Tiling(PINPOINTS, "width_height").canvases
        assert again.order == order
    assert ONEVISION.tiling.ordered("width_height").shrink_to == 9


@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20), (56, 56), (3, 2), (1, 90), (90, 1), (57, 55)])
def test_tiles_are_the_picture_in_the_middle_of_a_black_canvas_after_the_whole(height, width):
    medium = prepare_image(image_media(noise(height, width)), SMALL)
    canvas, plan = plan_tiles((height, width), SMALL)
    tiles = [unpatchify(part, (2, 2), 14) for part in np.split(medium.patches, len(medium.grid_thw))]
    image = Image.fromarray(noise(height, width))
    whole = np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC))
    assert np.array_equal(tiles[0].transpose(1, 2, 0), whole)
    new_height, new_width = fitted_size((height, width), canvas)
    expected = Image.new("RGB", canvas[::-1])
    fitted = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    expected.paste(fitted, ((canvas[1] - new_width) // 2, (canvas[0] - new_height) // 2))
    rows = [np.concatenate(tiles[1 + r * plan.tile_cols :][: plan.tile_cols], axis=2) for r in range(plan.tile_rows)]
    assert np.array_equal(np.concatenate(rows, axis=1).transpose(1, 2, 0), np.asarray(expected))


def test_the_border_is_cut_at_both_ends_and_never_a_row_of_the_picture():
    assert covered((100, 200), (10, 10)) == (0, 2, 10, 8)  # five rows are covered; an odd row of the border stays
    assert covered((200, 100), (10, 10)) == (2, 0, 8, 10)
    assert covered((100, 100), (4, 4)) == (0, 0, 4, 4)


def test_of_a_line_no_row_is_left():
    left, top, right, bottom = covered((1, 1000), (48, 48))
    assert (bottom - top) * (right - left) == 0
    medium = prepare_image(image_media(noise(1, 1000)), SMALL)
    assert embeddings_of(medium) == 4 + 0


def test_places_are_written_on_the_whole_picture_which_comes_first():
    medium = prepare_image(image_media(noise(40, 80)), SMALL)
    assert medium.input_size == (28, 28)
    assert written_place(BoxAbs(20, 10, 80, 40), medium, "unit") == "[0.25, 0.25, 1.00, 1.00]"


@pytest.mark.parametrize("changes", [
    {"tiling": Tiling(((28, 30),))}, {"resize": "shortest_edge", "crop": True}, {"size": (28, 20)},
])  # fmt: skip
def test_a_rule_whose_tiles_do_not_fill_its_canvases_is_refused(changes):
    with pytest.raises(EyespotError, match="whole tiles"):
        SMALL.replace(**changes)


@pytest.mark.parametrize("pinpoints", [(), ((0, 28),)])
def test_a_tiling_without_canvases_is_refused(pinpoints):
    with pytest.raises(EyespotError, match="canvases"):
        Tiling(pinpoints)


def test_a_bound_below_one_tile_is_refused():
    with pytest.raises(EyespotError, match="shrink_to"):
        Tiling(PINPOINTS, shrink_to=0)


def test_tokens_beside_the_grid_have_no_place_on_a_map():
    with pytest.raises(EyespotError, match="beside its grid"):
        embeddings_of(prepare_image(image_media(noise(40, 80)), SMALL), extra=1)


def test_a_tiling_changes_the_contracts_id_and_its_absence_does_not():
    plain = Contract(image=ImageRule())
    assert plain.id == "63ebdb3f1ba08d4d96da2e405a8d05e07b73eb7748f3789a97d7901275588a1a"
    tiled = Contract(image=SMALL)
    assert tiled.id != Contract(image=SMALL.replace(tiling=None)).id
    other = SMALL.replace(tiling=SMALL.tiling.replace(order="width_height"))
    assert tiled.id != Contract(image=other).id
    bound = SMALL.replace(tiling=SMALL.tiling.replace(shrink_to=9))
    changed = [tiled.replace(image=bound), tiled.replace(several=SMALL), tiled.replace(image=SMALL.replace(pool=2))]
    assert len({c.id for c in (tiled, *changed)}) == 4
    assert Contract.from_dict(tiled.to_dict()) == tiled
