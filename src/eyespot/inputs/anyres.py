"""Any-resolution tiling (LLaVA-NeXT): the canvas a picture goes on, its size there, and what of the canvas it covers.

Pure geometry in whole numbers, every size as (height, width). Pixels are `resize`'s affair, features that of
`models.tiles`. The surprising choice: what a picture covers is found anew on the map of patches, as published, and not
derived from its pixels, so a border of less than a patch stays.

Upstream: transformers image_processing_utils.py (`select_best_resolution`), modeling_llava_next.py (`unpad_image`),
modeling_llava_onevision.py (maps that are too large).
"""

import math
from collections.abc import Sequence

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.errors import EyespotError

Size = tuple[int, int]
# A map is scaled down only where its sides become smaller by more than this, as published.
SHRINKS_FROM = 1.1


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

    Raises:
        EyespotError: ``media-size`` for a picture so long that scaling its map down would leave none of it.
    """
    assert rule.tiling is not None
    canvas = best_canvas(picture, rule.tiling.canvases)
    tiles = canvas[0] // rule.size[0], canvas[1] // rule.size[1]
    grid = rule.size[0] // rule.patch_size, rule.size[1] // rule.patch_size
    left, top, right, bottom = crop = covered(picture, (tiles[0] * grid[0], tiles[1] * grid[1]))
    scaled = None
    if rule.tiling.shrink_to is not None:
        scaled = scaled_down((bottom - top, right - left), rule.tiling.shrink_to * grid[0] * grid[1])
    return canvas, MediaPlan(*tiles, thumbnail="first", crop=crop, newline="row", scaled=scaled)


def scaled_down(cells: Size, most: int) -> Size | None:
    """Rows and columns of a map that is too large; None for one that stays as it is.

    Args:
        cells: rows and columns of the map.
        most: cells that it is to have about.

    Raises:
        EyespotError: ``media-size`` where less than one row or column would be left.
    """
    ratio = math.sqrt(cells[0] * cells[1] / most)
    if ratio <= SHRINKS_FROM:
        return None
    scaled = int(cells[0] // ratio), int(cells[1] // ratio)
    if not all(scaled):
        raise EyespotError("media-size", f"{cells[0]} x {cells[1]} features cannot be scaled down to {most}")
    return scaled


def pooled(grid: Size, side: int) -> Size | None:
    """Rows and columns of a frame whose embeddings are pooled; a square that sticks out counts. None: as it is."""
    return None if side == 1 else (-(-grid[0] // side), -(-grid[1] // side))


def embeddings_of(medium: EncodedMedia, extra: int = 0) -> int:
    """How many embeddings a medium becomes.

    Args:
        medium: without slots yet.
        extra: tokens of the encoder beside the grid of each tile.

    Raises:
        EyespotError: ``not-supported`` where each tile of a map has tokens beside its grid.
    """
    plan = medium.plan
    if extra and (plan.crop is not None or plan.scaled is not None):
        raise EyespotError("not-supported", "tiles cannot be joined where each has tokens beside its grid")
    tiles = medium.grid_thw.prod(axis=1) // plan.merge_size**2 + extra
    if plan.crop is None:
        frames = int(medium.grid_thw[:, 0].sum())
        count = int(tiles.sum()) if plan.scaled is None else frames * plan.scaled[0] * plan.scaled[1]
        return count + (plan.newline == "once")
    left, top, right, bottom = plan.crop
    rows, columns = plan.scaled or (bottom - top, right - left)
    return int(tiles[0]) * (plan.thumbnail == "first") + rows * (columns + (plan.newline == "row"))


def _inner(value: float) -> int:
    """Whole cells; a product that misses a whole number by rounding alone counts as that number."""
    return int(round(value, 7))
