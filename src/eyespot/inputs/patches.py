"""From a decoded picture to the raw patches that an encoder's first linear layer takes, and back.

No weights and no token counts here (`processor` fills `slots`). The surprising choice: a uint8 value has 256 forms,
so scaling and normalising are a table look-up; the table is computed in the very order of `transformers`' PIL back
end (float64 product, cast to float32, minus mean, by std), hence bit-equal and cheaper.
"""

from functools import lru_cache

import numpy as np
from einops import rearrange

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.contracts.media import Media
from eyespot.contracts.shapes import Float
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import fitted_size, plan_tiles
from eyespot.inputs.resize import place_image, resize_image
from eyespot.runtime.limits import LIMITS, Limits


def prepare_image(media: Media, rule: ImageRule, *, limits: Limits = LIMITS) -> EncodedMedia:
    """`media` resized, cut into patches and normalised by `rule`; its slots are still empty.

    Pixels beyond the last whole patch are dropped, as a strided convolution drops them (SigLIP's 384 with patches
    of 14 gives 27 × 27). Of a tiled picture each tile has its own grid, and `input_size` and `transform` are those of
    the first tile, which shows the whole picture.

    Raises:
        EyespotError: as `resize_image`; ``media-size`` for a picture smaller than one patch.
    """
    pixels, transform = resize_image(media.data, rule, limits=limits, name=media.name)
    pictures, plan = [pixels], MediaPlan()
    if rule.tiling is not None:
        tiles, plan = _tiles(media, rule, limits)
        pictures += tiles
    side = rule.patch_size
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    if not rows * columns:
        raise EyespotError(
            "media-size",
            f"the resized picture has {pixels.shape[1]} x {pixels.shape[0]} pixels, less than one patch of {side}",
            where=media.name,
        )
    table = _value_table(rule.scale, rule.mean if rule.normalize else None, rule.std if rule.normalize else None)
    patches = np.empty((len(pictures), rows * columns, 3, side * side), np.float32)
    for picture, place in zip(pictures, patches, strict=True):
        whole = picture[: rows * side, : columns * side]
        raw = rearrange(whole, "(gh ph) (gw pw) c -> (gh gw) c (ph pw)", ph=side, pw=side)
        for channel in range(3):
            place[:, channel] = table[channel][raw[:, channel]]
    return EncodedMedia(
        kind=media.kind,
        patches=patches.reshape(len(pictures) * rows * columns, -1),
        grid_thw=np.array([[1, rows, columns]] * len(pictures), np.int64),
        slots=np.zeros(0, np.int64),
        original_size=media.size,
        input_size=(pixels.shape[1], pixels.shape[0]),
        sha256=media.sha256,
        plan=plan,
        transform=transform,
    )


def _tiles(media: Media, rule: ImageRule, limits: Limits) -> tuple[list[np.ndarray], MediaPlan]:
    """The picture on its canvas, cut row by row."""
    picture = media.size[1], media.size[0]
    canvas, plan = plan_tiles(picture, rule)
    fitted = fitted_size(picture, canvas)
    pixels = place_image(media.data, fitted, canvas, rule.resample, limits=limits, name=media.name)
    height, width = rule.size
    return list(rearrange(pixels, "(r h) (c w) rgb -> (r c) h w rgb", h=height, w=width)), plan


def unpatchify(patches: Float[np.ndarray, "P F"], grid: tuple[int, ...], patch_size: int) -> Float[np.ndarray, "3 h w"]:
    """The picture (3, height, width) that patches of one tile came from, normalised as they are.

    Args:
        patches: rows in row-major grid order, features in (channel, row, column) order.
        grid: (rows, columns), or (1, rows, columns) as in `grid_thw`.
        patch_size: side of a patch.
    """
    rows, columns = (int(n) for n in grid[-2:])
    return rearrange(
        patches, "(gh gw) (c ph pw) -> c (gh ph) (gw pw)", gh=rows, gw=columns, ph=patch_size, pw=patch_size
    )


@lru_cache(maxsize=32)
def _value_table(scale: float, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> np.ndarray:
    """float32 (3, 256): what each uint8 value becomes in each channel."""
    scaled = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    table = np.broadcast_to(scaled, (3, 256))
    if mean is not None and std is not None:
        table = (table - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return np.ascontiguousarray(table)
