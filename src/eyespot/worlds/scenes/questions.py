"""Questions about one object or about the whole picture. Asked only where the answer is the only right one.

Each is a function `(Asker) -> Question | None`; None where the scene does not allow it.
"""

from collections.abc import Callable
from functools import cache

from eyespot.contracts.coordinates import BoxAbs
from eyespot.worlds.scenes import captions, words
from eyespot.worlds.scenes.asking import Asker, Question
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Thing, allowed_pairs

MIDDLE = 0.08  # nobody is asked about the side of what lies nearer to the middle line than this share of the picture
BORDER = 0.035  # nor about the ninth of what lies nearer to a ninth's border


def colour(ask: Asker) -> Question | None:
    """The colour of an object named by its shape, or by size and shape."""
    thing = ask.some(ask.scene.focus)
    it = thing and ask.name(thing, "shape", "sized")
    if thing is None or it is None:
        return None
    return ask.said("colour", ask.phrase("colour", it=it), ask.colour(thing.colour), thing)


def shape(ask: Asker) -> Question | None:
    """The shape of the only object of its colour."""
    thing = ask.some([t for t in ask.scene.focus if ask.scene.colours[t.colour] == 1])
    if thing is None:
        return None
    return ask.said("shape", ask.phrase("shape", colour=ask.colour(thing.colour)), ask.shape(thing.shape), thing)


def count(ask: Asker) -> Question | None:
    """How many objects there are."""
    return ask.said("count", ask.phrase("count"), str(len(ask.scene.things)))


def count_of(ask: Asker) -> Question | None:
    """How many there are of a shape or of a colour; every number that the scene offers is equally likely."""
    scene, config = ask.scene, ask.config
    if scene.focused == "counts":
        options = {scene.shapes[scene.focus[0].shape]: [("shape", scene.focus[0].shape)]}
    else:
        options: dict[int, list[tuple[str, str]]] = {}
        for kind, names, counts in (("shape", config.shapes, scene.shapes), ("colour", config.colours, scene.colours)):
            for name in names:
                if not scene.focused or any(name == getattr(t, kind) for t in scene.focus):
                    options.setdefault(counts[name], []).append((kind, name))
    number = ask.rng.choice(sorted(options))
    kind, name = ask.rng.choice(options[number])
    them = ask.shape(name, plural=True) if kind == "shape" else ask.of_colour(name, plural=True)
    return ask.said("count_of", ask.phrase("count_of", them=them), str(number))


def existence(ask: Asker) -> Question | None:
    """Whether there is an object of a colour and shape; what is absent mostly shares either with what is there."""
    about = ask.some(ask.scene.focus) if ask.yes else None
    pair = about.pair if about else _absent(ask)
    if pair is None:
        return None
    words_ = {"a": words.article(pair[0]), "colour": ask.colour(pair[0]), "shape": ask.shape(pair[1])}
    return ask.yes_or_no("existence", ask.phrase("existence", **words_), about)


@cache
def _askable(config: ScenesConfig, known_only: bool) -> tuple[tuple[str, str], ...]:
    return allowed_pairs(config) + (() if known_only else allowed_pairs(config, held=True))


def _absent(ask: Asker) -> tuple[str, str] | None:
    """A pair that is not there: of a colour and a shape that both are, or one of them, or neither."""
    scene = ask.scene
    pairs = [p for p in _askable(ask.config, ask.known_only) if p not in scene.pairs]
    if scene.focused:  # the question stays about the object in focus
        colours, shapes = {t.colour for t in scene.focus}, {t.shape for t in scene.focus}
        return ask.some([p for p in pairs if p[0] in colours or p[1] in shapes])
    chance = ask.rng.random()
    both = [p for p in pairs if p[0] in scene.colours and p[1] in scene.shapes] if chance < 0.5 else []
    either = [p for p in pairs if p[0] in scene.colours or p[1] in scene.shapes] if not both and chance < 0.8 else []
    return ask.some(both or either or pairs)


def side(ask: Asker) -> Question | None:
    """Left or right."""
    return _half(ask, "side", 0, ("left", "right"))


def height(ask: Asker) -> Question | None:
    """Top or bottom."""
    return _half(ask, "height", 1, ("top", "bottom"))


