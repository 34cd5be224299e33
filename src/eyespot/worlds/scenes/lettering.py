"""Words in pictures: which word, in which font, where. Fonts are Pillow's own, or matplotlib's where named."""

from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from eyespot.errors import EyespotError
from eyespot.worlds.scenes import palette, words
from eyespot.worlds.scenes.config import FONTS, ScenesConfig
from eyespot.worlds.scenes.splits import Split

_FILES = {"sans": "DejaVuSans-Bold.ttf", "mono": "DejaVuSansMono-Bold.ttf", "serif": "DejaVuSerif-Bold.ttf"}
_KNOWN_WORDS = tuple(w for i, w in enumerate(words.WRITTEN) if i % 5 != 4)
_NEW_WORDS = tuple(w for i, w in enumerate(words.WRITTEN) if i % 5 == 4)


@lru_cache(maxsize=256)
def font(name: str, size: int) -> Any:
    """A font at a size in pixels; the bitmap font has one size only."""
    if name == "bitmap":
        return ImageFont.load_default_imagefont()
    if name in _FILES:
        return ImageFont.truetype(str(_matplotlib_fonts() / _FILES[name]), size)
    return ImageFont.load_default(size)


@cache
def _matplotlib_fonts() -> Path:
    try:
        from matplotlib import get_data_path
    except ImportError as error:
        raise EyespotError(
            "extra-missing",
            f"the fonts {', '.join(_FILES)} come with matplotlib",
            remedy="pip install matplotlib, or use the fonts aileron, bold, bitmap.",
        ) from error
    return Path(get_data_path()) / "fonts" / "ttf"


@cache
def fonts_of(config: ScenesConfig, new_looks: bool) -> tuple[str, ...]:
    """The configuration's fonts that training uses, or those kept for held-out splits."""
    names = tuple(f for f in config.fonts if FONTS[f][0] == new_looks)
    if not names:
        kind = "held-out" if new_looks else "training"
        raise EyespotError("config-value", f"none of {', '.join(config.fonts)} is a {kind} font", where="fonts")
    return names


@lru_cache(maxsize=1024)
def lettered(name: str, size: int, word: str) -> Image.Image:
    """The word as a mask, cut to its ink; drawn four times too large and shrunk, so that strokes may be fine."""
    large = 4 * size
    mask = Image.new("L", (large * (len(word) + 2), 2 * large))
    if name == "bitmap":  # it has one size only, and no strokes
        small = Image.new("L", (12 * len(word) + 8, 24))
        ImageDraw.Draw(small).text((4, 4), word, fill=255, font=font(name, 11))
        small = small.crop(small.getbbox())
        scale = large / 11
        mask = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    else:
        stroke = max(1, large // 36) if name == "bold" else 0
        ImageDraw.Draw(mask).text((large, large // 2), word, fill=255, font=font(name, large), stroke_width=stroke)
        mask = mask.crop(mask.getbbox())
    return mask.resize((max(1, mask.width // 4), max(1, mask.height // 4)), Image.Resampling.BOX)


def choose(
    config: ScenesConfig, split: Split, rng: Random, width: int, height: int
) -> tuple[str, str, tuple[int, int, int, int]]:
    """A font with its size (``aileron@14``), a word, and the box that it fills."""
    name = rng.choice(fonts_of(config, split.new_looks))
    word = rng.choice(_NEW_WORDS if split.new_looks else _KNOWN_WORDS)
    size = max(11, round(min(width, height) * (0.13 + 0.08 * rng.random())))
    mask = lettered(name, size, word)
    while mask.width > width - 4 and size > 8:
        size -= 1
        mask = lettered(name, size, word)
    x = rng.randint(2, max(2, width - mask.width - 2))
    y = rng.randint(2, max(2, height - mask.height - 2))
    return f"{name}@{size}", word, (x, y, x + mask.width, y + mask.height)


def write(picture: Image.Image, style: str, word: str, box: tuple[int, int, int, int], rng: Random) -> None:
    """Draw the word where `choose` put it, in near-black or near-white with a faint rim of the other."""
    name, size = style.split("@")
    mask = lettered(name, int(size), word)
    below = picture.crop(box).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    ink: palette.RGB = palette.contrast(below)  # type: ignore[arg-type]
    shift = rng.randint(0, 30)
    picture.paste(tuple(abs(v - shift) for v in ink), (box[0], box[1]), mask)
