"""Tiles by aspect ratio (InternVL): the grid that a picture is squeezed to.

Pure geometry, every size as (height, width); pixels are `patches`' affair. The surprising choice: nearness is measured
on width ÷ height, as published, so a tall picture's grids lie closer together than a wide one's.

Upstream: OpenGVLab/InternVL internvl/train/dataset.py (`dynamic_preprocess`); transformers
image_processing_pil_got_ocr2.py.
"""

from functools import lru_cache

Size = tuple[int, int]


def best_grid(picture: Size, tile: Size, least: int, most: int) -> Size:
    """(rows, columns) of `least` to `most` tiles, nearest in aspect to the picture.

    Among grids that are equally near, the largest of which the picture has the pixels of more than half.
    """
    height, width = picture
    aspect, best, nearest = width / height, (1, 1), float("inf")
    for rows, columns in _grids(least, most):
        distance = abs(aspect - columns / rows)
        filled = 2 * width * height > tile[0] * tile[1] * rows * columns
        if distance < nearest or (distance == nearest and filled):
            nearest, best = distance, (rows, columns)
    return best


@lru_cache(maxsize=16)
def _grids(least: int, most: int) -> tuple[Size, ...]:
    """All grids, small ones first and narrow ones first among grids of as many tiles."""
    grids = ((rows, columns) for columns in range(1, most + 1) for rows in range(1, most // columns + 1))
    return tuple(sorted((g for g in grids if g[0] * g[1] >= least), key=lambda g: g[0] * g[1]))
