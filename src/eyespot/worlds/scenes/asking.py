"""`Asker`: what every question needs of a scene: names that fit one object only, phrasings, words, yes or no."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from eyespot.worlds.scenes import words
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Scene, Thing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, the answer as text, the truth that a task compares with, and the object it is about."""

    type: str
    text: str
    answer: str
    target: Any
    about: Thing | None = None


@dataclass(slots=True)
class Asker:
    """A scene, a configuration, chance, a language, and yes or no chosen before looking, so that they balance.

    `known_only`: absent pairs that are asked for are ones that training draws; else it would learn to deny the others.
    """

    scene: Scene
    config: ScenesConfig
    rng: Random
    language: str = "en"
    yes: bool = True
    known_only: bool = True

    def phrase(self, kind: str, **values: str) -> str:
        """One of the phrasings of a kind, filled."""
        options = words.PHRASINGS[kind][self.language]
        if self.config.phrasings:
            options = options[: self.config.phrasings]
        return words.fill(self.rng.choice(options), self.language, **values)

    def shape(self, shape: str, plural: bool = False) -> str:
        """The word for a shape."""
        return words.shape_word(shape, self.language, plural)

    def colour(self, colour: str) -> str:
        """The word for a colour."""
        return words.colour_word(colour, self.language)

    def of_colour(self, colour: str, plural: bool = False) -> str:
        """``red object`` or ``red objects``."""
        noun = "물체" if self.language == "ko" else "objects" if plural else "object"
        return f"{self.colour(colour)} {noun}"

    def name(self, thing: Thing, *ways: str) -> str | None:
        """A noun phrase that names this object only, in one of these ways as far as the configuration allows them."""
        possible = [w for w in self.config.references if (not ways or w in ways) and self._unique(thing, w)]
        if not possible:
            return None
        way = self.rng.choice(possible)
        if way == "colour":
            return self.of_colour(thing.colour)
        shape = self.shape(thing.shape)
        if way == "shape":
            return shape
        return f"{self.colour(thing.colour) if way == 'pair' else words.size_word(thing.size, self.language)} {shape}"

    def _unique(self, thing: Thing, way: str) -> bool:
        scene = self.scene
        if way == "shape":
            return scene.shapes[thing.shape] == 1
        if way == "colour":
            return scene.colours[thing.colour] == 1
        return (scene.pairs[thing.pair] if way == "pair" else scene.sized[thing.size, thing.shape]) == 1

    def some(self, options: Sequence[T]) -> T | None:
        """One of these, or None."""
        return self.rng.choice(options) if options else None

    def pairs_of_things(self) -> list[tuple[Thing, Thing]]:
        """Every two objects of which one is in focus, in a random order within the two."""
        scene, swap = self.scene, self.rng.random() < 0.5
        things = scene.things
        found = [(a, b) for i, a in enumerate(things) for b in things[i + 1 :] if a in scene.focus or b in scene.focus]
        return [(b, a) for a, b in found] if swap else found

    def yes_or_no(self, kind: str, text: str, about: Thing | None = None) -> Question:
        """The question whose answer was chosen beforehand."""
        return self.said(kind, text, (words.YES if self.yes else words.NO)[self.language], about)

    def said(self, kind: str, text: str, answer: str, about: Thing | None = None) -> Question:
        """A question whose truth is its answer's text."""
        return Question(kind, text, answer, answer, about)
