"""Codecs: what counts as the same answer, box or caption, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyespot.contracts.coordinates import BoxAbs, BoxUnit
from eyespot.contracts.message import Example, Message, Text
from eyespot.contracts.protocols import Task
from eyespot.errors import EyespotError
from eyespot.tasks import TABLE, open_task
from eyespot.tasks.caption import Caption
from eyespot.tasks.grounding import Grounding
from eyespot.tasks.scenes import ScenesTask
from eyespot.tasks.vqa import Vqa, normalised


@pytest.mark.parametrize("name", TABLE)
def test_every_task_of_the_table_keeps_the_protocol(name):
    assert isinstance(open_task(name), Task)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(EyespotError, match="scenes") as caught:
        open_task("scene")
    assert caught.value.code == "task-unknown"


@pytest.mark.parametrize(
    ("said", "truth", "right"),
    [
        ("Red.", "red", 1.0),
        ("a star", "star", 1.0),
        ("  The   STAR!", "star", 1.0),
        ("3.5", "3.5", 1.0),
        ("35", "3.5", 0.0),
        ("red star", "red", 0.0),
        ("", "red", 0.0),
        ("", "", 0.0),
        ("왼쪽.", "왼쪽", 1.0),
        ("왼쪽입니다.", "왼쪽", 1.0),
        ("3개", "3", 1.0),
        ("예", "네", 1.0),
        ("Three.", "3", 1.0),
        ("gray", "grey", 1.0),
        ("grey", "green", 0.0),
    ],
)
def test_a_short_answer_is_right_whatever_its_dress(said, truth, right):
    task = Vqa()
    assert task.score(task.parse(said), truth) == {"correct": right}


def test_any_of_several_answers_is_right():
    task = Vqa()
    assert task.score("couch", ("sofa", "Couch"))["correct"] == 1.0
    assert task.score("chair", ("sofa", "Couch"))["correct"] == 0.0


@pytest.mark.parametrize("name", TABLE)
def test_the_answer_is_not_sent_with_the_question(name):
    question, answer = Message("user", (Text("What?"),)), Message("assistant", (Text("That."),))
    assert open_task(name).prompt(Example("x", (question, answer))) == (question,)
    assert open_task(name).prompt(Example("x", (question,))) == (question,)


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@given(st.tuples(*[st.floats(0, 0.4)] * 2, *[st.floats(0.6, 1)] * 2))
def test_a_written_box_is_read_back(corners):
    box = BoxUnit(*corners)
    task = Grounding()
    as_shares = task.parse("[" + ", ".join(f"{c:.4f}" for c in corners) + "]")
    as_thousandths = task.parse("({},{}),({},{})".format(*(round(1000 * c) for c in corners)))
    assert task.score(as_shares, box)["iou"] > 0.99
    assert task.score(as_thousandths, box)["iou"] > 0.98


def test_half_an_overlap_counts_and_less_does_not():
    task, target = Grounding(), BoxUnit(0.0, 0.0, 0.5, 0.5)
    assert task.score(task.parse("0, 0, 0.5, 0.26"), target)["correct"] == 1.0
    assert task.score(task.parse("0, 0, 0.5, 0.24"), target)["correct"] == 0.0
    assert task.score(task.parse("no box"), target) == {"correct": 0.0, "iou": 0.0}


def test_swapped_corners_are_put_in_order_and_what_is_outside_is_cut_off():
    assert Grounding().parse("[0.5, 0.6, 0.1, 0.2]") == BoxUnit(0.1, 0.2, 0.5, 0.6)
    assert Grounding().parse("[-0.5, 0.2, 1.2, 0.6]") == BoxUnit(0.0, 0.2, 1.0, 0.6)


def test_a_declared_form_is_not_guessed():
    assert Grounding("thousand").parse("[1, 1, 1, 1]") == BoxUnit(0.001, 0.001, 0.001, 0.001)
    assert Grounding("unit").parse("[0, 0, 2, 2]") == BoxUnit(0.0, 0.0, 1.0, 1.0)


def test_a_box_between_tags_is_read_behind_whatever_is_named_before_it():
    wanted = BoxUnit(0.0, 111 / 999, 1.0, 222 / 999)
    assert Grounding().parse("<ref>the 2 cats of 1999</ref><box>(0,111),(999,222)</box>") == wanted
    assert Grounding("tags").parse("<box>(999,222),(0,111)") == wanted
    assert Grounding().parse("<box>[[0, 500, 1000, 500]]</box>") == BoxUnit(0.0, 0.5, 1.0, 0.5)


def test_a_caption_must_name_every_object_as_often_as_it_is_there():
    truth = {"reference": "a red star and a red star", "phrases": ("red star", "red star")}
    task = Caption()
    assert task.score(task.parse("A red star and a red star."), truth) == {"correct": 1.0, "recall": 1.0, "exact": 1.0}
    assert task.score(task.parse("a red star"), truth) == {"correct": 0.0, "recall": 0.5, "exact": 0.0}


def test_scenes_are_scored_by_the_kind_of_truth():
    task = ScenesTask()
    assert task.score("Red.", "red")["correct"] == 1.0
    assert task.score("[0.1, 0.1, 0.5, 0.5]", BoxAbs(10, 10, 50, 50).to_unit((100, 100)))["iou"] > 0.99
    assert task.score("a red star", {"reference": "a red star", "phrases": ("red star",)})["exact"] == 1.0
