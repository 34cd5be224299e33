"""Scenes in words, as sentences and as notes, with independent questions: what a small decoder reads before it sees.

A note is a line of dots with the words of each object somewhere in it: ``. . red star top left . .``. It is laid out
like the tokens of a picture, most of which show nothing, so a decoder that has read notes can read the word-like tokens
of a connector. All colour–shape pairs are named, also those that are never drawn: of red stars one may have read.

Three things make a small decoder find out what stands beside what, without which it stays at a plateau: answers that
say the note again, answers of two words on where something is (`nowhere` for what is not there), and short notes.
"""

from collections.abc import Iterator
from itertools import count as naturals
from random import Random

from eyespot.contracts.message import Example, Message, Text
from eyespot.worlds.scenes import captions, sentences, words
from eyespot.worlds.scenes.config import ScenesConfig
from eyespot.worlds.scenes.objects import Scene, Thing
from eyespot.worlds.scenes.world import ask_several

WORDS = 4  # colour, shape, height, side
CELLS = 8  # objects stand on an 8 × 8 board
LENGTHS = (16, 20, 24, 32, 48, 64)  # words of a note; a picture of the demo has 64 tokens
SOUGHT = 2  # questions on where something is, for each note
READ = "Read the note."  # the answer is the note without its dots
NOWHERE = "nowhere"


class Notes:
    """A world of text only; the note is the system's message, the questions are independent of each other.

    Args:
        config: which objects, which questions.
        lengths: how many words a note may have; at least four for each object.
        notes: share of notes; the rest are sentences.
    """

    name = "notes"

    def __init__(
        self, config: ScenesConfig | None = None, lengths: tuple[int, ...] = LENGTHS, notes: float = 0.75
    ) -> None:
        self.config = config or ScenesConfig()
        self.lengths = lengths
        self.notes = notes

    def examples(self, split: str = "train", seed: int = 0, start: int = 0) -> Iterator[Example]:
        """Notes with questions and answers, without end."""
        return (self.example(split, seed, i) for i in naturals(start))

    def example(self, split: str, seed: int, index: int) -> Example:
        """One item of the stream; where a scene allows no question, the next is taken."""
        rng = Random(f"{self.name} {(split, seed, index)}")
        asked = []
        while not asked:
            scene, said, more = self._note(rng) if rng.random() < self.notes else self._sentence(rng)
            asked = ask_several(scene, self.config, rng, known_only=False)
        triples = [(q.type, q.text, q.answer) for q in asked] + more
        messages = [Message("system", (Text(said),))]
        for _, question, answer in triples:
            messages += [Message("user", (Text(question),)), Message("assistant", (Text(answer),))]
        types = tuple(kind for kind, _, _ in triples)
        return Example(f"notes-{split}-{seed}-{index}", tuple(messages), None, {"types": types}, "independent")

    def _sentence(self, rng: Random) -> tuple[Scene, str, list[tuple[str, str, str]]]:
        scene = sentences.told(self.config, rng)
        return scene, f"{rng.choice(('There is', 'The picture shows'))} {captions.description(scene, 'en')}.", []

    def _note(self, rng: Random) -> tuple[Scene, str, list[tuple[str, str, str]]]:
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
        sought = [_sought(scene, config, rng) for _ in range(SOUGHT)]
        return scene, " ".join(note), [("read", READ, ", ".join(told)), *dict.fromkeys(sought)]

    def _laid_out(self, things: tuple[Thing, ...], rng: Random) -> list[str]:
        """Four words for each object at a place of their own among dots."""
        note = ["."] * rng.choice(self.lengths)
        gaps = sorted(rng.sample(range(len(note) - (WORDS - 1) * len(things)), len(things)))
        for i, (gap, thing) in enumerate(zip(gaps, rng.sample(things, len(things)), strict=True)):
            at = gap + (WORDS - 1) * i
            said = words.colour_word(thing.colour, "en"), words.shape_word(thing.shape, "en"), *_corner(thing)
            note[at : at + WORDS] = said
        return note


def _corner(thing: Thing) -> tuple[str, str]:
    return ("top", "bottom")[thing.y > 0.5], ("left", "right")[thing.x > 0.5]


def _sought(scene: Scene, config: ScenesConfig, rng: Random) -> tuple[str, str, str]:
    """Where something is, named by shape, colour or both; one time in four it is not there."""
    thing = rng.choice(scene.things)
    names = {
        words.shape_word(thing.shape, "en"): scene.shapes[thing.shape],
        f"{words.colour_word(thing.colour, 'en')} object": scene.colours[thing.colour],
        f"{words.colour_word(thing.colour, 'en')} {words.shape_word(thing.shape, 'en')}": scene.pairs[thing.pair],
    }
    only = [name for name, number in names.items() if number == 1]
    name, answer = (rng.choice(only), " ".join(_corner(thing))) if only else ("", "")
    if not only or rng.random() < 0.25:
        # What is not there shares its colour or its shape with something that is.
        absent = [(c, s) for c in config.colours for s in config.shapes if (c, s) not in scene.pairs]
        near = [p for p in absent if p[0] in scene.colours or p[1] in scene.shapes]
        colour, shape = rng.choice(near or absent)
        name, answer = f"{words.colour_word(colour, 'en')} {words.shape_word(shape, 'en')}", NOWHERE
    return "sought", f"Where is the {name}?", answer
