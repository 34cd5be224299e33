import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyespot.contracts.coordinates import BoxAbs
from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Message, Text
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages

ARRAY = np.zeros((4, 5, 3), np.uint8)


def sources(messages) -> list:
    return [part.source for message in messages for part in message.media]


def refused(code, *args):
    with pytest.raises(EyespotError) as error:
        read_messages(*args)
    assert error.value.code == code
    return str(error.value)


def test_a_string_is_one_user_message():
    assert read_messages("What is it?") == (Message("user", (Text("What is it?"),)),)


def test_images_beside_a_string_go_before_it():
    (message,) = read_messages("What is it?", ["a.png", "b.png"])
    assert [type(p) for p in message.parts] == [MediaRef, MediaRef, Text]
    assert sources([message]) == ["a.png", "b.png"]


def test_images_beside_plain_string_content_go_before_the_first_users_text():
    messages = read_messages(
        [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        ["a.png"],
    )
    assert [len(m.media) for m in messages] == [0, 1, 0]
    assert messages[1].parts[-1] == Text("q")


@pytest.mark.parametrize(
    "image", ["a.png", Path("a.png"), b"bytes", ARRAY, Image.new("RGB", (3, 3))], ids=lambda image: type(image).__name__
)
def test_a_single_image_need_not_be_in_a_list(image):
    (source,) = sources(read_messages("q", image))
    assert source is image


def test_an_array_of_pictures_is_several_pictures():
    assert len(sources(read_messages("q", np.zeros((2, 4, 5, 3), np.uint8)))) == 2


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "x"},
        {"type": "image", "url": "x"},
        {"type": "image", "path": "x"},
        {"type": "image_url", "image_url": {"url": "x", "detail": "low"}},
        {"type": "image_url", "image_url": "x"},
        {"type": "input_image", "image_url": "x"},
        {"type": "image", "image": {"path": "x"}},
        {"type": "image", "source": {"type": "url", "url": "x"}},
    ],
    ids=str,
)
def test_every_spelling_of_an_image_part_is_read(part):
    assert sources(read_messages([{"role": "user", "content": [part, {"type": "text", "text": "q"}]}])) == ["x"]


def test_detail_is_kept_as_an_option():
    (message,) = read_messages(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]}
    )
    assert message.media[0].options == {"detail": "low"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "base64": base64.b64encode(b"abc").decode()},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YWJj"}},
    ],
)
def test_base64_becomes_a_data_url(part):
    assert sources(read_messages([{"role": "user", "content": [part]}])) == ["data:image/png;base64,YWJj"]


def test_encoded_bytes_of_a_dataset_are_read():
    part = {"type": "image", "image": {"bytes": b"png", "path": None}}
    assert sources(read_messages([{"role": "user", "content": [part]}])) == [b"png"]


def test_image_parts_without_a_picture_take_the_images_in_order():
    content = [{"type": "image"}, {"type": "image", "image": "own"}, {"type": "text", "text": "q"}, {"type": "image"}]
    assert sources(read_messages([{"role": "user", "content": content}], ["a", "b"])) == ["a", "own", "b"]


@pytest.mark.parametrize("images", [[], ["a"], ["a", "b", "c"]])
def test_too_few_or_too_many_images_name_both_counts(images):
    content = [{"type": "image"}, {"type": "image"}]
    text = refused("media-count", [{"role": "user", "content": content}], images)
    assert "2 image parts" in text and f"{len(images)} images" in text


def test_images_that_no_part_takes_are_refused():
    refused("media-count", [{"role": "user", "content": [{"type": "text", "text": "q"}]}], ["a"])


def test_parts_of_ours_pass_as_they_are():
    media = Media("image", ARRAY, (5, 4), "hash")
    parts = (media, Text("where?"), BoxAbs(1, 2, 3, 4))
    assert read_messages([{"role": "user", "content": list(parts)}])[0].parts == parts
    assert read_messages([Message("user", parts)])[0].parts == parts


def test_tool_calls_names_and_weights_are_kept():
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = read_messages(
        [
            {"role": "user", "content": "q", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
            {"role": "assistant", "content": "a", "weight": 0},
        ]
    )
    assert messages[0].name == "ann"
    assert messages[1].tool_calls == (call,) and messages[1].parts == ()
    assert messages[2].tool_call_id == "1"
    assert messages[3].weight == 0


def test_developer_is_another_word_for_system():
    assert read_messages({"role": "developer", "content": "be brief"})[0].role == "system"


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([{"role": "usr", "content": "q"}], "messages[0]"),
        ([{"role": "user", "content": "q"}, {"role": "bot", "content": "q"}], "messages[1]"),
        ([{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "smell"}]}], "messages[0].content[1]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": 3}], "messages[0]"),
        ([{"role": "user", "content": None}], "messages[0]"),
        ([{"role": "user", "content": "half a \ud83d character"}], "messages[0]"),
        ([{"role": "assistant", "content": "a", "weight": -1}], "messages[0]"),
        (["q"], "messages[0]"),
        ([], "messages"),
        (7, "messages"),
    ],
)
def test_what_is_no_message_is_refused_by_its_place(messages, named):
    assert named in refused("message-malformed", messages)


def test_an_unknown_role_names_the_nearest():
    assert "'user'" in refused("message-malformed", [{"role": "usr", "content": "q"}])
