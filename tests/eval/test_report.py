"""The report page: every figure on it comes from the data, user text is escaped, pictures are inside."""

from dataclasses import replace

import numpy as np
import pytest

from eyespot.contracts.coordinates import BoxUnit
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.eval.report import answer_record, answers_grid, bars, cards, figures_table, page
from eyespot.eval.run import Answer

FIGURES = {
    "overall": {"accuracy": 0.875, "n": 40, "interval": [0.74, 0.95], "blank": 0.25, "chance": 0.5,
                "difference": [0.625, 0.5, 0.75]},
    "colour": {"accuracy": 1.0, "n": 20, "interval": [0.84, 1.0], "blank": 0.1, "chance": 0.2,
               "difference": [0.9, 0.8, 1.0]},
}  # fmt: skip


def answer(score: float) -> Answer:
    picture = np.zeros((4, 4, 3), np.uint8)
    example = Example("1", (Message("user", (MediaRef("image", picture), Text("What <b>color</b>?"))),), "red")
    return Answer(example, "colour", "red" if score else "blue", score)


def test_the_table_shows_every_figure():
    html = figures_table(FIGURES)
    for shown in ("87.5 %", "74.0 % – 95.0 %", ">40<", "25.0 %", "50.0 %", "+62.5 [+50.0, +75.0]"):
        assert shown in html


def test_right_and_wrong_answers_carry_picture_question_and_truth():
    html = answers_grid([answer_record(answer(1.0)), answer_record(answer(0.0))])
    assert html.count("data:image/png;base64,") == 2
    assert html.count("truth: red") == 1
    assert "<b>color</b>" not in html and "&lt;b&gt;color" in html


@pytest.mark.parametrize(("target", "truth"), [
    ({"reference": "a red star", "phrases": ("red star",)}, "a red star"),
    (BoxUnit(0.1, 0.25, 0.98765, 1.0, "star"), "[0.1, 0.25, 0.9877, 1]"),
    (4, "4"),
])  # fmt: skip
def test_a_truth_is_written_as_an_answer_would_say_it(target, truth):
    wrong = answer(0.0)
    assert answer_record(replace(wrong, example=replace(wrong.example, target=target)))["truth"] == truth


def test_names_of_many_bars_stand_in_two_rows():
    many = {f"type {i}": FIGURES["colour"] for i in range(12)}
    heights = {
        line.split('"')[0] for line in bars({"finetune": many}).split(' y="')[1:] if "type" in line.split("</text>")[0]
    }
    assert len(heights) == 2


def test_bars_are_as_high_as_the_figures():
    svg = bars({"finetune": FIGURES})
    assert svg.count("<rect") == 2 * 3 + 3  # two types of three bars, three legend squares


def test_the_page_needs_no_outside_file():
    html = page("Demo", "lead", [("Cards", cards([("87 %", "held-out")]))])
    assert "http://" not in html.replace("http://www.w3.org", "") and "<script" not in html
