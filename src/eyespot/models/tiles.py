"""Features of tiled pictures as the decoder reads them: the whole picture, then the map of its tiles row by row.

The border that fitting the picture onto its canvas left is cut off, and a learned embedding ends each row (LLaVA-NeXT).
What lies where is said by `MediaPlan`, made where the pixels were; nothing is computed from sizes here.
Upstream: transformers modeling_llava_next.py (`pack_image_features`).
"""

import torch
from einops import rearrange

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.encoded import MediaPlan
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError


def join_tiles(
    features: Float[Tensor, "P D"], media: MediaBatch, newline: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "N D"]:
    """Features tile after tile to the order of the slots; those of pictures without tiles pass unchanged.

    Args:
        features: one for each patch, in the order of `media.grid_thw`.
        media: whose `plans` say how each item's tiles lie.
        newline: the embedding that ends a row.

    Raises:
        EyespotError: ``not-supported`` where the features are not one for each patch of the tiles, or where rows are
            to be ended and the model has no embedding for it.
    """
    if not any(_tiled(plan) for plan in media.plans):
        return features
    grids, row, start, joined = media.grids, 0, 0, []
    if len(features) != sum(t * h * w for t, h, w in grids):
        raise EyespotError(
            "not-supported", f"{len(features)} features for {sum(t * h * w for t, h, w in grids)} patches"
        )
    for rows, plan in zip(media.rows, media.plans, strict=True):
        stop = start + sum(t * h * w for t, h, w in grids[row : row + rows])
        joined.append(_joined(features[start:stop], grids[row], plan, newline))
        row, start = row + rows, stop
    return torch.cat(joined)


def _tiled(plan: MediaPlan) -> bool:
    """Whether features lie otherwise than their patches; blocks and places of patches are another matter."""
    return (plan.tile_rows, plan.tile_cols, plan.thumbnail, plan.crop, plan.newline) != (1, 1, "none", None, "none")


def _joined(
    tiles: Float[Tensor, "P D"], grid: tuple[int, int, int], plan: MediaPlan, newline: Float[Tensor, " D"] | None
) -> Float[Tensor, "N D"]:
    if not _tiled(plan):
        return tiles
    if plan.newline == "row" and newline is None:
        raise EyespotError(
            "not-supported",
            "the contract ends each row of a tiled picture, and the model has no embedding for that",
            where="image_newline",
        )
    _, h, w = grid
    whole, rest = tiles.split([h * w, len(tiles) - h * w]) if plan.thumbnail == "first" else (tiles[:0], tiles)
    # x: the map (rows, columns, D)
    x = rearrange(rest, "(r c h w) d -> (r h) (c w) d", r=plan.tile_rows, c=plan.tile_cols, h=h, w=w)
    if plan.crop is not None:
        left, top, right, bottom = plan.crop
        x = x[top:bottom, left:right]
    if plan.newline == "row" and newline is not None:
        x = torch.cat([x, newline.to(x.dtype).expand(len(x), 1, -1)], dim=1)
    return torch.cat([whole, x.flatten(0, 1)])
