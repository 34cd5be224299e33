"""Questions about two objects or two kinds of objects: relation and comparison. See `questions` for the rules."""

from eyespot.worlds.scenes import words
from eyespot.worlds.scenes.asking import Asker, Question
from eyespot.worlds.scenes.objects import Thing

APART = 0.12  # nobody is asked about the relation of what lies nearer together than this share of the picture
_AXES = (("left", "right"), ("above", "below"))
_ORDER = {"small": 0, "medium": 1, "large": 2}


def relation(ask: Asker) -> Question | None:
    """Whether one object is left of, right of, above or below another; both answers are possible of every two."""
    scene = ask.scene
    found = []
    for a, b in ask.pairs_of_things():
        pa, pb = scene.at(a), scene.at(b)
        found += [
            (a, b, _AXES[k][pa[k] > pb[k]], _AXES[k][pa[k] < pb[k]]) for k in (0, 1) if abs(pa[k] - pb[k]) > APART
        ]
    chosen = ask.some(found)
    names = chosen and _two_names(ask, chosen[0], chosen[1])
    if chosen is None or names is None:
        return None
    word = words.RELATIONS[chosen[2] if ask.yes else chosen[3]][ask.language == "ko"]
    return ask.yes_or_no("relation", ask.phrase("relation", it=names[0], other=names[1], relation=word), chosen[0])


def comparison(ask: Asker) -> Question | None:
    """Larger, same colour, same shape, or more."""
    return ask.rng.choice((_larger, _same_colour, _same_shape, _more))(ask)


def _two_names(ask: Asker, a: Thing, b: Thing, *ways: str) -> tuple[str, str] | None:
    first, second = ask.name(a, *ways), ask.name(b, *ways)
    return (first, second) if first and second else None


def _larger(ask: Asker) -> Question | None:
    chosen = ask.some([(a, b) for a, b in ask.pairs_of_things() if a.size != b.size])
    names = chosen and _two_names(ask, *chosen, "shape", "colour", "pair")
    if chosen is None or names is None:
        return None
    larger = _ORDER[chosen[0].size] < _ORDER[chosen[1].size]
    return ask.said("comparison", ask.phrase("larger", it=names[0], other=names[1]), names[larger], chosen[larger])


def _same_colour(ask: Asker) -> Question | None:
    return _same(ask, "same colour", "colour", ("shape", "sized"))


def _same_shape(ask: Asker) -> Question | None:
    return _same(ask, "same shape", "shape", ("colour",))


def _same(ask: Asker, kind: str, attribute: str, ways: tuple[str, ...]) -> Question | None:
    """Asked only where the picture offers both answers; else "no" would be the better guess."""
    by_answer: dict[bool, list[tuple[Thing, Thing, str, str]]] = {True: [], False: []}
    for a, b in ask.pairs_of_things():
        names = _two_names(ask, a, b, *ways)
        if names:
            by_answer[getattr(a, attribute) == getattr(b, attribute)].append((a, b, *names))
    if not (by_answer[True] and by_answer[False]):
        return None
    a, _, it, other = ask.rng.choice(by_answer[ask.yes])
    return ask.yes_or_no("comparison", ask.phrase(kind, it=it, other=other), a)


def _more(ask: Asker) -> Question | None:
    """Whether there are more of one shape than of another; the order makes the answer."""
    counts = ask.scene.shapes
    in_focus = {t.shape for t in ask.scene.focus}
    shapes = [s for s in ask.config.shapes if counts[s] or ask.rng.random() < 0.25]
    found = [(a, b) for a in shapes for b in shapes if counts[a] > counts[b] and (a in in_focus or b in in_focus)]
    chosen = ask.some(found)
    if chosen is None:
        return None
    more, fewer = (ask.shape(s, plural=True) for s in chosen)
    them, others = (more, fewer) if ask.yes else (fewer, more)
    return ask.yes_or_no("comparison", ask.phrase("more", them=them, others=others))
