"""Sampling of scenes: how many objects, which, of which size, where; without heavy overlap; within a split's rules."""

from functools import cache
from random import Random

from eyespot.errors import EyespotError
from eyespot.worlds.scenes import lettering, splits
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import RADII, REACH, Scene, Thing, allowed_pairs, breaks_rules, dress
from eyespot.worlds.scenes.splits import Split

TRIES = 4000
Plan = list[tuple[str, str]]  # colour and shape of each object, those in focus first


def sample(config: ScenesConfig, split: Split, rng: Random, *, word: bool = False) -> Scene:
    """A scene of this split; with `word`, one in which a word is written."""
    width, height = picture_size(config, rng)
    number = rng.randint(*config.objects)
    font, text, box = lettering.choose(config, split, rng, width, height) if word else ("", "", (0, 0, 0, 0))
    for _ in range(TRIES):
        plan, focus, spot = plan_objects(config, split, rng, number)
        things = place(plan, config, split, rng, (width, height), box if word else None, spot)
        if things is None or breaks_rules(things, width, height, config, split):
            continue
        dressed = tuple(dress(t, config, rng, (width, height)) for t in things)
        about = dressed[:focus] if focus else dressed
        ground = rng.choice(config.grounds)
        return Scene(width, height, dressed, about, split.focus or "", ground, split.new_looks, text, font, box)
    raise EyespotError(
        "config-value",
        f"no scene of split {split.name!r} fits this configuration",
        where="scenes",
        remedy="Allow fewer or smaller objects, more shapes and colours, or fewer held-out rules.",
    )


def picture_size(config: ScenesConfig, rng: Random) -> tuple[int, int]:
    """Width and height in pixels; the shorter side and the aspect are within the configuration's range."""
    side = rng.randint(*config.sides)
    low, high = config.aspect
    aspect = low + (high - low) * rng.random()
    return (round(side * aspect), side) if aspect >= 1 else (side, round(side / aspect))


@cache
def _pairs(config: ScenesConfig, held: bool) -> tuple[tuple[str, str], ...]:
    pairs = allowed_pairs(config, held)
    if not pairs:
        kind = "held-out" if held else "known"
        raise EyespotError("config-value", f"these shapes and colours have no {kind} pair", where="scenes")
    return pairs


@cache
def _of_shape(config: ScenesConfig, shape: str) -> tuple[tuple[str, str], ...]:
    return tuple(p for p in _pairs(config, False) if p[1] == shape)


@cache
def _held(config: ScenesConfig, what: str) -> tuple:
    """The held-out counts or places that this configuration can show."""
    if what == "counts":
        return tuple(sorted((s, n) for s, n in splits.HELD_OUT_COUNTS if s in config.shapes and n <= config.objects[1]))
    return tuple(sorted((s, q) for s, q in splits.HELD_OUT_PLACES if s in config.shapes))


def plan_objects(config: ScenesConfig, split: Split, rng: Random, number: int) -> tuple[Plan, int, str]:
    """Colours and shapes; how many of the first are the focus (0: none); the quarter that the first must lie in."""
    known = _pairs(config, False)
    if split.focus == "pairs":
        return [rng.choice(_pairs(config, True)), *rng.choices(known, k=number - 1)], 1, ""
    if split.focus == "counts":
        shape, times = rng.choice(_held(config, "counts"))
        others = [p for p in rng.choices(known, k=max(number - times, 0)) if p[1] != shape]
        return rng.choices(_of_shape(config, shape), k=times) + others, times, ""
    if split.focus == "places":
        shape, spot = rng.choice(_held(config, "places"))
        return [rng.choice(_of_shape(config, shape)), *rng.choices(known, k=number - 1)], 1, spot
    return rng.choices(known, k=number), 0, ""


def place(
    plan: Plan,
    config: ScenesConfig,
    split: Split,
    rng: Random,
    size: tuple[int, int],
    word_box: tuple[int, int, int, int] | None,
    spot: str = "",
) -> list[Thing] | None:
    """Sizes and places for the planned objects, the largest placed first; None where they do not fit."""
    width, height = size
    short = min(size)
    sizes = choose_sizes(config, rng, len(plan))
    radii = [short * (RADII[s][0] + (RADII[s][1] - RADII[s][0]) * rng.random()) for s in sizes]
    placed: dict[int, Thing] = {}
    for index in sorted(range(len(plan)), key=lambda i: -radii[i]):
        colour, shape = plan[index]
        radius = radii[index]
        reach = min(radius * REACH + 1, short / 2)
        for _ in range(8):
            x = reach + (width - 2 * reach) * rng.random()
            y = reach + (height - 2 * reach) * rng.random()
            if not _free(x, y, radius, placed, word_box):
                continue
            quarter = splits.quarter(x / width, y / height)
            wanted = spot if index == 0 else ""
            if wanted and quarter != wanted:
                continue
            if not wanted and "places" in config.held_out and (shape, quarter) in splits.HELD_OUT_PLACES:
                continue
            placed[index] = Thing(shape, colour, sizes[index], x, y, radius)
            break
        else:
            return None
    return [placed[i] for i in range(len(plan))]


def choose_sizes(config: ScenesConfig, rng: Random, number: int) -> list[str]:
    """A size for each object; among three or more at most one is large, as more would hardly ever fit."""
    sizes = rng.choices(config.sizes, k=number)
    smaller = [s for s in config.sizes if s != "large"]
    if number < 3 or not smaller or "large" not in sizes:
        return sizes
    first = sizes.index("large")
    return [rng.choice(smaller) if s == "large" and i != first else s for i, s in enumerate(sizes)]


def _free(x: float, y: float, radius: float, placed: dict[int, Thing], word: tuple[int, int, int, int] | None) -> bool:
    """Whether a disc keeps clear of all others and of the word."""
    for other in placed.values():
        gap = radius + other.radius + 1
        if (x - other.x) ** 2 + (y - other.y) ** 2 < gap * gap:
            return False
    if word is None:
        return True
    dx, dy = max(word[0] - x, 0, x - word[2]), max(word[1] - y, 0, y - word[3])
    return dx * dx + dy * dy >= (radius * 1.05 + 1) ** 2
