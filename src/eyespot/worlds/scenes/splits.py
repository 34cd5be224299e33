"""What keeps splits apart: lists of objects by hash, and pairs, counts and places that training never draws.

A scene's list of objects (shape, colour, size and sixteenth of the picture of each) hashes into one of ten buckets,
and every bucket belongs to one split, so no list is ever shared. Pairs, counts and places are apart by rule.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from eyespot.errors import EyespotError, nearest
from eyespot.worlds.scenes import words

BUCKETS = 10
_SHAPES, _COLOURS = tuple(words.SHAPES), tuple(words.COLOURS)

# One colour in six of every shape: 16.7 % of all pairs, and of any six neighbouring colours. Among them: red star.
HELD_OUT_PAIRS = frozenset(
    (colour, shape) for s, shape in enumerate(_SHAPES) for c, colour in enumerate(_COLOURS) if (c + s + 3) % 6 == 0
)
# Training never shows exactly so many of this shape.
HELD_OUT_COUNTS = frozenset((shape, (0, 3, 2)[i % 3]) for i, shape in enumerate(_SHAPES) if i % 3)
# Training never shows this shape in this quarter of the picture.
QUARTERS = ("top left", "bottom right", "top right", "bottom left")
HELD_OUT_PLACES = frozenset((shape, QUARTERS[i // 2 % 4]) for i, shape in enumerate(_SHAPES) if i % 2 == 0)


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the world.

    Attributes:
        name: as users write it.
        buckets: of lists of objects that belong to it; None where a rule keeps it apart.
        new_looks: grounds and fonts are those never used in training.
        focus: what of `ScenesConfig.held_out` every picture shows and every question is about.
    """

    name: str
    buckets: tuple[int, ...] | None
    new_looks: bool
    focus: Literal["pairs", "counts", "places"] | None = None


SPLITS = {
    split.name: split
    for split in (
        Split("train", (0, 1, 2, 3, 4, 5, 6), new_looks=False),
        Split("dev", (7,), new_looks=False),  # to choose by, so that the splits below are looked at once
        Split("heldout", (8, 9), new_looks=True),
        Split("compositions", None, new_looks=True, focus="pairs"),
        Split("counts", None, new_looks=True, focus="counts"),
        Split("places", None, new_looks=True, focus="places"),
    )
}


def get_split(name: str, held_out: tuple[str, ...]) -> Split:
    """The split of this name, which the configuration must keep out of training."""
    if name not in SPLITS:
        raise EyespotError("config-value", f"unknown split {name!r}{nearest(name, SPLITS)}", where="split")
    split = SPLITS[name]
    if split.focus and split.focus not in held_out:
        remedy = f"Add {split.focus!r} to held_out, and train with that."
        raise EyespotError("config-value", f"training does not keep {split.focus} out", where=name, remedy=remedy)
    return split


def quarter(x: float, y: float) -> str:
    """The quarter of the picture of a place given in shares of width and height."""
    return f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"


def cell(x: float, y: float) -> int:
    """The sixteenth of the picture of a place given in shares of width and height."""
    return min(int(x * 4), 3) + 4 * min(int(y * 4), 3)


def bucket(objects: Iterable[tuple[str, str, str, int]]) -> int:
    """The bucket of a list of (shape, colour, size, cell), whatever its order."""
    return zlib.crc32(repr(sorted(objects)).encode()) % BUCKETS
