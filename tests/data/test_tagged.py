"""Rows that name their pictures in the text."""

import pytest

from eyespot.contracts.message import Text
from eyespot.data.formats import detect, read_row
from eyespot.errors import EyespotError


def row(*values: str, **columns) -> dict:
    speakers = ("user", "assistant") * len(values)
    return {"conversations": [{"from": s, "value": v} for s, v in zip(speakers, values, strict=False)], **columns}


def parts(given: dict, message: int = 0) -> list:
    return [p.text if isinstance(p, Text) else (p.kind, p.source) for p in read_row(given).messages[message].parts]


def test_number_tags_and_the_end_of_the_line_go_and_the_text_stays():
    given = row("Picture 1: <img>a.png</img>\nPicture 2:<img>b/c d.png</img>\nWhich is <ref>red</ref>?", "The first.")
    assert parts(given) == [("image", "a.png"), ("image", "b/c d.png"), "Which is <ref>red</ref>?"]
    assert parts(given, 1) == ["The first."]


def test_a_prompt_may_begin_with_a_picture_and_hold_more():
    assert parts(row("<img>a.png</img>Is it <img>b.png</img>?", "No.")) == [
        ("image", "a.png"), "Is it ", ("image", "b.png"), "?"
    ]  # fmt: skip


def test_pictures_of_later_turns_go_to_later_turns():
    given = row("What?", "A cup.", "Picture 1: <img>a.png</img>\nAnd here?", "Two.")
    assert parts(given) == ["What?"] and parts(given, 2) == [("image", "a.png"), "And here?"]


@pytest.mark.parametrize(
    "given",
    [
        row("What does <img>x</img> mean?", "A tag."),
        row("What?", "<img>a.png</img>"),
        row("<img></img> is empty?", "Yes."),
        row("<img>a.png</img> what?", "A tag.", image="b.png", id=3),
    ],
)
def test_tags_that_a_text_is_about_are_text(given):
    assert detect(given) != "tagged"


def test_an_answer_keeps_what_it_says():
    given = row("<img>a.png</img>Draw", "<img>b.png</img><box>(1,2),(3,4)</box>")
    assert parts(given, 1) == ["<img>b.png</img><box>(1,2),(3,4)</box>"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (row("<img>a.png</img><image>?", "No."), "row-malformed"),
        (row("<img>a.png</img>And <img> </img>?", "No."), "media-missing"),
        (row("<img>a.png</img>What?"), "row-no-answer"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(given, code):
    with pytest.raises(EyespotError) as caught:
        read_row(given, "rows.json:2")
    assert caught.value.code == code and "rows.json:2" in caught.value.where


def test_a_text_only_row_of_such_a_source_is_read_and_another_shape_is_refused():
    assert read_row(row("What?", "That."), format="tagged").messages[0].text == "What?"
    with pytest.raises(EyespotError, match="the source is llava, but this row has the shape of tagged"):
        read_row(row("<img>a.png</img>What?", "That."), format="llava")
