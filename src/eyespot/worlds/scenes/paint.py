"""From a scene to pixels: the ground, then each object through a mask drawn three times too large and shrunk.

Only the objects are supersampled, which keeps a 64 × 64 picture well below a millisecond.
"""

from random import Random

import numpy as np
from PIL import Image, ImageDraw

from eyespot.worlds.scenes import grounds, lettering, palette, shapes
from eyespot.worlds.scenes.objects import Scene, Thing

FAINT = 95  # an object nearer than this to its ground, in RGB, gets a rim


def paint(scene: Scene, rng: Random) -> np.ndarray:
    """The picture, uint8 (height, width, 3)."""
    picture = grounds.ground(scene.ground, scene.new_looks, rng, scene.width, scene.height)
    if scene.word:
        lettering.write(picture, scene.font, scene.word, scene.word_box, rng)
    for thing in scene.things:
        draw_thing(picture, thing, rng)
    return np.array(picture)


def draw_thing(picture: Image.Image, thing: Thing, rng: Random) -> None:
    """Lay one object on the picture."""
    scale = 3 if thing.radius < 40 else 2
    box = thing.box
    left, top = int(box.x1) - 1, int(box.y1) - 1
    size = (int(box.x2) - left + 2, int(box.y2) - top + 2)
    large = (size[0] * scale, size[1] * scale)
    path = [((z.real - left) * scale - 0.5, (z.imag - top) * scale - 0.5) for z in thing.outline]
    mask = Image.new("L", large)
    draw = ImageDraw.Draw(mask)
    if thing.style == "hollow":
        _stroke(draw, path, thing.line * scale)
    else:
        draw.polygon(path, fill=255)
        if thing.shape == "ring":
            hole = thing.radius * shapes.HOLE * scale
            x, y = (thing.x - left) * scale - 0.5, (thing.y - top) * scale - 0.5
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    mask = mask.reduce(scale)
    at = (left, top)
    below: palette.RGB = (
        picture.crop((left, top, left + size[0], top + size[1])).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    )  # type: ignore[assignment]
    middle, dark, light = thing.rgb
    faint = palette.distance(middle, below) < FAINT
    if faint and thing.style == "hollow":  # a rim below, as it would hide a line drawn above
        _rim(picture, thing, path, at, large, scale, palette.contrast(middle), thing.line + max(0.14 * thing.radius, 1))
    if thing.texture in ("plain", "outlined"):
        picture.paste(middle, (*at, left + size[0], top + size[1]), mask)
    else:
        picture.paste(_textured(thing, size, scale, dark, light, rng), at, mask)
    if thing.texture == "outlined" or (faint and thing.style != "hollow"):
        line = thing.line or max(0.09 * thing.radius, 0.8)
        _rim(picture, thing, path, at, large, scale, palette.contrast(middle), line)


def _stroke(draw: ImageDraw.ImageDraw, path: list[tuple[float, float]], width: float) -> None:
    """The closed path as a line with round corners."""
    draw.line([*path, path[0], path[1]], fill=255, width=max(1, round(width)), joint="curve")


def _rim(
    picture: Image.Image,
    thing: Thing,
    path: list[tuple[float, float]],
    at: tuple[int, int],
    large: tuple[int, int],
    scale: int,
    colour: palette.RGB,
    line: float,
) -> None:
    mask = Image.new("L", large)
    draw = ImageDraw.Draw(mask)
    width = line * scale
    _stroke(draw, path, width)
    if thing.shape == "ring":
        hole = thing.radius * shapes.HOLE * scale + width / 2
        x, y = (thing.x - at[0]) * scale - 0.5, (thing.y - at[1]) * scale - 0.5
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), outline=255, width=max(1, round(width)))
    mask = mask.reduce(scale)
    picture.paste(colour, (*at, at[0] + mask.width, at[1] + mask.height), mask)


def _textured(
    thing: Thing, size: tuple[int, int], scale: int, dark: palette.RGB, light: palette.RGB, rng: Random
) -> Image.Image:
    """A tile in two shades of one colour: stripes, dots or a gradient."""
    if thing.texture == "gradient":
        mask = grounds.ramp(rng).resize(size, Image.Resampling.BILINEAR)
    else:
        large = (size[0] * scale, size[1] * scale)
        mask = Image.new("L", large)
        draw = ImageDraw.Draw(mask)
        step = max(thing.radius * (0.42 + 0.16 * rng.random()), 4.0) * scale
        if thing.texture == "striped":
            _stripes(draw, large, step, rng)
        else:
            _dots(draw, large, step, rng)
        mask = mask.reduce(scale)
    if rng.random() < 0.5:
        dark, light = light, dark
    return Image.composite(Image.new("RGB", size, light), Image.new("RGB", size, dark), mask)


def _stripes(draw: ImageDraw.ImageDraw, size: tuple[int, int], step: float, rng: Random) -> None:
    """Bands across the tile, level, upright or slanted either way."""
    width, height = size
    slant = rng.choice((0.0, 1.0, -1.0, None))
    start, thick = rng.random() * step, max(2, int(step / 2))
    length = height if slant is None else width
    for k in range(-int(length / step) - 2, int((height + width) / step) + 2):
        at = start + k * step
        if slant is None:
            draw.line((at, 0, at, height), fill=255, width=thick)
        else:
            draw.line((0, at, width, at + slant * width), fill=255, width=thick)


def _dots(draw: ImageDraw.ImageDraw, size: tuple[int, int], step: float, rng: Random) -> None:
    """A grid of discs, every other row shifted."""
    radius, x0, y0 = step * 0.29, rng.random() * step, rng.random() * step
    for row in range(int(size[1] / step) + 2):
        for column in range(int(size[0] / step) + 2):
            x = x0 + (column - 1 + 0.5 * (row % 2)) * step
            y = y0 + (row - 1) * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
