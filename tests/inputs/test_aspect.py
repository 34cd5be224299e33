"""Tiles by aspect ratio: the authors' choice on 20,000 sizes, published counts, pixels made the plain way."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyespot.contracts.contract import AspectTiling, Contract, ImageRule, Tiling
from eyespot.contracts.coordinates import BoxAbs
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import embeddings_of
from eyespot.inputs.aspect import best_grid
from eyespot.inputs.decode import image_media
from eyespot.inputs.patches import prepare_image, unpatchify
from eyespot.inputs.places import written_place

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "aspect_tiles.json").read_text("utf-8"))
PUBLISHED = ImageRule(
    size=(448, 448), resize="exact", crop=False, patch_size=14, merge_size=2, aspect_tiling=AspectTiling()
)
SMALL = ImageRule(
    size=(16, 16), resize="exact", crop=False, patch_size=4, merge_size=2, normalize=False, scale=1.0,
    aspect_tiling=AspectTiling(1, 6),
)  # fmt: skip


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def golden_size(number: int) -> tuple[int, int]:
    """(height, width) as the golden file says how they were made."""
    digest = hashlib.sha256(str(number).encode()).digest()
    most = (64, 448, 1000, 3000, 12000)[number % 5]
    width, height = (1 + int.from_bytes(digest[i : i + 4], "big") % most for i in (0, 4))
    return height, width


@pytest.mark.parametrize("bounds", GOLDEN["bounds"], ids=lambda b: f"{b['least']}-{b['most']}")
def test_grids_are_those_of_the_authors_code(bounds):
    grids = [best_grid(golden_size(i), (448, 448), bounds["least"], bounds["most"]) for i in range(20_000)]
    lines = [f"{rows}x{columns}" for rows, columns in grids]
    assert lines[:25] == bounds["first"]
    assert {line: lines.count(line) for line in set(lines)} == bounds["grids"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == bounds["sha256"]


@pytest.mark.parametrize(("width", "height", "count"), [
    (448, 448, 256), (500, 500, 256), (634, 634, 1280), (640, 480, 3328), (1000, 1000, 2560), (1024, 899, 2560),
    (1920, 1080, 2304), (2000, 500, 1280), (4000, 300, 3328),
])  # fmt: skip
def test_a_picture_takes_as_many_places_as_published(width, height, count):
    assert embeddings_of(prepare_image(image_media(np.zeros((height, width, 3), np.uint8)), PUBLISHED)) == count


@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20), (40, 40), (3, 2), (1, 90), (90, 1), (57, 55)])
@pytest.mark.parametrize("thumbnail", [True, False])
def test_tiles_are_the_squeezed_picture_cut_row_by_row_before_the_whole(height, width, thumbnail):
    rule = SMALL.replace(aspect_tiling=AspectTiling(1, 6, thumbnail))
    medium = prepare_image(image_media(noise(height, width)), rule)
    tiles = [unpatchify(part, (4, 4), 4, 2) for part in np.split(medium.patches, len(medium.grid_thw))]
    rows, columns = best_grid((height, width), (16, 16), 1, 6)
    image = Image.fromarray(noise(height, width))
    expected = []
    squeezed = image.resize((16 * columns, 16 * rows), Image.Resampling.BICUBIC)
    for row in range(rows):
        expected += [squeezed.crop((16 * c, 16 * row, 16 * c + 16, 16 * row + 16)) for c in range(columns)]
    if thumbnail and rows * columns > 1:
        expected.append(image.resize((16, 16), Image.Resampling.BICUBIC))
    assert len(tiles) == len(expected)
    assert all(np.array_equal(t.transpose(1, 2, 0), np.asarray(e)) for t, e in zip(tiles, expected, strict=True))
    assert embeddings_of(medium) == 4 * len(expected)


def test_places_are_written_on_the_whole_picture():
    medium = prepare_image(image_media(noise(40, 80)), SMALL)
    assert (medium.plan.tile_rows, medium.plan.tile_cols, medium.plan.thumbnail) == (1, 2, "last")
    assert written_place(BoxAbs(20, 10, 80, 40), medium, "thousand") == "[250, 250, 1000, 1000]"


@pytest.mark.parametrize("changes", [
    {"resize": "pad"}, {"tiling": Tiling(((16, 32),))},
])  # fmt: skip
def test_a_rule_that_would_cut_otherwise_too_is_refused(changes):
    with pytest.raises(EyespotError, match="tile by aspect"):
        SMALL.replace(**changes)


@pytest.mark.parametrize("bounds", [(0, 3), (4, 3), (1, 10_000)])
def test_bounds_that_no_grid_is_within_are_refused(bounds):
    with pytest.raises(EyespotError, match="least ≤ most"):
        AspectTiling(*bounds)


def test_every_field_changes_the_contracts_id_and_their_absence_does_not():
    assert Contract(image=ImageRule()).id == "63ebdb3f1ba08d4d96da2e405a8d05e07b73eb7748f3789a97d7901275588a1a"
    tilings = (None, AspectTiling(1, 6), AspectTiling(2, 6), AspectTiling(1, 7), AspectTiling(1, 6, False))
    contracts = [Contract(image=SMALL.replace(aspect_tiling=tiling)) for tiling in tilings]
    assert len({contract.id for contract in contracts}) == len(tilings)
    assert [Contract.from_dict(c.to_dict()) for c in contracts] == contracts
