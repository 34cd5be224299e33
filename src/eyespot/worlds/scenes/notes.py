"""Scenes in words, as sentences and as notes, with independent questions: what a small decoder reads before it sees.

A note is a line of dots with the words of each object somewhere in it: ``. . red star left top . .``. It is laid out
like the tokens of a picture, most of which show nothing, so a decoder that has read notes can read the word-like tokens
of a connector. All colour–shape pairs are named, also those that are never drawn: of red stars one may have read.
"""

from collections.abc import Iterator
from itertools import count as naturals
from random import Random

from eyespot.contracts.message import Example, Message, Text
from eyespot.worlds.scenes import captions, sentences, words
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Scene, Thing
from eyespot.worlds.scenes.world import ask_several

WORDS = 4  # colour, shape, side, height
CELLS = 8  # objects stand on an 8 × 8 board
# The words of a note without its dots, in order: to say them again a decoder must find out what stands beside what, and
# without that it hardly ever learns to answer the other questions (measured: a plateau of over 1,200 steps).
READ = "Read the note."


class Notes:
    """A world of text only; the note is the system's message, the questions are independent of each other.

    Args:
        config: which objects, which questions.
        length: words of a note.
        notes: share of notes; the rest are sentences.
    """

    name = "notes"

    def __init__(self, config: ScenesConfig | None = None, length: int = 64, notes: float = 0.75) -> None:
        self.config = config or ScenesConfig()
        self.length = length
        self.notes = notes

    def examples(self, split: str = "train", seed: int = 0, start: int = 0) -> Iterator[Example]:
        """Notes with questions and answers, without end."""
        return (self.example(split, seed, i) for i in naturals(start))

    def example(self, split: str, seed: int, index: int) -> Example:
        """One item of the stream; where a scene allows no question, the next is taken."""
        rng = Random(f"{self.name} {(split, seed, index)}")
        asked = []
        while not asked:
            scene, said, told = self._note(rng) if rng.random() < self.notes else self._sentence(rng)
            asked = ask_several(scene, self.config, rng, known_only=False)
        pairs = [(q.text, q.answer) for q in asked]
        if told:
            pairs.append((READ, told))
        messages = [Message("system", (Text(said),))]
        for question, answer in pairs:
            messages += [Message("user", (Text(question),)), Message("assistant", (Text(answer),))]
        meta = {"types": tuple(q.type for q in asked) + (("read",) if told else ())}
        return Example(f"notes-{split}-{seed}-{index}", tuple(messages), None, meta, "independent")

    def _sentence(self, rng: Random) -> tuple[Scene, str, str]:
        scene = sentences.told(self.config, rng)
        return scene, f"{rng.choice(('There is', 'The picture shows'))} {captions.description(scene, 'en')}.", ""

    def _note(self, rng: Random) -> tuple[Scene, str, str]:
        config = self.config
        cells = rng.sample(range(CELLS * CELLS), rng.randint(*config.objects))
        things = tuple(
            Thing(
                *(rng.choice(names) for names in (config.shapes, config.colours, config.sizes)),
                (cell % CELLS + 0.5) / CELLS,
                (cell // CELLS + 0.5) / CELLS,
                0.1,
            )
            for cell in cells
        )
        scene = Scene(1, 1, things, things)
        note = self._laid_out(things, rng)
        told = [" ".join(note[i : i + WORDS]) for i, word in enumerate(note) if word in words.COLOURS]
        return scene, " ".join(note), ", ".join(told)

    def _laid_out(self, things: tuple[Thing, ...], rng: Random) -> list[str]:
        """Four words for each object at a place of their own among dots."""
        note = ["."] * self.length
        gaps = sorted(rng.sample(range(self.length - (WORDS - 1) * len(things)), len(things)))
        for i, (gap, thing) in enumerate(zip(gaps, rng.sample(things, len(things)), strict=True)):
            at = gap + (WORDS - 1) * i
            side, height = ("left", "right")[thing.x > 0.5], ("top", "bottom")[thing.y > 0.5]
            said = words.colour_word(thing.colour, "en"), words.shape_word(thing.shape, "en"), side, height
            note[at : at + WORDS] = said
        return note
