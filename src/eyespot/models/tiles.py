"""Features of tiled pictures and of pooled frames as the decoder reads them.

Of a picture in tiles: the whole picture, then the map of its tiles row by row. The border that fitting the picture onto
its canvas left is cut off, a map that is too large is scaled down, and a learned embedding ends each row (LLaVA-NeXT,
LLaVA-OneVision). Of a video: frame after frame, each scaled down alike, the learned embedding once at the end.
What lies where is said by `MediaPlan`, made where the pixels were; nothing is computed from sizes here.
Upstream: transformers modeling_llava_next.py and modeling_llava_onevision.py (`pack_image_features`, `apply_pooling`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.encoded import MediaPlan
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError

Grids = Sequence[tuple[int, int, int]]


def join_tiles(
    features: Float[Tensor, "P D"], media: MediaBatch, newline: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "N D"]:
    """Features tile after tile to the order of the slots; those of pictures without tiles pass unchanged.

    Args:
        features: one for each patch, in the order of `media.grid_thw`.
        media: whose `plans` say how each item's tiles lie.
        newline: the embedding that ends a row, or the medium.

    Raises:
        EyespotError: ``not-supported`` where the features are not one for each patch of the tiles, or where rows are
            to be ended and the model has no embedding for it.
    """
    if not any(_joins(plan) for plan in media.plans):
        return features
    grids, row, start, joined = media.grids, 0, 0, []
    if len(features) != sum(t * h * w for t, h, w in grids):
        raise EyespotError(
            "not-supported", f"{len(features)} features for {sum(t * h * w for t, h, w in grids)} patches"
        )
    for rows, plan in zip(media.rows, media.plans, strict=True):
        own = grids[row : row + rows]
        stop = start + sum(t * h * w for t, h, w in own)
        joined.append(_joined(features[start:stop], own, plan, newline))
        row, start = row + rows, stop
    return torch.cat(joined)


def _tiled(plan: MediaPlan) -> bool:
    """Whether features lie otherwise than their patches; blocks and places of patches are another matter."""
    return plan.crop is not None


def _joins(plan: MediaPlan) -> bool:
    """Whether anything is to be done here; tiles that are neither cut nor ended are read one after the other."""
    return _tiled(plan) or plan.newline != "none" or plan.scaled is not None


def _joined(
    features: Float[Tensor, "P D"], grids: Grids, plan: MediaPlan, newline: Float[Tensor, " D"] | None
) -> Float[Tensor, "N D"]:
    if plan.newline != "none" and newline is None:
        raise EyespotError(
            "not-supported",
            "the contract ends each row of a tiled picture, or a medium, and the model has no embedding for that",
            where="image_newline",
        )
    if _tiled(plan):
        features = _map(features, grids[0], plan, newline)
    elif plan.scaled is not None:
        features = _frames(features, grids, plan.scaled)
    if plan.newline == "once" and newline is not None:
        features = torch.cat([features, newline.to(features.dtype)[None]])
    return features


def _map(
    tiles: Float[Tensor, "P D"], grid: tuple[int, int, int], plan: MediaPlan, newline: Float[Tensor, " D"] | None
) -> Float[Tensor, "N D"]:
    """The whole picture, then the map of the tiles, each row ended."""
    _, h, w = grid
    whole, rest = tiles.split([h * w, len(tiles) - h * w]) if plan.thumbnail == "first" else (tiles[:0], tiles)
    # x: the map (rows, columns, D)
    x = rearrange(rest, "(r c h w) d -> (r h) (c w) d", r=plan.tile_rows, c=plan.tile_cols, h=h, w=w)
    if plan.crop is not None:
        left, top, right, bottom = plan.crop
        x = x[top:bottom, left:right]
    if plan.scaled is not None:
        x = _scaled(x[None], plan.scaled)[0]
    if plan.newline == "row" and newline is not None:
        x = torch.cat([x, newline.to(x.dtype).expand(len(x), 1, -1)], dim=1)
    return torch.cat([whole, x.flatten(0, 1)])


def _frames(x: Float[Tensor, "P D"], grids: Grids, size: tuple[int, int]) -> Float[Tensor, "N D"]:
    """Frame after frame, each scaled down alike; the frames of one video are equally large."""
    (_, h, w), times = grids[0], sum(t for t, _, _ in grids)
    assert all(grid[1:] == (h, w) for grid in grids), "frames of unlike size"
    return _scaled(x.unflatten(0, (times, h, w)), size).flatten(0, 2)


def _scaled(x: Float[Tensor, "n h w D"], size: tuple[int, int]) -> Float[Tensor, "n i j D"]:
    """Bilinear, by the centres of cells and without smoothing, as published."""
    return F.interpolate(x.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
