"""`Scenes`: endless examples of drawn objects with exact truth. Example i depends on (split, seed, i) only."""

from collections.abc import Callable, Iterator
from itertools import count as naturals
from random import Random
from typing import Any

import numpy as np

from eyespot.contracts.coordinates import BoxAbs
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.errors import EyespotError
from eyespot.worlds.scenes import comparisons, layout, paint, questions, sentences
from eyespot.worlds.scenes.asking import Asker, Question
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Scene
from eyespot.worlds.scenes.splits import Split, get_split

ASK: dict[str, Callable[[Asker], Question | None]] = {
    "colour": questions.colour,
    "shape": questions.shape,
    "count": questions.count,
    "existence": questions.existence,
    "side": questions.side,
    "height": questions.height,
    "size": questions.size,
    "count_of": questions.count_of,
    "where": questions.where,
    "what_at": questions.what_at,
    "colour_at": questions.colour_at,
    "shape_at": questions.shape_at,
    "relation": comparisons.relation,
    "comparison": comparisons.comparison,
    "text": questions.text,
    "box": questions.box,
    "caption": questions.caption,
    "description": questions.description,
}
WRITTEN = 0.3  # share of training pictures with a word, where words are asked for
TRIES = 3000


class Scenes:
    """The scenes world, or the part of it that a configuration names."""

    name = "scenes"

    def __init__(self, config: ScenesConfig | None = None) -> None:
        self.config = config or ScenesConfig()

    def examples(self, split: str, seed: int = 0, start: int = 0) -> Iterator[Example]:
        """Pictures with questions, without end.

        In ``train`` an example holds several questions with answers, each independent of the others; in other splits
        one question without its answer, the truth being its target, types taking turns (`ScenesConfig.one_question`).
        """
        return (self.example(split, seed, i) for i in naturals(start))

    def example(self, split: str, seed: int, index: int) -> Example:
        """One item of the stream."""
        rule = get_split(split, self.config.held_out)
        one = self.config.one_question if self.config.one_question is not None else split != "train"
        return self._one(rule, seed, index) if one else self._several(rule, seed, index)

    def text_examples(self, seed: int = 0, start: int = 0, questions: int = 4) -> Iterator[Example]:
        """Scenes told in words instead of drawn, with questions and answers; any pair may be named. Without end."""
        return (sentences.example(self.config, seed, i, questions, ASK) for i in naturals(start))

    def _several(self, split: Split, seed: int, index: int) -> Example:
        rng = self._chance(split.name, seed, index)
        word = "text" in self.config.types and rng.random() < WRITTEN
        scene = layout.sample(self.config, split, rng, word=word)
        asked = ask_several(scene, self.config, rng, known_only=split.focus is None)
        picture = paint.paint(scene, rng)
        messages: list[Message] = []
        for question in asked:
            ahead = (MediaRef("image", picture),) if not messages else ()
            messages.append(Message("user", (*ahead, Text(question.text))))
            messages.append(Message("assistant", (answer_part(question),)))
        meta = {**self._meta(scene, split), "types": tuple(q.type for q in asked)}
        return Example(f"scenes-{split.name}-{seed}-{index}", tuple(messages), None, meta, "independent")

    def _one(self, split: Split, seed: int, index: int) -> Example:
        rng = self._chance(split.name, seed, index)
        kind = self.config.types[index % len(self.config.types)]
        yes = rng.random() < 0.5  # kept while scenes are tried, or the easier answer would win
        for _ in range(TRIES):
            scene = layout.sample(self.config, split, rng, word=kind == "text")
            language = rng.choice(self.config.languages)
            question = ASK[kind](Asker(scene, self.config, rng, language, yes, split.focus is None))
            if question is not None:
                break
        else:
            raise EyespotError("config-value", f"{kind!r} cannot be asked in this configuration", where=split.name)
        message = Message("user", (MediaRef("image", paint.paint(scene, rng)), Text(question.text)))
        about = question.about
        meta = {
            **self._meta(scene, split),
            "type": kind,
            "language": language,
            "answer": question.answer,
            "pair": f"{about.colour} {about.shape}" if about else "",
        }
        # As shares, so that an answer can be scored without knowing how large the picture was.
        target = question.target.to_unit((scene.width, scene.height)) if kind == "box" else question.target
        return Example(f"scenes-{split.name}-{seed}-{index}", (message,), target, meta)

    def _chance(self, *key: Any) -> Random:
        return Random(f"{self.name} {key}")

    def _meta(self, scene: Scene, split: Split) -> dict[str, Any]:
        return {
            "split": split.name,
            "size": (scene.width, scene.height),
            "ground": scene.ground,
            "word": scene.word,
            "objects": scene.describe(),
        }


def ask_several(scene: Scene, config: ScenesConfig, rng: Random, *, known_only: bool = True) -> list[Question]:
    """Up to `config.questions` different questions; types take turns in random order."""
    language = rng.choice(config.languages)
    asked: dict[str, Question] = {}
    kinds: list[str] = []
    for _ in range(2 * config.questions + len(config.types)):
        if not kinds:
            kinds = rng.sample(config.types, len(config.types))
        question = ASK[kinds.pop()](Asker(scene, config, rng, language, rng.random() < 0.5, known_only))
        if question is not None:
            asked.setdefault(question.text, question)
            if len(asked) == config.questions:
                break
    return list(asked.values())


def answer_part(question: Question) -> Text | BoxAbs:
    """The answer as a part of the assistant's message: text, or a box to be written after the resize."""
    return question.target if isinstance(question.target, BoxAbs) else Text(question.answer)


def picture_of(example: Example) -> np.ndarray:
    """The picture of an example of this world."""
    return example.messages[0].media[0].source  # type: ignore[union-attr]
