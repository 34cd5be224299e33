"""The resize, pad and crop of published image processors, bit-equal to `transformers`' PIL back end.

Works on upright uint8 RGB; decoding is `decode`'s, scaling to floats `patches`'. PIL's `resize` is called on the whole
canvas, since the order of its two passes, and with it the rounding between them, is its own affair. The surprising
choice: where that canvas would be huge (a 1,000 × 12,000 screenshot padded to a square, a 20,000 × 8 line scaled to a
short edge of 224), the passes are made here, in strips: equal but for that rounding, instead of a refusal.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import Transform
from eyespot.contracts.shapes import UInt8
from eyespot.errors import EyespotError
from eyespot.inputs.fast import resize as fast_resize
from eyespot.runtime.limits import LIMITS, Limits

FILTERS = {
    name: Image.Resampling[name.upper()] for name in ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
}
WHOLE_PIXELS = 1 << 26  # a larger canvas, before or after the resize, is worked in strips; no limit, as it changes bits
_FINENESS = 1e-5  # of the scale that fits a picture into a number of patches
STRIP_PIXELS = 1 << 22  # of one strip's input or output, whichever is longer
MAX_RATIO = 200  # of the sides of a picture that is resized to whole blocks


@dataclass(frozen=True, slots=True)
class _Axis:
    """What happens along one axis: pad both ends, resample to `length`, then take `start` … `start + size`.

    `start` may be negative and the window may reach past the end: what lies outside is black, as in HF's crop.
    """

    original: int
    before: int
    after: int
    length: int
    start: int
    size: int

    @property
    def padded(self) -> int:
        return self.before + self.original + self.after

    @property
    def scale(self) -> float:
        return self.length / self.padded

    @property
    def kept(self) -> slice:
        """Of the resampled line, what the window holds."""
        return slice(max(self.start, 0), min(self.start + self.size, self.length))

    @property
    def inside(self) -> slice:
        """Of the window, what the line fills."""
        return slice(self.kept.start - self.start, self.kept.stop - self.start)

    @property
    def offset(self) -> float:
        return self.before * self.scale - self.start


def resize_image(
    pixels: UInt8[np.ndarray, "height width 3"],
    rule: ImageRule,
    *,
    limits: Limits = LIMITS,
    name: str = "",
    count: int = 1,
) -> tuple[UInt8[np.ndarray, "new_height new_width 3"], Transform]:
    """`pixels` as the model's input, and how points of the original map to it; `count` frames may share a bound.

    Raises:
        EyespotError: ``media-size`` where the rule forbids a resize and the size differs, or the sides are too unlike
            for ``dynamic``; ``media-too-large`` where the picture is so long and thin that the resized one would pass
            ``limits.max_side``.
    """
    y, x = _plan(*pixels.shape[:2], rule, name, count)
    _check_sides(y, x, limits, name)
    result = _resized(pixels, y, x, rule.pad_color, rule.resample, rule.pixels == "fast")
    return result, Transform(scale=(x.scale, y.scale), offset=(x.offset, y.offset))


def resized_size(
    height: int, width: int, rule: ImageRule, name: str = "", count: int = 1
) -> tuple[tuple[int, int], Transform]:
    """(height, width) that `resize_image` gives a picture of this size, and how points map to it."""
    y, x = _plan(height, width, rule, name, count)
    return (y.size, x.size), Transform(scale=(x.scale, y.scale), offset=(x.offset, y.offset))


def place_image(
    pixels: UInt8[np.ndarray, "height width 3"],
    size: tuple[int, int],
    canvas: tuple[int, int],
    resample: str,
    *,
    fast: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
) -> UInt8[np.ndarray, "canvas_height canvas_width 3"]:
    """`pixels` resized to `size` in the middle of a black canvas, both (height, width); an odd pixel goes to the end.

    Raises:
        EyespotError: ``media-too-large`` as `resize_image`.
    """
    y, x = (
        _Axis(original, 0, 0, length, -((side - length) // 2), side)
        for original, length, side in zip(pixels.shape, size, canvas, strict=False)
    )
    _check_sides(y, x, limits, name)
    return _resized(pixels, y, x, (0, 0, 0), resample, fast)


def _check_sides(y: _Axis, x: _Axis, limits: Limits, name: str) -> None:
    longest = max(x.length, y.length, x.padded, y.padded)
    if longest > limits.max_side:
        raise EyespotError(
            "media-too-large",
            f"a {x.original} x {y.original} picture becomes {x.length} x {y.length} before the crop, "
            f"more than {limits.max_side} on a side",
            where=name,
            remedy="Cut the picture into less elongated pieces, or raise limits.max_side.",
        )


def _resized(
    pixels: np.ndarray, y: _Axis, x: _Axis, color: tuple[int, int, int], resample: str, fast: bool
) -> np.ndarray:
    if max(x.length * y.length, x.padded * y.padded) > WHOLE_PIXELS:
        return _in_strips(pixels, y, x, color, FILTERS[resample])
    return _whole(pixels, y, x, color, resample, fast)


def _plan(height: int, width: int, rule: ImageRule, name: str, count: int = 1) -> tuple[_Axis, _Axis]:
    """The (y, x) axes of the rule for a picture of this size."""
    if rule.resize == "none":
        if (height, width) != tuple(rule.size):
            raise EyespotError(
                "media-size",
                f"the model takes pictures of {rule.size[1]} x {rule.size[0]} only, this one has {width} x {height}",
                where=name,
            )
        return _Axis(height, 0, 0, height, 0, height), _Axis(width, 0, 0, width, 0, width)
    if rule.resize in ("exact", "patches", "dynamic"):
        new_height, new_width = rule.size
        if rule.max_patches is not None:
            new_height, new_width = whole_patches_size(height, width, rule.patch_size, rule.max_patches)
        elif rule.resize == "dynamic":
            new_height, new_width = _dynamic_size(height, width, rule, name, count)
        return _Axis(height, 0, 0, new_height, 0, new_height), _Axis(width, 0, 0, new_width, 0, new_width)
    pads = _square_pads(height, width) if rule.resize == "pad" else ((0, 0), (0, 0))
    canvas = height + sum(pads[0]), width + sum(pads[1])
    lengths = shortest_edge_size(*canvas, rule.shortest_edge or min(rule.size))
    axes = []
    for original, (before, after), length, wanted in zip((height, width), pads, lengths, rule.size, strict=True):
        start, size = ((length - wanted) // 2, wanted) if rule.crop else (0, length)
        axes.append(_Axis(original, before, after, length, start, size))
    return axes[0], axes[1]


def _dynamic_size(height: int, width: int, rule: ImageRule, name: str, count: int) -> tuple[int, int]:
    factor, span = rule.patch_size * rule.merge_size, rule.temporal_patch_size
    if rule.shared_pixels:
        if count < span:
            message = f"a video of {count} frames, a patch of this model spans {span}"
            raise EyespotError("media-size", message, where=name, remedy="Give more frames, or a picture.")
        height, width = at_least(height, width, factor)
    if max(height, width) > MAX_RATIO * min(height, width):
        raise EyespotError(
            "media-size",
            f"the sides of a {width} x {height} picture differ more than {MAX_RATIO}-fold",
            where=name,
            remedy="Cut the picture into less elongated pieces.",
        )
    assert rule.min_pixels is not None and rule.max_pixels is not None, "the rule has checked that"
    bounds = rule.min_pixels, rule.max_pixels
    if rule.shared_pixels:
        return smart_resize_frames(count, height, width, factor, span, *bounds)
    return smart_resize(height, width, factor, *bounds)


def at_least(height: int, width: int, least: int) -> tuple[int, int]:
    """Sides scaled up, and cut to whole pixels, until both are `least`."""
    if min(height, width) >= least:
        return height, width
    scale = max(least / height, least / width)
    return int(height * scale), int(width * scale)


def smart_resize_frames(
    count: int, height: int, width: int, factor: int, span: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """As `smart_resize` for `count` frames whose areas together are within bounds (Qwen3-VL).

    What is held against the bounds are whole times of `span` frames, halves to the even time; what is scaled by are
    the frames that there are.
    """
    sides = [round(side / factor) * factor for side in (height, width)]
    area = round(count / span) * span * sides[0] * sides[1]
    if area > max_pixels:
        shrink = math.sqrt(count * height * width / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)]
    elif area < min_pixels:
        grow = math.sqrt(min_pixels / (count * height * width))
        sides = [math.ceil(side * grow / factor) * factor for side in (height, width)]
    return sides[0], sides[1]


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) in multiples of `factor`, near the picture's own, their area within bounds (Qwen2-VL).

    Halves go to the even multiple, as Python's `round` does: 42 becomes 56 and 70 becomes 56 with a factor of 28. A
    side that rounds to nothing makes the area too small, and grows.
    """
    sides = [round(side / factor) * factor for side in (height, width)]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)]
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        sides = [math.ceil(side * grow / factor) * factor for side in (height, width)]
    return sides[0], sides[1]


