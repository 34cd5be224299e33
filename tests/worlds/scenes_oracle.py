"""Answers questions about scenes from their text and the list of objects, in its own way: the oracle of the tests."""

import re
from collections import Counter

from eyespot.contracts.message import Example
from eyespot.worlds.scenes import words

PLURALS = {entry[1]: name for name, entry in words.SHAPES.items()}
AT = {entry[1]: name for name, entry in words.PLACES.items()}
ORDER = ["small", "medium", "large"]


def _any(options) -> str:
    return "|".join(sorted(options, key=len, reverse=True))


_NOUN = f"(?:(?:{_any([*words.SIZES, *words.COLOURS])}) )?(?:{_any([*words.SHAPES, 'object'])})"
_GAPS = {
    "it": _NOUN,
    "other": _NOUN,
    "them": f"{_any(PLURALS)}|(?:{_any(words.COLOURS)}) objects",
    "others": _any(PLURALS),
    "colour": _any(words.COLOURS),
    "shape": _any(words.SHAPES),
    "a": "an?",
    "place": _any(AT),
    "relation": _any(entry[0] for entry in words.RELATIONS.values()),
}


def read(text: str) -> tuple[str, dict[str, str]]:
    """Which phrasing this is, and the words in its gaps."""
    for kind, by_language in words.PHRASINGS.items():
        for template in by_language["en"]:
            pattern = re.sub(r"\\{(\w+)\\}", lambda gap: f"(?P<{gap[1]}>{_GAPS[gap[1]]})", re.escape(template))
            found = re.fullmatch(pattern, text)
            if found:
                return kind, found.groupdict()
    raise AssertionError(f"no phrasing reads {text!r}")


def named(phrase: str, objects: list[dict]) -> dict:
    """The only object that a noun phrase can mean."""
    *first, last = phrase.split()
    found = [
        o for o in objects if last in ("object", o["shape"]) and all(word in (o["colour"], o["size"]) for word in first)
    ]
    assert len(found) == 1, f"{phrase!r} may mean {len(found)} objects"
    return found[0]


def number(phrase: str, objects: list[dict]) -> int:
    """How many objects a plural means."""
    if phrase.endswith(" objects"):
        return sum(o["colour"] == phrase.removesuffix(" objects") for o in objects)
    return sum(o["shape"] == PLURALS[phrase] for o in objects)


def place(thing: dict, size: tuple[int, int]) -> str:
    """The ninth of the picture."""
    x, y = thing["centre"][0] / size[0], thing["centre"][1] / size[1]
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    return f"{row} {column}".strip() or "middle"


def answer(example: Example) -> str:
    """The answer to an example's question, from its objects."""
    objects, size = example.meta["objects"], example.meta["size"]
    kind, gaps = read(example.messages[-1].text)
    if kind == "count":
        return str(len(objects))
    if kind == "count_of":
        return str(number(gaps["them"], objects))
    if kind == "existence":
        assert gaps["a"] == ("an" if gaps["colour"] == "orange" else "a")
        return yes((gaps["colour"], gaps["shape"]) in {(o["colour"], o["shape"]) for o in objects})
    if kind in ("what_at", "colour_at", "shape_at"):
        there = [o for o in objects if place(o, size) == AT[gaps["place"]]]
        assert len(there) == 1
        parts = {"what_at": ("colour", "shape"), "colour_at": ("colour",), "shape_at": ("shape",)}[kind]
        return " ".join(there[0][p] for p in parts)
    if kind == "more":
        return yes(number(gaps["them"], objects) > number(gaps["others"], objects))
    if kind == "text":
        return example.meta["word"]
    if kind == "shape":
        return named(f"{gaps['colour']} object", objects)["shape"]
    return about_named(kind, gaps, objects, size)


def about_named(kind: str, gaps: dict[str, str], objects: list[dict], size: tuple[int, int]) -> str:
    """Answers to questions that name one object or two."""
    it = named(gaps["it"], objects)
    if kind in ("colour", "size"):
        return it[kind]
    if kind == "where":
        return place(it, size)
    if kind in ("side", "height"):
        axis = kind == "height"
        return (("left", "right"), ("top", "bottom"))[axis][it["centre"][axis] > size[axis] / 2]
    other = named(gaps["other"], objects)
    assert other is not it
    if kind == "same colour":
        return yes(it["colour"] == other["colour"])
    if kind == "same shape":
        return yes(it["shape"] == other["shape"])
    if kind == "larger":
        assert it["size"] != other["size"]
        return gaps["it"] if ORDER.index(it["size"]) > ORDER.index(other["size"]) else gaps["other"]
    assert kind == "relation"
    a, b = it["centre"], other["centre"]
    truth = {"to the left of": a[0] < b[0], "to the right of": a[0] > b[0], "above": a[1] < b[1], "below": a[1] > b[1]}
    return yes(truth[gaps["relation"]])


def yes(true: bool) -> str:
    return "yes" if true else "no"


def phrases(objects: list[dict]) -> Counter:
    """Colour and shape of every object."""
    return Counter(f"{o['colour']} {o['shape']}" for o in objects)
