"""Scenes told in words: what a language model has read before it ever sees. All pairs may be named, held-out ones too.

Objects stand in the middles of the nine places, so that every question about places has one answer.
"""

from collections.abc import Callable, Mapping
from random import Random

from eyespot.contracts.message import Example, Message, Text
from eyespot.worlds.scenes import captions, words
from eyespot.worlds.scenes.asking import Asker, Question
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Scene, Thing

UNANSWERABLE = ("text", "box", "caption", "description")


def told(config: ScenesConfig, rng: Random) -> Scene:
    """A scene for words only, on a square of side 1."""
    number = rng.randint(*config.objects)
    things = []
    for place in rng.sample(range(9), number):
        colour, shape, size = rng.choice(config.colours), rng.choice(config.shapes), rng.choice(config.sizes)
        things.append(Thing(shape, colour, size, (place % 3 * 2 + 1) / 6, (place // 3 * 2 + 1) / 6, 0.1))
    return Scene(1, 1, tuple(things), tuple(things))


def example(
    config: ScenesConfig, seed: int, index: int, questions: int, ask: Mapping[str, Callable[[Asker], Question | None]]
) -> Example:
    """A description with questions and answers as one dialogue."""
    rng = Random(f"sentences {seed} {index}")
    language = rng.choice(config.languages)
    kinds = [k for k in config.types if k not in UNANSWERABLE] or ["count"]
    asked: dict[str, Question] = {}
    while not asked:
        scene = told(config, rng)
        for _ in range(2 * questions):
            asker = Asker(scene, config, rng, language, rng.random() < 0.5, known_only=False)
            question = ask[rng.choice(kinds)](asker)
            if question is not None and len(asked) < questions:
                asked.setdefault(question.text, question)
    said = captions.description(scene, language)
    said = f"그림: {said}." if language == "ko" else f"{rng.choice(('There is', 'The picture shows'))} {said}."
    messages: list[Message] = []
    for question in asked.values():
        text = question.text if messages else f"{said} {question.text}"
        messages += [Message("user", (Text(text),)), Message("assistant", (Text(question.answer),))]
    meta = {"types": tuple(q.type for q in asked.values()), "objects": [(*t.pair, t.size) for t in scene.things]}
    return Example(f"sentences-{seed}-{index}", tuple(messages), None, meta)


def vocabulary(config: ScenesConfig) -> list[str]:
    """Sentences that between them hold every word this configuration can say or hear, for a tiny model's tokenizer."""
    found = [" ".join(map(str, range(10)))]
    for language in config.languages:
        korean = language == "ko"
        found += [t for kinds in words.PHRASINGS.values() for t in kinds[language]]
        found += [words.shape_word(s, language, plural) for s in words.SHAPES for plural in (False, True)]
        found += [words.colour_word(c, language) for c in words.COLOURS]
        found += [f"{words.size_word(s, language)} {words.size_answer(s, language)}" for s in words.SIZES]
        found += [" ".join(p[2:] if korean else p[:2]) for p in words.PLACES.values()]
        found += [r[korean] for r in words.RELATIONS.values()]
        found += [
            words.YES[language],
            words.NO[language],
            "물체 그림: , ." if korean else "a an object objects and , .",
        ]
    found += [*words.WRITTEN, "There is The picture shows", "Read the note.", "nowhere"]
    # Each word at the start of a text and behind a space: to a tokenizer that keeps spaces these are two.
    alone = sorted({word.strip("?.,!") for text in found for word in text.split()} - {""})
    return found + [f"{word} {word}" for word in alone] + [". . , ,"]
