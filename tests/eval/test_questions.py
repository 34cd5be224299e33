"""Rows become questions: one for each answer, with what stood before it."""

import numpy as np
import pytest
from PIL import Image

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.errors import EyespotError
from eyespot.eval.questions import questions

PICTURE = MediaRef("image", np.full((4, 6, 3), 9, np.uint8))


def user(text, *media):
    return Message("user", (*media, Text(text)))


def told(text):
    return Message("assistant", (Text(text),))


def test_a_dialogue_asks_each_turn_with_the_true_answers_before_it():
    row = Example("r", (user("a?", PICTURE), told("a"), user("b?"), told("b")))
    first, second = questions([row])
    assert (first.id, first.target, [m.role for m in first.messages]) == ("r#0", "a", ["user"])
    assert (second.id, second.target) == ("r#1", "b")
    assert [m.text for m in second.messages] == ["a?", "a", "b?"]


def test_independent_turns_see_the_picture_and_not_each_other():
    row = Example("r", (user("a?", PICTURE), told("a"), user("b?"), told("b")), turns="independent")
    _, second = questions([row])
    assert [m.text for m in second.messages] == ["b?"]
    assert len(second.messages[0].media) == 1
    assert second.turns == "dialogue"


def test_a_question_without_answer_keeps_its_target():
    row = Example("r", (user("a?", PICTURE),), target="star")
    (only,) = questions([row])
    assert (only.id, only.target) == ("r", "star")


def test_pictures_are_read_below_the_root_and_nowhere_else(tmp_path):
    Image.new("RGB", (5, 3), "red").save(tmp_path / "a.png")
    row = Example("r", (user("a?", MediaRef("image", "a.png")), told("a")))
    (only,) = questions([row], tmp_path)
    assert only.messages[0].media[0].source.shape == (3, 5, 3)
    outside = Example("r", (user("a?", MediaRef("image", "../a.png")), told("a")))
    (tmp_path / "sub").mkdir()
    with pytest.raises(EyespotError, match="media-refused"):
        next(questions([outside], tmp_path / "sub"))
