"""Grounds to draw on. Each kind has two forms: one for training, one that only held-out splits show.

Pale, dark or dull, so that objects keep their colour's name; objects too near the ground get a rim (`paint`).
"""

import colorsys
from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from eyespot.worlds import samples
from eyespot.worlds.scenes.palette import RGB

_BANK = 512


def ground(kind: str, new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """A ground of this kind; `new` for the form kept out of training."""
    return KINDS[kind](new, rng, width, height)


def tint(new: bool, rng: Random) -> RGB:
    """A pale, dark or dull colour; sky-blue tints are kept for held-out splits."""
    hue = 0.47 + 0.14 * rng.random() if new else (0.63 + 0.82 * rng.random()) % 1
    kind = rng.random()
    saturation = (0.06 if new else 0.0) + 0.13 * rng.random()
    if kind < 0.65:
        value = 0.8 + 0.19 * rng.random()
    elif kind < 0.85:
        value = 0.08 + 0.16 * rng.random()
    else:
        value = 0.35 + 0.3 * rng.random()
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * r), int(255 * g), int(255 * b)


def near(colour: RGB, rng: Random, reach: int) -> RGB:
    """A colour a little lighter or darker."""
    step = rng.randint(reach // 3, reach) * (1 if rng.random() < 0.5 else -1)
    return _clip(colour[0] + step), _clip(colour[1] + step), _clip(colour[2] + step)


def _clip(value: float) -> int:
    return 0 if value < 0 else 255 if value > 255 else int(value)


def plain(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """One colour."""
    return Image.new("RGB", (width, height), tint(new, rng))


def gradient(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """From one colour to another, along a line; held out: from the middle outwards."""
    first = tint(new, rng)
    second = near(first, rng, 75)
    mask = (_ramps()[4] if new else ramp(rng)).resize((width, height), Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", (width, height), second), Image.new("RGB", (width, height), first), mask)


def ramp(rng: Random) -> Image.Image:
    """A small grey ramp along one of four lines, to be resized."""
    return _ramps()[rng.randrange(4)]


@cache
def _ramps() -> tuple[Image.Image, ...]:
    """Ramps from 0 to 255: down, right, two diagonals; and one around the middle."""
    line = np.linspace(0, 1, 32)
    down, right = np.repeat(line[:, None], 32, 1), np.repeat(line[None], 32, 0)
    round_ = np.clip(np.hypot(down - 0.5, right - 0.5) * 1.6, 0, 1)
    planes = (down, right, (down + right) / 2, (1 + down - right) / 2, round_)
    return tuple(Image.fromarray(np.uint8(255 * p)) for p in planes)


@cache
def _noise() -> np.ndarray:
    """Normal noise to cut from, int16, one standard deviation = 32."""
    return (32 * np.random.default_rng(7).standard_normal((_BANK, _BANK, 3))).astype(np.int16)


def grain(picture: Image.Image, rng: Random, shift: int) -> Image.Image:
    """The picture with noise added; each step of `shift` halves it."""
    array = np.asarray(picture)
    height, width = min(array.shape[0], _BANK), min(array.shape[1], _BANK)
    y, x = rng.randint(0, _BANK - height), rng.randint(0, _BANK - width)
    cut = _noise()[y : y + height, x : x + width] >> shift
    if cut.shape != array.shape:
        cut = np.resize(cut, array.shape)
    return Image.fromarray(np.clip(array + cut, 0, 255).astype(np.uint8))


def noise(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """Fine grain; held out: soft clouds."""
    base = Image.new("RGB", (width, height), tint(new, rng))
    if not new:
        return grain(base, rng, rng.randint(0, 2))
    y, x = rng.randint(0, _BANK - 8), rng.randint(0, _BANK - 8)
    level = base.getpixel((0, 0))
    small = np.clip(np.asarray(level) + (_noise()[y : y + 7, x : x + 7, :1] >> 1), 0, 255).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def lines(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """Faint straight lines; held out: faint arcs."""
    picture = plain(new, rng, width, height)
    _strokes(picture, new, rng, rng.randint(4, 9))
    return picture


def _strokes(picture: Image.Image, new: bool, rng: Random, number: int) -> None:
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    base: RGB = picture.getpixel((0, 0))  # type: ignore[assignment]
    for _ in range(number):
        x, y = rng.random() * width, rng.random() * height
        u, v = rng.random() * width, rng.random() * height
        colour, thick = near(base, rng, 36), rng.randint(1, 2 + min(width, height) // 64)
        if new:
            r = 0.2 * width + 0.5 * width * rng.random()
            draw.arc((x - r, y - r, x + r, y + r), 360 * u / width, 360 * u / width + 150, colour, thick)
        else:
            draw.line((x, y, u, v), colour, thick)


def blobs(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """Faint ovals; held out: faint rectangles."""
    picture = plain(new, rng, width, height)
    _spots(picture, new, rng, rng.randint(3, 8))
    return picture


def _spots(picture: Image.Image, new: bool, rng: Random, number: int) -> None:
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    base: RGB = picture.getpixel((0, 0))  # type: ignore[assignment]
    for _ in range(number):
        x, y = rng.random() * width, rng.random() * height
        a, b = (0.08 + 0.3 * rng.random()) * width, (0.08 + 0.3 * rng.random()) * height
        form = draw.rectangle if new else draw.ellipse
        form((x - a, y - b, x + a, y + b), fill=near(base, rng, 24))


def busy(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """Spots, strokes and grain at once."""
    picture = plain(new, rng, width, height)
    _spots(picture, new, rng, rng.randint(2, 5))
    _strokes(picture, new, rng, rng.randint(3, 7))
    return grain(picture, rng, rng.randint(2, 3))


def photo(new: bool, rng: Random, width: int, height: int) -> Image.Image:
    """A dulled piece of a photograph: of a temple; held out: of a flower."""
    options = _photos()[new]
    whole = options[rng.randrange(len(options))]
    scale = max(width / whole.width, height / whole.height, 1.0)
    w, h = int(width / scale), int(height / scale)
    x, y = rng.randint(0, whole.width - w), rng.randint(0, whole.height - h)
    piece = whole.crop((x, y, x + w, y + h))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return piece if piece.size == (width, height) else piece.resize((width, height), Image.Resampling.BILINEAR)


@cache
def _photos() -> tuple[tuple[Image.Image, ...], tuple[Image.Image, ...]]:
    """Both photographs at three scales, colour and contrast halved so that they hold no object's colour."""
    result = []
    for array in samples.photographs():
        grey = array.mean(axis=2, keepdims=True)
        dull = Image.fromarray(np.uint8(40 + 0.7 * (0.45 * array + 0.55 * grey)))
        result.append(tuple(dull.resize((dull.width // k, dull.height // k), Image.Resampling.BOX) for k in (1, 2, 4)))
    return result[0], result[1]


KINDS: dict[str, Callable[[bool, Random, int, int], Image.Image]] = {
    "plain": plain,
    "gradient": gradient,
    "noise": noise,
    "lines": lines,
    "blobs": blobs,
    "busy": busy,
    "photo": photo,
}
