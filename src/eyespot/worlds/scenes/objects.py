"""Objects and scenes: what is in a picture before anything is drawn. All truth comes from here."""

import cmath
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

from eyespot.contracts.coordinates import BoxAbs
from eyespot.worlds.scenes import palette, shapes, splits
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.splits import Split

# Radius as a share of the picture's shorter side; the gaps keep the words apart.
RADII = {"small": (0.1, 0.13), "medium": (0.165, 0.205), "large": (0.28, 0.34)}
REACH = 1.16  # the farthest that any outline goes, in radii
NOT_HOLLOW = frozenset({"circle", "ring", "cross", "arrow", "crescent"})  # a hollow circle is a ring


@dataclass(frozen=True)
class Thing:
    """One object: what it is called, where it is (centre and radius in pixels), how it is drawn."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    texture: str = "plain"
    style: str = "clean"
    angle: float = 0.0
    phases: tuple[float, float] = (0.0, 0.0)
    rgb: tuple[palette.RGB, palette.RGB, palette.RGB] = ((0, 0, 0), (0, 0, 0), (0, 0, 0))  # middle, dark, light

    @property
    def pair(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.colour, self.shape

    @property
    def line(self) -> float:
        """Width of the drawn outline in pixels; 0 where there is none."""
        if self.style == "hollow":
            return max(0.3 * self.radius, 2.0)
        return max(0.13 * self.radius, 1.0) if self.texture == "outlined" else 0.0

    @cached_property
    def outline(self) -> list[complex]:
        """The corners in pixels."""
        points = shapes.outline(self.shape, self.style == "freehand")
        if self.style == "freehand":
            points = shapes.bent(points, self.phases)
        turn, centre = cmath.rect(self.radius, math.radians(self.angle)), complex(self.x, self.y)
        return [z * turn + centre for z in points]

    @cached_property
    def box(self) -> BoxAbs:
        """The smallest box around what is drawn, half of the outline's width included."""
        xs, ys, more = [z.real for z in self.outline], [z.imag for z in self.outline], self.line / 2
        box = (min(xs) - more, min(ys) - more, max(xs) + more, max(ys) + more)
        return BoxAbs(*(round(v, 2) for v in box))


@dataclass(frozen=True)
class Scene:
    """A picture's truth: its size, its objects, its ground, and a word if one is written.

    `focus` holds the objects that questions may be about: all of them, or those of a held-out composition, whose
    kind (``pairs``, ``counts``, ``places``) `focused` names.
    """

    width: int
    height: int
    things: tuple[Thing, ...]
    focus: tuple[Thing, ...]
    focused: str = ""
    ground: str = "plain"
    new_looks: bool = False
    word: str = ""
    font: str = ""
    word_box: tuple[int, int, int, int] = (0, 0, 0, 0)

    @cached_property
    def shapes(self) -> Counter[str]:
        """How many there are of each shape."""
        return Counter(t.shape for t in self.things)

    @cached_property
    def colours(self) -> Counter[str]:
        """How many there are of each colour."""
        return Counter(t.colour for t in self.things)

    @cached_property
    def pairs(self) -> Counter[tuple[str, str]]:
        """How many there are of each colour and shape."""
        return Counter(t.pair for t in self.things)

    @cached_property
    def sized(self) -> Counter[tuple[str, str]]:
        """How many there are of each size and shape."""
        return Counter((t.size, t.shape) for t in self.things)

    def at(self, thing: Thing) -> tuple[float, float]:
        """The centre of an object in shares of width and height."""
        return thing.x / self.width, thing.y / self.height

    @property
    def objects(self) -> list[tuple[str, str, str, int]]:
        """The list that no two splits share: shape, colour, size and sixteenth of the picture of each object."""
        return sorted((t.shape, t.colour, t.size, splits.cell(*self.at(t))) for t in self.things)

    def describe(self) -> list[dict[str, Any]]:
        """The objects as plain data, for an example's `meta`."""
        return [
            {
                "shape": t.shape,
                "colour": t.colour,
                "size": t.size,
                "texture": t.texture,
                "style": t.style,
                "centre": (round(t.x, 2), round(t.y, 2)),
                "box": (t.box.x1, t.box.y1, t.box.x2, t.box.y2),
            }
            for t in self.things
        ]


def allowed_pairs(config: ScenesConfig, held: bool = False) -> tuple[tuple[str, str], ...]:
    """The configuration's colour–shape pairs that training draws, or those that it never draws."""
    kept_out = splits.HELD_OUT_PAIRS if "pairs" in config.held_out else frozenset()
    pairs = [(c, s) for c in config.colours for s in config.shapes]
    return tuple(p for p in pairs if (p in kept_out) == held)


def dress(thing: Thing, config: ScenesConfig, rng: Random, size: tuple[int, int]) -> Thing:
    """The same object with a texture, a style, a turn and shades of its colour; plainer where it would be cut off."""
    style, texture = rng.choice(config.styles), rng.choice(config.textures)
    if style == "hollow" and (thing.shape in NOT_HOLLOW or thing.radius < 8):
        style = "clean"
    turn = shapes.TURN[thing.shape]
    dressed = replace(
        thing,
        texture="plain" if style == "hollow" else texture,
        style=style,
        angle=(2 * rng.random() - 1) * (turn if rng.random() < 0.5 else turn / 4),
        phases=(6.283 * rng.random(), 6.283 * rng.random()),
        rgb=palette.shades(thing.colour, rng),
    )
    box = dressed.box
    if min(box.x1, box.y1) >= 0 and box.x2 <= size[0] and box.y2 <= size[1]:
        return dressed
    return replace(dressed, style="clean", texture="plain" if texture == "outlined" else dressed.texture)


def breaks_rules(things: list[Thing], width: int, height: int, config: ScenesConfig, split: Split) -> bool:
    """Whether a list of objects does not belong to the split: hashed elsewhere, or a count kept out of training."""
    if "counts" in config.held_out and split.focus != "counts":
        counts = Counter(t.shape for t in things)
        if any(item in splits.HELD_OUT_COUNTS for item in counts.items()):
            return True
    if split.buckets is None:
        return False
    listed = ((t.shape, t.colour, t.size, splits.cell(t.x / width, t.y / height)) for t in things)
    return splits.bucket(listed) not in split.buckets