def shortest_edge_size(height: int, width: int, edge: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `edge`; the longer is truncated, not rounded, as published."""
    short, long = sorted((height, width))
    new_long = int(edge * long / short)
    return (new_long, edge) if width <= height else (edge, new_long)


def whole_patches_size(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """(height, width) in whole patches, at most `most`, of the picture scaled as far up as these allow.

    Each side is rounded up to whole patches by itself. The scale is searched by halving as published (1e-6 to 100, to
    within 1e-5), which decides near a border.
    """

    def counts(scale: float) -> tuple[int, int]:
        return max(math.ceil(height * scale / patch), 1), max(math.ceil(width * scale / patch), 1)

    low, high = _FINENESS / 10, 100.0
    while high - low >= _FINENESS:
        scale = (low + high) / 2
        rows, columns = counts(scale)
        low, high = (scale, high) if rows * columns <= most else (low, scale)
    rows, columns = counts(low)
    return rows * patch, columns * patch


def _square_pads(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) that make the picture a square; an odd pixel goes to the end."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return (top, side - height - top), (left, side - width - left)


def _whole(
    pixels: np.ndarray, y: _Axis, x: _Axis, color: tuple[int, int, int], resample: str, fast: bool
) -> np.ndarray:
    """Pad, resize, crop: the published way."""
    if (y.padded, x.padded) != (y.original, x.original):
        canvas = np.empty((y.padded, x.padded, 3), np.uint8)
        canvas[:] = color
        canvas[y.before : y.before + y.original, x.before : x.before + x.original] = pixels
        pixels = canvas
    if fast:
        pixels = fast_resize(pixels, y.length, x.length, resample)
    elif (y.length, x.length) != pixels.shape[:2]:
        made = Image.fromarray(np.ascontiguousarray(pixels)).resize((x.length, y.length), FILTERS[resample])
        pixels = np.asarray(made)
    result = np.zeros((y.size, x.size, 3), np.uint8)
    result[y.inside, x.inside] = pixels[y.kept, x.kept]
    return result


def _in_strips(
    pixels: np.ndarray, y: _Axis, x: _Axis, color: tuple[int, int, int], filter_: Image.Resampling
) -> np.ndarray:
    """The same, first along the longer side, then the other; without a canvas, and keeping nothing a crop discards."""
    if pixels.shape[0] > pixels.shape[1]:
        return np.ascontiguousarray(_in_strips(pixels.swapaxes(0, 1), x, y, color, filter_).swapaxes(0, 1))
    along_x = _pass(pixels, x, color, filter_)
    return np.ascontiguousarray(_pass(along_x.swapaxes(0, 1), y, color, filter_).swapaxes(0, 1))


def _pass(pixels: np.ndarray, axis: _Axis, color: tuple[int, int, int], filter_: Image.Resampling) -> np.ndarray:
    """Pad, resample and crop along the second axis of (rows, columns, 3).

    Rows do not touch each other here, and a row of one colour stays so: hence a pad above and below waits for the
    other pass, and strips of rows give what all rows at once would.
    """
    result = np.zeros((len(pixels), axis.size, 3), np.uint8)
    step = max(1, STRIP_PIXELS // max(axis.padded, axis.length))
    for at in range(0, len(pixels), step):
        strip = np.empty((len(pixels[at : at + step]), axis.padded, 3), np.uint8)
        strip[:] = color
        strip[:, axis.before : axis.before + axis.original] = pixels[at : at + step]
        resized = Image.fromarray(strip).resize((axis.length, len(strip)), filter_)
        result[at : at + step, axis.inside] = np.asarray(resized)[:, axis.kept]
    return result
