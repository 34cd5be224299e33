"""Any-resolution tiling (LLaVA-NeXT): the canvas a picture goes on, its size there, and what of the canvas it covers.

Pure geometry in whole numbers, every size as (height, width). Pixels are `resize`'s affair, features that of
`models.tiles`. The surprising choice: what a picture covers is found anew on the map of patches, as published, and not
derived from its pixels, so a border of less than a patch stays.

Upstream: transformers image_processing_utils.py (`select_best_resolution`), modeling_llava_next.py (`unpad_image`).
"""

import math
from collections.abc import Sequence

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.errors import EyespotError

Size = tuple[int, int]


def best_canvas(picture: Size, canvases: Sequence[Size]) -> Size:
    """The canvas that keeps most of the picture's pixels; among equals the smallest, then the first."""
    height, width = picture

    def merit(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(canvases, key=merit)


def fitted_size(picture: Size, canvas: Size) -> Size:
    """The picture's size on the canvas: as large as fits, aspect kept, the shorter side rounded up."""
    height, width = picture
    across, down = canvas[1] / width, canvas[0] / height
    if across < down:
        return min(math.ceil(height * across), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(width * down), canvas[1])


def covered(picture: Size, cells: Size) -> tuple[int, int, int, int]:
    """What the picture covers of a canvas of `cells` rows and columns: left, top, right, bottom, in cells.

    A picture that is much longer than the canvas may cover no whole row or column: the area is then empty.
    """
    (height, width), (rows, columns) = picture, cells
    if width / height > columns / rows:
        margin = (rows - _inner(height * (columns / width))) // 2
        return 0, margin, columns, rows - margin
    margin = (columns - _inner(width * (rows / height))) // 2
    return margin, 0, columns - margin, rows


def plan_tiles(picture: Size, rule: ImageRule) -> tuple[Size, MediaPlan]:
    """The canvas of a picture in pixels, and its plan: the whole picture first, then tiles, each row of patches ended.

    Args:
        picture: original size.
        rule: with a tiling.
    """
    assert rule.tiling is not None
    canvas = best_canvas(picture, rule.tiling.canvases)
    tiles = canvas[0] // rule.size[0], canvas[1] // rule.size[1]
    cells = tiles[0] * (rule.size[0] // rule.patch_size), tiles[1] * (rule.size[1] // rule.patch_size)
    return canvas, MediaPlan(*tiles, thumbnail="first", crop=covered(picture, cells), newline="row")


def embeddings_of(medium: EncodedMedia, extra: int = 0) -> int:
    """How many embeddings a medium becomes.

    Args:
        medium: without slots yet.
        extra: tokens of the encoder beside the grid of each tile.

    Raises:
        EyespotError: ``not-supported`` where each tile of a map has tokens beside its grid.
    """
    plan = medium.plan
    tiles = medium.grid_thw.prod(axis=1) // plan.merge_size**2 + extra
    if plan.crop is None:
        return int(tiles.sum())
    if extra:
        raise EyespotError("not-supported", "tiles cannot be joined where each has tokens beside its grid")
    left, top, right, bottom = plan.crop
    return int(tiles[0]) * (plan.thumbnail == "first") + (bottom - top) * (right - left + (plan.newline == "row"))


def _inner(value: float) -> int:
    """Whole cells; a product that misses a whole number by rounding alone counts as that number."""
    return int(round(value, 7))
