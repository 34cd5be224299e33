"""Rows of ``conversations``: LLaVA (``image``, ``video``) and ShareGPT (``images``, ``videos``, ``system``, ``tools``).

The text `<image>` of a human turn *is* a placeholder, because that is the format, and so is `<video>` in a row that
has videos; a newline that only sets it apart from the text goes with it, since the chat template says what stands
between picture and text. Where all media of a row are videos, `<image>` means them too, as in LLaVA's own sets.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Message, Text
from eyespot.data.values import fault, listed, medium, text

PLACEHOLDERS = {"image": "<image>", "video": "<video>"}
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
    "function_call": "call",
}


def read_llava(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of a LLaVA row; ``image`` and ``video`` are one path or a list."""
    return _read(row, {kind: one_or_many(row.get(kind)) for kind in PLACEHOLDERS})


def read_sharegpt(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of a ShareGPT row; its ``system`` comes first."""
    return _read(row, {kind: listed(row.get(f"{kind}s"), f"{kind}s") for kind in PLACEHOLDERS})


def one_or_many(given: Any) -> list[Any]:
    """A column that holds one medium or a list of them."""
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def split(value: str, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """``("text", …)`` around placeholders, and ``("image", "")`` or ``("video", "")`` for them.

    Args:
        value: the text.
        kinds: what each placeholder stands for.
    """
    pieces = re.split("(" + "|".join(map(re.escape, kinds)) + ")", value)
    if len(pieces) > 1 and not pieces[-1]:
        pieces[-3] = pieces[-3].removesuffix("\n")
    parts = [("text", pieces[0])]
    for mark, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        parts += [(kinds[mark], ""), ("text", piece.removeprefix("\n"))]
    return [(kind, piece) for kind, piece in parts if kind != "text" or piece]


def marks_of(texts: Sequence[str], media: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """What the placeholders in some texts stand for, given the row's media by kind."""
    kinds = {PLACEHOLDERS["image"]: "image"}
    if media["video"]:
        if not media["image"] and not any(PLACEHOLDERS["video"] in value for value in texts):
            return {PLACEHOLDERS["image"]: "video"}
        kinds[PLACEHOLDERS["video"]] = "video"
    return kinds


def _read(row: Mapping[str, Any], media: Mapping[str, list[Any]]) -> tuple[Message, ...]:
    turns = row["conversations"]
    if not isinstance(turns, (list, tuple)) or not turns:
        raise fault("row-malformed", "conversations must be a list of turns")
    supply = {kind: iter([medium(m, kind) for m in given]) for kind, given in media.items()}
    texts = [_value(turn) for turn in turns]
    kinds = marks_of(texts, media)
    for kind, noun in (("image", "pictures"), ("video", "videos")):
        mark = next((mark for mark, of in kinds.items() if of == kind), PLACEHOLDERS[kind])
        count = sum(value.count(mark) for value in texts) if kinds.get(mark) == kind else 0
        if count != len(media[kind]):
            message = f"{count} placeholders {mark} in the human turns, {len(media[kind])} {noun}"
            raise fault("media-count", message)
    messages = [_turn(turn, number, kinds, supply) for number, turn in enumerate(turns, 1)]
    if row.get("system"):
        messages.insert(0, Message("system", (Text(text(row["system"], "system")),)))
    return tuple(messages)


def _value(turn: Any) -> str:
    """The text of a turn that may ask for media; a malformed turn has none, it is refused when read."""
    if not isinstance(turn, Mapping) or SPEAKERS.get(str(turn.get("from"))) not in ("user", "tool"):
        return ""
    return str(turn.get("value"))


def _turn(turn: Any, number: int, kinds: Mapping[str, str], supply: Mapping[str, Iterator[Any]]) -> Message:
    if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
        raise fault("row-malformed", f'turn {number} must be {{"from": …, "value": …}}')
    role = SPEAKERS.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise fault("row-malformed", f"unknown speaker {turn['from']!r} in turn {number}; known: {', '.join(SPEAKERS)}")
    if role == "assistant" and turn["value"] is None:
        raise fault("row-no-answer", f"the answer in turn {number} is empty")
    value = text(turn["value"], f"the value of turn {number}")
    if role == "call":
        return Message("assistant", (), tool_calls=_calls(value, number))
    if role in ("user", "tool"):
        parts = split(value, kinds)
        return Message(role, tuple(Text(p) if k == "text" else MediaRef(k, next(supply[k])) for k, p in parts))
    return Message(role, (Text(value),))


def _calls(value: str, number: int) -> tuple[Mapping[str, Any], ...]:
    """A function call as OpenAI-shaped tool calls."""
    try:
        calls = json.loads(value)
    except ValueError:
        raise fault("row-malformed", f"the function call of turn {number} is not JSON") from None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(c, Mapping) and isinstance(c.get("name"), str) for c in calls):
        raise fault("row-malformed", f'the function call of turn {number} must be {{"name": …, "arguments": …}}')
    return tuple({"type": "function", "function": {"arguments": {}, **call}} for call in calls)
