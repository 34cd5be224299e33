"""The quick way to nearly the same pixels (``contract.image.pixels`` = ``fast``): never more than 1 of 255 away.

A JPEG comes bit-equal: simplejpeg (the extra `fast`) drives the library that PIL drives, with the same transform and
the same smoothing of colours. A resize takes two passes with a rounding between them. In the first none may differ, as
the second could double it; so PIL makes it, in fixed point of 22 bits, and only the second is torch's, in 15.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from eyespot.contracts.shapes import UInt8

MODES = ("bilinear", "bicubic")  # torch knows the others not, or not for bytes


def resize(
    pixels: UInt8[np.ndarray, "height width 3"], height: int, width: int, resample: str
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """`pixels` at another size, as PIL's `resample` gives them to within 1."""
    filter_ = Image.Resampling[resample.upper()]
    if resample not in MODES:
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), filter_))
    old_height, old_width = pixels.shape[:2]
    if width != old_width and height != old_height:
        first = (old_width, height) if _down_first(old_height, old_width, height, width) else (width, old_height)
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(first, filter_))
    return _one_pass(pixels, height, width, resample)


def _down_first(old_height: int, old_width: int, height: int, width: int) -> bool:
    """Whether PIL's first pass is the vertical one, which depends on its version."""
    if height >= old_height:
        return False
    weighed = old_height - height > 2 * (old_width - width)
    return weighed if _weighs() else old_height > 100 * old_width


@cache
def _weighs() -> bool:
    """Whether this PIL weighs what either pass would save (13), or does all but the tallest across first (12)."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8))
    across, whole = picture.resize((18, 40)).resize((18, 5)), picture.resize((18, 5))
    return not np.array_equal(np.asarray(across), np.asarray(whole))


def _one_pass(pixels: np.ndarray, height: int, width: int, resample: str) -> np.ndarray:
    """Along one axis; the other has its length already."""
    if pixels.shape[:2] == (height, width):
        return pixels
    writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of what it could not write to
    planes = torch.from_numpy(np.ascontiguousarray(writable)).permute(2, 0, 1)[None]
    made = functional.interpolate(planes, (height, width), mode=resample, antialias=True)
    return np.ascontiguousarray(made[0].permute(1, 2, 0).numpy())


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "height width 3"] | None:
    """The pixels of a JPEG in colour; None where PIL must say what is wrong, or where the library is absent."""
    library = _library()
    if library is None:
        return None
    try:
        return library.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        return None


@cache
def _library() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
