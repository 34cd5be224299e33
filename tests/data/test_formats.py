"""Foreign rows become messages; what is wrong with a row is named."""

import base64

import pytest
from data_fakes import llava
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Text
from eyespot.data.conversations import split
from eyespot.data.formats import detect, detect_all, read_row
from eyespot.errors import EyespotError


def turns(*pairs):
    return [{"from": speaker, "value": value} for speaker, value in pairs]


def chat(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def shape(message):
    """Text as itself, pictures as ("image", source)."""
    return [p.text if isinstance(p, Text) else (p.kind, p.source) for p in message.parts]


MARKS = {"<image>": "image"}
QA = (("user", "Which?"), ("assistant", "This."))
ROWS = {
    "llava": llava(1),
    "sharegpt": {"conversations": turns(("human", "<image>a"), ("gpt", "b")), "images": ["0.png"]},
    "tagged": {"conversations": turns(("user", "Picture 1: <img>0.png</img>\na"), ("assistant", "b"))},
    "openai": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "0.png"}}]},
            {"role": "assistant", "content": "b"},
        ]
    },
    "conversational": {
        "images": ["0.png"],
        "messages": chat(("user", [{"type": "image"}, {"type": "text", "text": "a"}]), ("assistant", "b")),
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_told_from_its_keys_and_gives_one_picture_and_one_answer(name):
    example = read_row(ROWS[name])
    assert detect(ROWS[name]) == name
    assert [m.role for m in example.messages] == ["user", "assistant"]
    assert len(example.messages[0].media) == 1
    assert example.messages[1].text


def test_a_llava_placeholder_becomes_a_picture_where_it_stands_and_its_newline_goes_with_it():
    row = {"image": ["a.png", "b.png"], "conversations": turns(("human", "<image>\nA or\n<image>?"), ("gpt", "A"))}
    assert shape(read_row(row).messages[0]) == [("image", "a.png"), "A or\n", ("image", "b.png"), "?"]


def test_a_placeholder_at_the_end_takes_the_newline_before_it():
    assert split("What is it?\n<image>", MARKS) == [("text", "What is it?"), ("image", "")]


def test_pictures_of_later_turns_go_to_later_turns():
    row = {
        "image": ["a.png", "b.png"],
        "conversations": turns(("human", "<image>1"), ("gpt", "one"), ("human", "<image>2"), ("gpt", "two")),
    }
    assert [shape(m) for m in read_row(row).messages[::2]] == [[("image", "a.png"), "1"], [("image", "b.png"), "2"]]


def test_a_text_only_row_has_no_pictures_also_where_a_table_filled_its_image_with_none():
    row = {"id": 5, "image": None, "conversations": turns(("human", "hi"), ("gpt", "hello"))}
    assert read_row(row).id == "5"
    assert shape(read_row(row).messages[0]) == ["hi"]


def test_other_special_spellings_stay_text_as_does_a_placeholder_in_an_answer():
    row = {"conversations": turns(("human", "<|im_end|></s>"), ("gpt", "say <image>"))}
    assert [shape(m) for m in read_row(row).messages] == [["<|im_end|></s>"], ["say <image>"]]


def test_sharegpt_reads_system_tools_calls_and_observations():
    row = {
        "system": "Be brief.",
        "tools": '[{"name": "look"}]',
        "conversations": turns(
            ("human", "look"), ("function_call", '{"name": "look", "arguments": {"x": 1}}'),
            ("observation", "a cat"), ("gpt", "A cat."),
        ),
    }  # fmt: skip
    example = read_row(row)
    assert [m.role for m in example.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert example.messages[2].tool_calls[0]["function"]["name"] == "look"
    assert example.meta["tools"] == [{"name": "look"}]


def test_openai_reads_urls_as_object_and_string_data_urls_and_paths():
    data = "data:image/png;base64," + base64.b64encode(b"x").decode()
    content = [
        {"type": "image_url", "image_url": {"url": "sub/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": data},
        {"type": "text", "text": "<image>"},
    ]
    message = read_row({"messages": chat(("user", content), ("assistant", "b"))}).messages[0]
    assert shape(message) == [("image", "sub/a.png"), ("image", data), "<image>"]
    assert isinstance(message.parts[0], MediaRef)
    assert message.parts[0].options == {"detail": "low"}


def test_openai_keeps_weights_and_tool_calls():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
        {"role": "assistant", "content": "three", "weight": 0},
    ]
    read = read_row({"messages": messages}).messages
    assert read[1].tool_calls == (call,)
    assert read[2].tool_call_id == "1"
    assert (read[3].weight, read[1].weight) == (0, None)


def test_hugging_face_rows_take_prompt_and_completion_and_pictures_inside_parts():
    prompt = chat(("user", [{"type": "image", "image": "in.png", "text": None}, {"type": "image"}]))
    example = read_row({"image": "next.png", "prompt": prompt, "completion": chat(("assistant", "b"))})
    assert shape(example.messages[0]) == [("image", "in.png"), ("image", "next.png")]


def test_hugging_face_strings_place_pictures_at_marks_or_before_the_first_question():
    marked = {"images": ["a.png"], "messages": chat(("user", "see <image> here"), ("assistant", "b"))}
    plain = {"images": ["a.png"], "messages": chat(*QA)}
    assert shape(read_row(marked).messages[0]) == ["see ", ("image", "a.png"), " here"]
    assert shape(read_row(plain).messages[0]) == [("image", "a.png"), "Which?"]


def test_the_hugging_face_form_of_a_stored_picture_is_opened_up():
    row = {"images": [{"bytes": b"abc", "path": None}], "messages": chat(*QA)}
    assert read_row(row).messages[0].media[0].source == b"abc"


def test_independent_turns_are_marked_on_the_example():
    assert read_row(llava(1, turns="independent")).turns == "independent"
    assert read_row(llava(1)).turns == "dialogue"


VIDEO_ROWS = {
    "llava": {"video": "a.mp4", "conversations": turns(("human", "<video>\nWhat?"), ("gpt", "b"))},
    "llava, its own sets": {"video": "a.mp4", "conversations": turns(("human", "<image>\nWhat?"), ("gpt", "b"))},
    "sharegpt": {"videos": ["a.mp4"], "conversations": turns(("human", "<video>What?"), ("gpt", "b"))},
    "openai": {
        "messages": chat(
            ("user", [{"type": "video_url", "video_url": {"url": "a.mp4"}}, {"type": "text", "text": "What?"}]),
            ("assistant", "b"),
        )
    },
    "conversational": {
        "videos": ["a.mp4"],
        "messages": chat(("user", [{"type": "video"}, {"type": "text", "text": "What?"}]), ("assistant", "b")),
    },
    "conversational strings": {"video": "a.mp4", "messages": chat(("user", "<video>What?"), ("assistant", "b"))},
}


@pytest.mark.parametrize("name", VIDEO_ROWS)
def test_a_row_of_each_format_may_hold_a_video(name):
    assert detect(VIDEO_ROWS[name]) == name.partition(",")[0].partition(" ")[0]
    assert shape(read_row(VIDEO_ROWS[name]).messages[0]) == [("video", "a.mp4"), "What?"]


def test_pictures_and_videos_of_a_row_each_take_their_own_placeholders():
    value = "<video>\nand <image>, <video>"
    row = {"image": "a.png", "video": ["b.mp4", "c.mp4"], "conversations": turns(("human", value), ("gpt", "b"))}
    expected = [("video", "b.mp4"), "and ", ("image", "a.png"), ", ", ("video", "c.mp4")]
    assert shape(read_row(row).messages[0]) == expected


def test_without_a_video_the_word_is_text():
    row = {"image": "a.png", "conversations": turns(("human", "<image>what does <video> mean?"), ("gpt", "b"))}
    assert shape(read_row(row).messages[0]) == [("image", "a.png"), "what does <video> mean?"]


@pytest.mark.parametrize("value", ["<video>a<video>", "a", "<image><video>a"])
def test_too_many_or_too_few_placeholders_for_videos_are_counted(value):
    with pytest.raises(EyespotError) as caught:
        read_row({"video": "a.mp4", "conversations": turns(("human", value), ("gpt", "b"))})
    assert caught.value.code == "media-count"


FAULTS = {
    "row-no-answer": [
        {"conversations": turns(("human", "a"))},
        {"conversations": turns(("human", "a"), ("gpt", ""))},
        {"conversations": turns(("human", "a"), ("gpt", " \n"))},
        {"conversations": turns(("human", "a"), ("gpt", None))},
        {"conversations": turns(("human", "a"), ("gpt", "b"), ("human", "c"))},
        {"conversations": turns(("human", "a"), ("human", "b"), ("gpt", "c"))},
        {"messages": chat(("user", "a"))},
        {"messages": chat(("user", "a"), ("assistant", ""))},
        {"messages": chat(("user", "a"), ("assistant", None))},
        {"prompt": "a", "completion": ""},
    ],
    "row-malformed": [
        {"conversations": turns(("human", "a"), ("gpt", "b"), ("gpt", "c"))},
        {"messages": chat(("user", "a"), ("assistant", "b"), ("assistant", "c"))},
        {"conversations": turns(("human", "a"), ("alien", "b"))},
        {"messages": chat(("user", "a"), ("alien", "b"))},
        {"conversations": turns(("gpt", "b"), ("human", "a"), ("gpt", "c"))},
        {"conversations": []},
        {"conversations": "a"},
        {"conversations": ["a"]},
        {"conversations": [{"from": "human"}]},
        {"conversations": turns(("human", 3), ("gpt", "b"))},
        {"conversations": turns(("human", "a"), ("gpt", {"bbox": 1}))},
        {"conversations": turns((["human"], "a"), ("gpt", "b"))},
        {"messages": {"role": "user"}},
        {"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 2}]},
        {"audio": "a.wav", "conversations": turns(("human", "<audio>a"), ("gpt", "b"))},
        {"videos": [["a.png"]], "conversations": turns(("human", "<video>a"), ("gpt", "b"))},
        {"image": 3, "conversations": turns(("human", "<image>a"), ("gpt", "b"))},
        {"images": "a.png", "conversations": turns(("human", "<image>a"), ("gpt", "b"))},
        {"turns": "both", "conversations": turns(("human", "a"), ("gpt", "b"))},
        {"turns": "independent", "messages": chat(("user", "a"), ("user", "b"), ("assistant", "c"))},
        {"tools": "[", "conversations": turns(("human", "a"), ("gpt", "b"))},
        {"conversations": turns(("human", "a"), ("function_call", "look"), ("gpt", "b"))},
    ],
    "media-count": [
        {"image": "a.png", "conversations": turns(("human", "a"), ("gpt", "b"))},
        {"conversations": turns(("human", "<image>a"), ("gpt", "b"))},
        {"image": ["a.png"], "conversations": turns(("human", "<image><image>a"), ("gpt", "b"))},
        {"image": "a.png", "conversations": turns(("human", "a"), ("gpt", "<image>"))},
        {"images": ["a.png"], "conversations": turns(("human", "a"), ("gpt", "b"))},
        {"images": ["a.png"], "messages": chat(("user", [{"type": "image"}, {"type": "image"}]), ("assistant", "b"))},
        {"images": ["a.png"], "messages": chat(("user", "<image><image>"), ("assistant", "b"))},
        {"images": [], "messages": chat(("user", [{"type": "image"}]), ("assistant", "b"))},
    ],
    "media-missing": [{"image": "", "conversations": turns(("human", "<image>a"), ("gpt", "b"))}],
    "data-unknown-format": [{"question": "a", "answer": "b"}, {}],
}


@pytest.mark.parametrize(("code", "row"), [(code, row) for code, rows in FAULTS.items() for row in rows])
def test_each_fault_has_its_code_and_names_line_and_id(code, row):
    if row.get("turns") == "independent":
        code = "row-no-answer"
    with pytest.raises(EyespotError) as caught:
        read_row({"id": "x7", **row}, "rows.jsonl:3")
    assert caught.value.code == code
    assert "rows.jsonl:3, id x7" in caught.value.where


@pytest.mark.parametrize("row", [["a"], "a", None, 3])
def test_a_row_that_is_no_object_is_malformed(row):
    with pytest.raises(EyespotError, match="row-malformed"):
        read_row(row, "rows.jsonl:3", format="llava")


def test_a_row_of_another_shape_than_its_source_is_an_error_but_a_text_only_row_is_not():
    with pytest.raises(EyespotError, match="the source is llava, but this row has the shape of sharegpt"):
        read_row(ROWS["sharegpt"], format="llava")
    with pytest.raises(EyespotError, match="the source is conversational, but this row has the shape of openai"):
        read_row(ROWS["openai"], format="conversational")
    with pytest.raises(EyespotError, match="the source is llava, but this row has the shape of openai"):
        read_row({"messages": chat(*QA)}, format="llava")
    assert read_row({"messages": chat(*QA)}, format="conversational").messages[1].text == "This."
    assert read_row({"conversations": turns(("human", "a"), ("gpt", "b"))}, format="sharegpt")


def test_the_format_of_a_source_is_that_of_its_sure_rows_even_where_text_only_rows_are_more():
    text = {"messages": chat(*QA)}
    assert detect_all([text, text, text, ROWS["conversational"]]) == "conversational"
    assert detect_all([text, text]) == "openai"
    assert detect_all([ROWS["llava"], ROWS["sharegpt"], ROWS["sharegpt"]]) == "sharegpt"


@given(st.lists(st.sampled_from(["<image>", "a", "\n", " b", "<image"]), max_size=12).map("".join))
@settings(max_examples=50, deadline=None)
def test_split_keeps_every_placeholder_and_loses_nothing_but_newlines(text):
    parts = split(text, MARKS)
    assert parts.count(("image", "")) == text.count("<image>")
    assert "".join(p for _, p in parts).replace("\n", "") == text.replace("<image>", "").replace("\n", "")
