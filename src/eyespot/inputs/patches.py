"""From a decoded picture to the raw patches that an encoder's first linear layer takes, and back.

No weights and no token counts here (`processor` fills `slots`). The surprising choice: a uint8 value has 256 forms,
so scaling and normalising are a table look-up; the table is computed in the very order of `transformers`' PIL back
end (float64 product, cast to float32, minus mean, by std), hence bit-equal and cheaper.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from einops import rearrange

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.contracts.media import Media
from eyespot.contracts.shapes import Float, UInt8
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import fitted_size, plan_tiles
from eyespot.inputs.aspect import best_grid
from eyespot.inputs.resize import place_image, resize_image
from eyespot.runtime.limits import LIMITS, Limits

_BLOCKS = {"rows": "gh gw", "columns": "gw gh"}


def prepare_image(media: Media, rule: ImageRule, *, limits: Limits = LIMITS) -> EncodedMedia:
    """`media` resized, cut into patches and normalised by `rule`; its slots are still empty.

    Pixels beyond the last whole block of patches are dropped, as a strided convolution drops them (SigLIP's 384 with
    patches of 14 gives 27 × 27). The patches of a block stand together. Of a tiled picture each tile has its own grid,
    and `input_size` and `transform` are those of the whole picture on one tile.

    Raises:
        EyespotError: as `resize_image`; ``media-size`` for a picture smaller than one patch.
    """
    pixels, transform = resize_image(media.data, rule, limits=limits, name=media.name)
    pictures, plan = [pixels], _plan(rule)
    if rule.tiling is not None:
        tiles, plan = _tiles(media, rule, limits)
        pictures += tiles
    if rule.aspect_tiling is not None:
        pictures, plan = _aspect_tiles(media, pixels, rule, plan, limits)
    pieces = [cut(np.broadcast_to(p, (rule.temporal_patch_size, *p.shape)), rule, media.name) for p in pictures]
    return EncodedMedia(
        kind=media.kind,
        patches=np.concatenate([patches for patches, _ in pieces]) if len(pieces) > 1 else pieces[0][0],
        grid_thw=np.array([grid for _, grid in pieces], np.int64),
        slots=np.zeros(0, np.int64),
        original_size=media.size,
        input_size=(pixels.shape[1], pixels.shape[0]),
        sha256=media.sha256,
        plan=plan,
        transform=transform,
    )


def _plan(rule: ImageRule) -> MediaPlan:
    return MediaPlan(
        merge_size=rule.merge_size, block_order=rule.block_order, positions=rule.positions, newline=rule.newline
    )


def _tiles(media: Media, rule: ImageRule, limits: Limits) -> tuple[list[np.ndarray], MediaPlan]:
    """The picture on its canvas, cut row by row."""
    picture = media.size[1], media.size[0]
    canvas, plan = plan_tiles(picture, rule)
    fitted = fitted_size(picture, canvas)
    fast = rule.pixels == "fast"
    pixels = place_image(media.data, fitted, canvas, rule.resample, fast=fast, limits=limits, name=media.name)
    height, width = rule.size
    return list(rearrange(pixels, "(r h) (c w) rgb -> (r c) h w rgb", h=height, w=width)), plan


def _aspect_tiles(
    media: Media, whole: np.ndarray, rule: ImageRule, plan: MediaPlan, limits: Limits
) -> tuple[list[np.ndarray], MediaPlan]:
    """The picture squeezed to a grid of tiles and cut row by row, and where wanted the whole of it as the last."""
    tiling = rule.aspect_tiling
    assert tiling is not None
    (height, width), picture = rule.size, (media.size[1], media.size[0])
    rows, columns = best_grid(picture, rule.size, tiling.least, tiling.most)
    if (rows, columns) == (1, 1):
        return [whole], plan
    canvas = rows * height, columns * width
    fast = rule.pixels == "fast"
    pixels = place_image(media.data, canvas, canvas, rule.resample, fast=fast, limits=limits, name=media.name)
    tiles = list(rearrange(pixels, "(r h) (c w) rgb -> (r c) h w rgb", h=height, w=width))
    last = "last" if tiling.thumbnail else "none"
    plan = replace(plan, tile_rows=rows, tile_cols=columns, thumbnail=last)
    return [*tiles, *([whole] if tiling.thumbnail else [])], plan


def cut(
    frames: UInt8[np.ndarray, "frames height width 3"], rule: ImageRule, name: str = ""
) -> tuple[Float[np.ndarray, "P F"], tuple[int, int, int]]:
    """Resized frames as normalised patches, and the grid (times, rows, columns); times divide the frames.

    Raises:
        EyespotError: ``media-size`` for frames smaller than one block of patches.
    """
    side, merge, span = rule.patch_size, rule.merge_size, rule.temporal_patch_size
    height, width = frames.shape[1:3]
    rows, columns = (n // (side * merge) * merge for n in (height, width))
    if not rows * columns:
        message = f"the resized picture has {width} x {height} pixels, less than one patch of {side * merge}"
        raise EyespotError("media-size", message, where=name)
    raw = rearrange(
        frames[:, : rows * side, : columns * side],
        f"(gt f) (gh mh ph) (gw mw pw) c -> (gt {_BLOCKS[rule.block_order]} mh mw) c f (ph pw)",
        f=span, mh=merge, mw=merge, ph=side, pw=side,
    )  # fmt: skip
    table = _value_table(rule.scale, rule.mean if rule.normalize else None, rule.std if rule.normalize else None)
    patches = np.empty(raw.shape, np.float32)
    for channel in range(3):
        patches[:, channel] = table[channel][raw[:, channel]]
    return patches.reshape(len(raw), -1), (len(frames) // span, rows, columns)


def unpatchify(
    patches: Float[np.ndarray, "P F"], grid: tuple[int, ...], patch_size: int, merge_size: int = 1
) -> Float[np.ndarray, "3 h w"]:
    """The picture (3, height, width) that patches of one tile came from, normalised as they are.

    Args:
        patches: rows in row-major order of blocks and of patches inside them, features in (channel, frame, row,
            column) order; of several frames the first is given.
        grid: (rows, columns), or (1, rows, columns) as in `grid_thw`.
        patch_size: side of a patch.
        merge_size: side of a block in patches.
    """
    rows, columns = (int(n) // merge_size for n in grid[-2:])
    return rearrange(
        patches.reshape(len(patches), 3, -1, patch_size, patch_size)[:, :, 0],
        "(gh gw mh mw) c ph pw -> c (gh mh ph) (gw mw pw)",
        gh=rows, gw=columns, mh=merge_size, mw=merge_size,
    )  # fmt: skip


@lru_cache(maxsize=32)
def _value_table(scale: float, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> np.ndarray:
    """float32 (3, 256): what each uint8 value becomes in each channel."""
    scaled = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    table = np.broadcast_to(scaled, (3, 256))
    if mean is not None and std is not None:
        table = (table - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return np.ascontiguousarray(table)
