"""Media written out between rendering and tokenising: what stands around them, and where all else goes."""

from dataclasses import replace

import numpy as np
import pytest

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.contracts.encoded import EncodedMedia
from eyespot.errors import EyespotError
from eyespot.inputs.chat import Rendered, Stretch
from eyespot.inputs.messages import read_messages
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.inputs.unfolding import pieces_of, unfold

RULE = TextRule(
    template=(
        "{% for m in messages %}<u>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}"
        "{% else %}{{ '<x>' if p.type == 'image' else '<v>' }} {% endif %}{% endfor %}</u>{% endfor %}"
    ),
    image_token="<x>", image_form="(<x>)", video_token="<v>", frame_form="F{number}:(<x>)", frame_join="/",
    eos_token="</u>",
)  # fmt: skip
IMAGE = ImageRule(size=(8, 8), resize="exact", crop=False, patch_size=4)


def processor(rule: TextRule = RULE) -> Processor:
    specials = ["<unk>", "<u>", "</u>", "<x>", "<v>", "(", ")"]
    tokenizer = words(["F1:F2:F3:F4: / What is it then? a b <0.1 s>[<0.5 s>["], specials)
    contract = Contract(image=IMAGE, video=IMAGE, text=rule.replace(image_token_id=tokenizer.id_of("<x>")))
    return Processor(contract, tokenizer)


def frames(count: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), i, np.uint8) for i in range(count)]


def user(*parts):
    content = []
    for part in parts:
        kind = "text" if isinstance(part, str) else "video" if isinstance(part, list) else "image"
        content.append({"type": kind, kind: part, "fps": 1.0})
    return {"role": "user", "content": content}


def test_each_placeholder_becomes_its_form_and_what_follows_moves_along():
    text = "a <x> b <v> c"
    spans = (Stretch("user", 0, 0, 6, (0, 5)), Stretch("assistant", 1, 6, 13, (12, 13), ((11, 13),)))
    rendered = Rendered(text, spans, (2, 8), ((0, 1), (12, 13)))
    made = unfold(rendered, [("(<x>)",), ("F1:(<x>)", "F2:(<x>)")], RULE)
    assert made.text == "a (<x>) b F1:(<x>)/F2:(<x>) c"
    assert [made.text[p : p + 3] for p in made.media] == ["<x>"] * 3
    assert [made.text[a:b] for a, b in made.literals] == ["a", "c"]
    assert [made.text[s.start : s.stop] for s in made.spans] == ["a (<x>) ", "b F1:(<x>)/F2:(<x>) c"]
    assert [made.text[a:b] for a, b in made.spans[1].supervised] == [" c"]
    assert made.text[slice(*made.spans[0].text)] == "a (<x>)"


def test_a_medium_without_a_form_stays_as_it_is():
    rendered = Rendered("<v> <x>", (), (0, 4))
    made = unfold(rendered, [("<v>",), ("(<x>)",)], RULE.replace(frame_form=None))
    assert (made.text, made.media) == ("<v> (<x>)", (0, 5))


TIMED = RULE.replace(frame_form="<{seconds} s>[<v>]", frame_join="", frame_place="[<v>]")


def test_what_the_template_writes_around_a_video_is_replaced_with_it():
    for text, place, expected in (
        ("a [<v>] b", 3, "a <0.5 s>[<v>]<2.0 s>[<v>] b"), ("a <v>] b", 2, "a <0.5 s>[<v>]<2.0 s>[<v>]] b"),
        ("[<v>]", 1, "<0.5 s>[<v>]<2.0 s>[<v>]"),
    ):  # fmt: skip
        spans = (Stretch("user", 0, 0, len(text), (0, len(text))),)
        made = unfold(Rendered(text, spans, (place,)), [("<0.5 s>[<v>]", "<2.0 s>[<v>]")], TIMED)
        assert made.text == expected
        assert [made.text[p : p + 3] for p in made.media] == ["<v>"] * 2
        assert (made.spans[0].stop, made.spans[0].text) == (len(expected), (0, len(expected)))


def test_a_time_is_named_by_the_middle_of_its_frames_and_the_last_is_repeated():
    grids, none = np.array([[1, 2, 2]] * 2), np.zeros(0, np.int64)
    timing = (0.0, 0.5, 1.0)
    medium = EncodedMedia("video", none, grids, none, (8, 8), (8, 8), "", timing=timing)
    assert pieces_of(medium, TIMED, 2) == ("<0.2 s>[<v>]", "<1.0 s>[<v>]")
    four = replace(medium, grid_thw=grids, timing=(*timing, 2.1, 9.0))
    assert pieces_of(four, TIMED, 4) == ("<1.1 s>[<v>]", "<9.0 s>[<v>]")
    assert pieces_of(medium, RULE, 2) == ("F1:(<x>)", "F2:(<x>)")
    with pytest.raises(EyespotError, match="when its frames are"):
        pieces_of(replace(medium, timing=()), TIMED, 2)


def test_tokens_kept_for_one_rate_are_not_used_for_another():
    made = processor(TIMED.replace(template=(TIMED.template or "").replace("<v>", "[<v>]")))
    texts = []
    for fps in (1.0, 4.0, 1.0):
        part = {"type": "video", "video": frames(2), "fps": fps}
        encoded = made.encode(read_messages([{"role": "user", "content": [part]}]))
        texts.append(encoded.input_ids.tolist())
    assert texts[0] == texts[2] != texts[1]


def test_every_frame_has_its_slots_behind_its_own_number():
    made = processor()
    encoded = made.encode(read_messages([user("What", frames(3), "then", frames(1)[0], "b")]))
    text = made.tokenizer.decode(encoded.input_ids, skip_special=False).replace("<x>", "x")
    assert text == "<u>WhatF1:(xxxx)/F2:(xxxx)/F3:(xxxx) then(xxxx) b</u>"
    video, picture = encoded.media
    assert [len(video.slots), len(picture.slots)] == [12, 4]
    token = made.contract.text.image_token_id
    assert (encoded.input_ids[np.concatenate([video.slots, picture.slots])] == token).all()
    assert (encoded.input_ids == token).sum() == 16
    assert not np.array_equal(np.diff(video.slots), np.ones(11)), "the text between frames is passed over"
    assert video.grid_thw.tolist() == [[1, 2, 2]] * 3


def test_tokens_kept_for_one_number_of_frames_are_not_used_for_another():
    made = processor()
    for count in (2, 4, 2):
        (video,) = made.encode(read_messages([user(frames(count), "What?")])).media
        assert len(video.slots) == 4 * count


def test_a_typed_form_is_text():
    made = processor()
    encoded = made.encode(read_messages([user("F1:(<x>) is it? <v>", frames(1)[0])]))
    assert (encoded.input_ids == made.contract.text.image_token_id).sum() == 4 == len(encoded.media[0].slots)


@pytest.mark.parametrize("form", ["()", "<x><x>"])
@pytest.mark.parametrize("field", ["image_form", "frame_form", "frame_place"])
def test_a_form_must_hold_the_image_token_once(field, form):
    with pytest.raises(EyespotError, match="once in it"):
        RULE.replace(**{field: form})
