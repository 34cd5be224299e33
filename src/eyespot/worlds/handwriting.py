"""The handwriting world: real scanned digits, alone or put together to short numbers, to be read.

The scans are the 1,797 that scikit-learn carries (UCI optical recognition of handwritten digits). The file names no
writers, but those of one writer lie together; so held-out scans are whole stretches of the file, never single ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count as naturals
from random import Random

import numpy as np
from PIL import Image

from eyespot.contracts.config import Config
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.errors import EyespotError, nearest
from eyespot.worlds import samples
from eyespot.worlds.scenes import grounds, palette

STRETCHES = 13
SPLITS = {"train": (0, 1, 2, 4, 6, 8, 9, 10, 12), "dev": (5,), "heldout": (3, 7, 11)}
PHRASINGS = {
    "digit": {
        "en": ("What digit is this?", "Which digit is written here?", "Read the digit."),
        "ko": ("어떤 숫자인가요?", "숫자를 읽어 주세요."),
    },
    "number": {
        "en": ("What number is this?", "Which number is written here?", "Read the number."),
        "ko": ("어떤 수인가요?", "수를 읽어 주세요."),
    },
}


@dataclass(frozen=True)
class HandwritingConfig(Config):
    """What is written and how.

    Attributes:
        types: ``digit``, ``number``; they take turns in held-out splits.
        length: fewest and most digits of a number.
        sides: least and greatest side of the square pictures.
        grounds: kinds of `scenes.grounds`; held-out splits show their other forms.
        slant: greatest lean to either side, as a share of the height.
        languages: ``en``, ``ko``.
    """

    types: tuple[str, ...] = ("digit", "number")
    length: tuple[int, int] = (2, 4)
    sides: tuple[int, int] = (64, 64)
    grounds: tuple[str, ...] = ("plain", "gradient", "noise", "lines", "blobs")
    slant: float = 0.3
    languages: tuple[str, ...] = ("en",)

    def __post_init__(self) -> None:
        """Refuse names that the world does not know."""
        known = {"types": PHRASINGS, "grounds": grounds.KINDS, "languages": ("en", "ko")}
        for key, names in known.items():
            for value in getattr(self, key) or ("",):
                if value not in names:
                    raise EyespotError("config-value", f"unknown {key} {value!r}{nearest(value, names)}", where=key)
        for key, least, most in (("length", 2, 4), ("sides", 16, 4096)):
            low, high = getattr(self, key)
            if not least <= low <= high <= most:
                raise EyespotError("config-value", f"expected {least} ≤ low ≤ high ≤ {most}", where=key)


@cache
def scans_of(split: str) -> tuple[tuple[int, ...], ...]:
    """The indices of a split's scans, by digit."""
    labels = samples.scans()[1]
    borders = np.linspace(0, len(labels), STRETCHES + 1).astype(int)
    indices = np.concatenate([np.arange(borders[k], borders[k + 1]) for k in SPLITS[split]])
    return tuple(tuple(int(i) for i in indices if labels[i] == digit) for digit in range(10))


class Handwriting:
    """Digits and short numbers to read. Example i depends on (split, seed, i) only."""

    name = "handwriting"

    def __init__(self, config: HandwritingConfig | None = None) -> None:
        self.config = config or HandwritingConfig()

    def examples(self, split: str, seed: int = 0, start: int = 0) -> Iterator[Example]:
        """Pictures with one question each, without end; answered in ``train``, with a target in other splits."""
        return (self.example(split, seed, i) for i in naturals(start))

    def example(self, split: str, seed: int, index: int) -> Example:
        """One item of the stream."""
        if split not in SPLITS:
            raise EyespotError("config-value", f"unknown split {split!r}{nearest(split, SPLITS)}", where="split")
        config, rng = self.config, Random(f"{self.name} {(split, seed, index)}")
        kind = config.types[index % len(config.types)]
        digits = [rng.randrange(10) for _ in range(1 if kind == "digit" else rng.randint(*config.length))]
        chosen = [rng.choice(scans_of(split)[d]) for d in digits]
        picture = write(chosen, config, rng, new_looks=split == "heldout")
        language = rng.choice(config.languages)
        question, answer = rng.choice(PHRASINGS[kind][language]), "".join(map(str, digits))
        messages = [Message("user", (MediaRef("image", picture), Text(question)))]
        if split == "train":
            messages.append(Message("assistant", (Text(answer),)))
        meta = {"type": kind, "split": split, "language": language, "answer": answer, "scans": tuple(chosen)}
        target = None if split == "train" else answer
        return Example(f"handwriting-{split}-{seed}-{index}", tuple(messages), target, meta)


@cache
def _ink(index: int) -> Image.Image:
    """A scan four times as large, cut to its ink, its strokes made firm again after the enlargement."""
    small = Image.fromarray(np.pad(samples.scans()[0][index], 1))
    large = small.resize((40, 40), Image.Resampling.BICUBIC).point([_firm(v) for v in range(256)])
    return large.crop(large.getbbox())


def _firm(value: int) -> int:
    """A smooth step from paper to ink."""
    share = min(max((value / 255 - 0.2) / 0.55, 0.0), 1.0)
    return round(255 * share * share * (3 - 2 * share))


def write(chosen: list[int], config: HandwritingConfig, rng: Random, *, new_looks: bool) -> np.ndarray:
    """The scans side by side in one ink on a ground, uint8 (side, side, 3)."""
    side = rng.randint(*config.sides)
    picture = grounds.ground(rng.choice(config.grounds), new_looks, rng, side, side)
    slant = config.slant * (2 * rng.random() - 1)
    height = side * (0.9 - 0.4 * rng.random())
    gap = (0.02 + 0.14 * rng.random()) * height
    inks = [_leaning(_ink(i), slant) for i in chosen]
    widths = [max(i.width * height / 40, 0.2 * height) for i in inks]
    total = sum(widths) + gap * (len(inks) - 1)
    shrink = min(1.0, 0.94 * side / total)
    x = 0.03 * side + (0.94 * side - total * shrink) * rng.random()
    top = 0.05 * side + (0.9 * side - height * shrink) * rng.random()
    colour = _ink_colour(picture, rng)
    for ink, width in zip(inks, widths, strict=True):
        tall = height * shrink * (0.88 + 0.12 * rng.random())
        mask = ink.resize((max(2, round(width * shrink)), max(3, round(tall))), Image.Resampling.BILINEAR)
        y = top + (height * shrink - tall) * rng.random()
        picture.paste(colour, (round(x), round(y), round(x) + mask.width, round(y) + mask.height), mask)
        x += (width + gap) * shrink
    return np.array(picture)


def _leaning(ink: Image.Image, slant: float) -> Image.Image:
    """The digit sheared, its width grown to fit."""
    more = abs(slant) * ink.height
    size = (round(ink.width + more), ink.height)
    shift = -more if slant > 0 else 0.0
    return ink.transform(size, Image.Transform.AFFINE, (1, slant, shift, 0, 1, 0), Image.Resampling.BILINEAR)


def _ink_colour(picture: Image.Image, rng: Random) -> palette.RGB:
    """An ink that stands out from the ground: black, blue or brown on pale, chalk on dark."""
    level = picture.resize((1, 1), Image.Resampling.BOX).convert("L").getpixel((0, 0))
    if level > 110:  # type: ignore[operator]
        return rng.choice(((20, 20, 26), (24, 36, 110), (70, 38, 20), (40, 44, 52)))
    return rng.choice(((244, 244, 240), (250, 240, 190), (200, 224, 250)))
