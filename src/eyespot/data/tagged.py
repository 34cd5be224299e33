"""Rows of ``conversations`` that name their pictures in the text: ``Picture 1: <img>path</img>`` (Qwen-VL's own sets).

The number and the end of the line belong to the writing and go with the tags: the chat template says what stands around
a picture. Places in the text, ``<ref>`` and ``<box>``, stay text. Form: README of github.com/QwenLM/Qwen-VL.
"""

import re
from collections.abc import Mapping
from typing import Any

from eyespot.contracts.message import Message
from eyespot.data.conversations import SPEAKERS, read_llava
from eyespot.data.values import fault

PICTURE = re.compile(r"(?:Picture \d+: ?)?<img>(?P<path>[^<>\n]*)</img>")
# So begins a row of this form; tags in the middle of a text may be about something else.
OPENING = re.compile(r"(?:\A|Picture \d+: ?)<img>[^<>\n]+</img>")
COLUMNS = ("image", "images", "video", "videos")
PLACEHOLDER = "<image>"


def names_pictures(row: Mapping[str, Any]) -> bool:
    """Whether pictures are named in the text, and in no column."""
    turns = row.get("conversations")
    if not isinstance(turns, (list, tuple)) or any(row.get(key) is not None for key in COLUMNS):
        return False
    return any(OPENING.search(text) for text in map(_asked, turns) if text is not None)


def read_tagged(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of a row, read as one of LLaVA's whose pictures stand in a column."""
    turns = row["conversations"]
    if not isinstance(turns, (list, tuple)):
        raise fault("row-malformed", "conversations must be a list of turns")
    paths: list[str] = []

    def named(match: re.Match[str]) -> str:
        paths.append(match["path"].strip())
        return PLACEHOLDER

    written = []
    for number, turn in enumerate(turns, 1):
        text = _asked(turn)
        if text is not None and PLACEHOLDER in text:
            raise fault(
                "row-malformed", f"turn {number} names no picture for {PLACEHOLDER}: here they stand in the text"
            )
        written.append(turn if text is None else {**turn, "value": PICTURE.sub(named, text)})
    return read_llava({**row, "conversations": written, "image": paths})


def _asked(turn: Any) -> str | None:
    """The text of a turn that may show pictures; None of any other, and of what is no turn."""
    shows = isinstance(turn, Mapping) and SPEAKERS.get(str(turn.get("from"))) in ("user", "tool")
    return turn["value"] if shows and isinstance(turn.get("value"), str) else None
