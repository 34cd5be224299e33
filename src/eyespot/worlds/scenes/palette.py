"""Colours as ranges that keep their name: a hue range and two ends of shade, nowhere near the next colour's."""

import colorsys
from dataclasses import dataclass
from random import Random

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Colour:
    """Hue in degrees from `low` to `high`; (saturation, value) of the darkest and lightest shade with this name."""

    low: float
    high: float
    dark: tuple[float, float]
    light: tuple[float, float]

    def at(self, hue: float, shade: float) -> RGB:
        """The colour at a share of the hue range, from dark (0) to light (1)."""
        saturation = self.dark[0] + (self.light[0] - self.dark[0]) * shade
        value = self.dark[1] + (self.light[1] - self.dark[1]) * shade
        h = ((self.low + (self.high - self.low) * hue) % 360) / 360
        r, g, b = colorsys.hsv_to_rgb(h, saturation, value)
        return int(255 * r), int(255 * g), int(255 * b)


PALETTE = {
    "red": Colour(352, 364, (1.0, 0.66), (0.78, 1.0)),
    "green": Colour(108, 142, (1.0, 0.42), (0.62, 0.85)),
    "blue": Colour(216, 236, (1.0, 0.55), (0.62, 1.0)),
    "yellow": Colour(51, 57, (1.0, 0.86), (0.6, 1.0)),
    "purple": Colour(271, 287, (0.95, 0.45), (0.55, 0.85)),
    "orange": Colour(23, 32, (1.0, 0.9), (0.8, 1.0)),
    "pink": Colour(326, 344, (0.52, 0.98), (0.3, 1.0)),
    "brown": Colour(21, 29, (0.85, 0.3), (0.62, 0.52)),
    "cyan": Colour(178, 188, (1.0, 0.72), (0.5, 1.0)),
    "grey": Colour(0, 360, (0.04, 0.4), (0.03, 0.66)),
    "white": Colour(0, 360, (0.03, 0.9), (0.0, 1.0)),
    "black": Colour(0, 360, (0.2, 0.02), (0.1, 0.17)),
}


def shades(colour: str, rng: Random) -> tuple[RGB, RGB, RGB]:
    """A middle, a dark and a light shade of one hue, all of this name."""
    entry, hue = PALETTE[colour], rng.random()
    return entry.at(hue, 0.25 + 0.5 * rng.random()), entry.at(hue, 0.0), entry.at(hue, 1.0)


def distance(a: RGB, b: RGB) -> float:
    """Plain distance in RGB, 0 to 442."""
    return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2) ** 0.5


def contrast(colour: RGB) -> RGB:
    """A near-black or near-white that stands out from `colour`."""
    return (24, 24, 28) if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 110 else (240, 240, 236)
