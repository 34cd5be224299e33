"""The evaluation harness with a mock that sees, a mock that is blind, and a planted leak."""

from collections.abc import Mapping

import numpy as np
import pytest

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.contracts.protocols import Reply, Usage
from eyespot.errors import EyespotError
from eyespot.eval.run import blanked, evaluate

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


class ColourTask:
    name = "colour"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        return example.messages

    def parse(self, text: str) -> str:
        return text.strip()

    def score(self, prediction: str, target: str) -> Mapping[str, float]:
        return {"length": 1.0, "correct": float(prediction == target)}


class Seer:
    """Names the first pixel's colour."""

    def generate(self, prompts, max_new_tokens):
        names = {v: k for k, v in COLOURS.items()}
        pixels = [tuple(int(c) for c in p[0].media[0].source[0, 0]) for p in prompts]
        return [Reply(names.get(pixel, "blue"), "stop", Usage(1, 1)) for pixel in pixels]


def examples(count: int) -> list[Example]:
    made = []
    for i in range(count):
        name = "red" if i % 3 else "blue"
        picture = np.full((4 + i % 2, 6, 3), COLOURS[name], np.uint8)
        message = Message("user", (MediaRef("image", picture), Text("What color?")))
        made.append(Example(str(i), (message,), name, {"type": "colour" if i % 2 else "shade"}))
    return made


def test_a_model_that_sees_beats_blank_and_chance():
    table = evaluate(Seer(), ColourTask(), examples(30)).figures()
    assert table["overall"]["accuracy"] == 1.0 and table["overall"]["n"] == 30
    assert table["overall"]["blank"] == pytest.approx(1 / 3)  # it says blue, which is right for a third
    assert table["overall"]["chance"] == pytest.approx(2 / 3)
    assert table["overall"]["difference"][1] > 0
    assert set(table) == {"overall", "colour", "shade"}


def test_the_blank_picture_has_one_colour_for_the_whole_set_and_keeps_each_size():
    made = examples(4)
    first, second = (blanked(e.messages, (1, 2, 3))[0].media[0].source for e in made[:2])
    assert first.shape == (4, 6, 3) and second.shape == (5, 6, 3)
    assert np.unique(first.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


def test_overall_counts_only_the_types_asked_for():
    table = evaluate(Seer(), ColourTask(), examples(10)).figures(overall=["shade"])
    assert table["overall"]["n"] == 5


def test_an_empty_set_is_an_error():
    with pytest.raises(EyespotError, match="no examples"):
        evaluate(Seer(), ColourTask(), [])
