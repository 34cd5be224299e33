"""From a decoded picture to the raw patches that an encoder's first linear layer takes, and back.

No weights and no token counts here (`processor` fills `slots`). The surprising choice: a uint8 value has 256 forms,
so scaling and normalising are a table look-up; the table is computed in the very order of `transformers`' PIL back
end (float64 product, cast to float32, minus mean, by std), hence bit-equal and cheaper.
"""

from functools import lru_cache

import numpy as np
from einops import rearrange

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia
from eyespot.contracts.media import Media
from eyespot.contracts.shapes import Float
from eyespot.errors import EyespotError
from eyespot.inputs.resize import resize_image
from eyespot.runtime.limits import LIMITS, Limits


def prepare_image(media: Media, rule: ImageRule, *, limits: Limits = LIMITS) -> EncodedMedia:
    """`media` resized, cut into patches and normalised by `rule`; its slots are still empty.

    Pixels beyond the last whole patch are dropped, as a strided convolution drops them (SigLIP's 384 with patches
    of 14 gives 27 × 27).

    Raises:
        EyespotError: as `resize_image`; ``media-size`` for a picture smaller than one patch.
    """
    pixels, transform = resize_image(media.data, rule, limits=limits, name=media.name)
    side = rule.patch_size
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    if not rows * columns:
        raise EyespotError(
            "media-size",
            f"the resized picture has {pixels.shape[1]} x {pixels.shape[0]} pixels, less than one patch of {side}",
            where=media.name,
        )
    whole = pixels[: rows * side, : columns * side]
    raw = rearrange(whole, "(gh ph) (gw pw) c -> (gh gw) c (ph pw)", ph=side, pw=side)
    table = _value_table(rule.scale, rule.mean if rule.normalize else None, rule.std if rule.normalize else None)
    patches = np.empty(raw.shape, np.float32)
    for channel in range(3):
        patches[:, channel] = table[channel][raw[:, channel]]
    return EncodedMedia(
        kind=media.kind,
        patches=patches.reshape(rows * columns, -1),
        grid_thw=np.array([[1, rows, columns]], np.int64),
        slots=np.zeros(0, np.int64),
        original_size=media.size,
        input_size=(pixels.shape[1], pixels.shape[0]),
        sha256=media.sha256,
        transform=transform,
    )


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
