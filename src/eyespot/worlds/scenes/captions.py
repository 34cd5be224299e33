"""Captions of scenes: a short list, and a description with sizes and places. Objects go from left to right."""

from typing import Any

from eyespot.worlds.scenes import words
from eyespot.worlds.scenes.objects import Scene, Thing

_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def ninth(x: float, y: float) -> str:
    """The name of the ninth of the picture that a place (in shares of width and height) is in."""
    row, column = _ROWS[min(int(3 * y), 2)], _COLUMNS[min(int(3 * x), 2)]
    return f"{row} {column}".strip() or "middle"


def in_order(scene: Scene) -> list[Thing]:
    """The objects from left to right."""
    return sorted(scene.things, key=lambda t: (t.x, t.y))


def caption(scene: Scene, language: str) -> str:
    """``a red star and a blue circle``."""
    phrases = [_phrase(t, language) for t in in_order(scene)]
    if language == "ko":
        return ", ".join(phrases)
    return _listed([f"{words.article(p)} {p}" for p in phrases])


def description(scene: Scene, language: str) -> str:
    """``a small red star at the top left and a large blue circle in the middle``."""
    parts = []
    for thing in in_order(scene):
        place = words.PLACES[ninth(*scene.at(thing))]
        sized = f"{words.size_word(thing.size, language)} {_phrase(thing, language)}"
        parts.append(f"{place[3]} {sized}" if language == "ko" else f"{words.article(sized)} {sized} {place[1]}")
    return ", ".join(parts) if language == "ko" else _listed(parts)


def truth(scene: Scene, language: str, said: str) -> dict[str, Any]:
    """What a caption is compared with: a reference, and the phrases of all objects that it must name."""
    return {"reference": said, "phrases": tuple(_phrase(t, language) for t in in_order(scene))}


def _phrase(thing: Thing, language: str) -> str:
    return f"{words.colour_word(thing.colour, language)} {words.shape_word(thing.shape, language)}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