def _half(ask: Asker, kind: str, axis: int, names: tuple[str, str]) -> Question | None:
    scene = ask.scene
    thing = ask.some([t for t in scene.focus if abs(scene.at(t)[axis] - 0.5) >= MIDDLE])
    it = thing and ask.name(thing)
    if thing is None or it is None:
        return None
    place = words.PLACES[names[scene.at(thing)[axis] > 0.5]]
    return ask.said(kind, ask.phrase(kind, it=it), place[2 if ask.language == "ko" else 0], thing)


def size(ask: Asker) -> Question | None:
    """The size of an object named without it."""
    thing = ask.some(ask.scene.focus)
    it = thing and ask.name(thing, "shape", "colour", "pair")
    if thing is None or it is None:
        return None
    return ask.said("size", ask.phrase("size", it=it), words.size_answer(thing.size, ask.language), thing)


def where(ask: Asker) -> Question | None:
    """In which of nine places an object is."""
    thing = ask.some([t for t in ask.scene.focus if _clear(*ask.scene.at(t))])
    it = thing and ask.name(thing)
    if thing is None or it is None:
        return None
    place = words.PLACES[captions.ninth(*ask.scene.at(thing))]
    return ask.said("where", ask.phrase("where", it=it), place[2 if ask.language == "ko" else 0], thing)


def what_at(ask: Asker) -> Question | None:
    """What is at one of nine places, where nothing else could be meant."""
    return _at(ask, "what_at", lambda t: f"{ask.colour(t.colour)} {ask.shape(t.shape)}")


def colour_at(ask: Asker) -> Question | None:
    """The colour alone of what is at a place: neither question nor answer names a shape."""
    return _at(ask, "colour_at", lambda t: ask.colour(t.colour))


def shape_at(ask: Asker) -> Question | None:
    """The shape alone of what is at a place: neither question nor answer names a colour."""
    return _at(ask, "shape_at", lambda t: ask.shape(t.shape))


def _at(ask: Asker, kind: str, answer: Callable[[Thing], str]) -> Question | None:
    scene = ask.scene
    thing = ask.some([t for t in scene.focus if _clear(*scene.at(t)) and _alone(ask, t)])
    if thing is None:
        return None
    place = words.PLACES[captions.ninth(*scene.at(thing))][3 if ask.language == "ko" else 1]
    return ask.said(kind, ask.phrase(kind, place=place), answer(thing), thing)


def _clear(x: float, y: float) -> bool:
    """Whether a place is surely in its ninth."""
    return min(abs(v - border) for v in (x, y) for border in (1 / 3, 2 / 3)) >= BORDER


def _alone(ask: Asker, thing: Thing) -> bool:
    """Whether no other object is in the place's ninth, nor, for a side such as ``left``, along the whole side."""
    scene, place = ask.scene, captions.ninth(*ask.scene.at(thing))
    others = [captions.ninth(*scene.at(t)) for t in scene.things if t is not thing]
    if place in ("left", "right", "top", "bottom"):
        return not any(place in other.split() for other in others)
    return place not in others


def text(ask: Asker) -> Question | None:
    """The word written in the picture."""
    return ask.said("text", ask.phrase("text"), ask.scene.word) if ask.scene.word else None


def box(ask: Asker) -> Question | None:
    """The box around an object; the answer is a typed coordinate, written once the model's resize is known."""
    thing = ask.some(ask.scene.focus)
    it = thing and ask.name(thing)
    if thing is None or it is None:
        return None
    b = thing.box
    return Question("box", ask.phrase("box", it=it), "", BoxAbs(b.x1, b.y1, b.x2, b.y2, it), thing)


def caption(ask: Asker) -> Question | None:
    """All objects from left to right: colour and shape."""
    said = captions.caption(ask.scene, ask.language)
    return Question("caption", ask.phrase("caption"), said, captions.truth(ask.scene, ask.language, said))


def description(ask: Asker) -> Question | None:
    """All objects from left to right: size, colour, shape and place."""
    said = captions.description(ask.scene, ask.language)
    return Question("description", ask.phrase("description"), said, captions.truth(ask.scene, ask.language, said))
