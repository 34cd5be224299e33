"""Rows of ``conversations``: LLaVA (``image``) and ShareGPT (``images``, ``system``, ``tools``, function calls).

The text `<image>` of a human turn *is* a placeholder, because that is the format; a newline that only sets it
apart from the text goes with it, since the chat template says what stands between picture and text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Message, Text
from eyespot.data.values import fault, listed, picture, text

PLACEHOLDER = "<image>"
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
    """The turns of a LLaVA row; ``image`` is one path or a list."""
    given = row.get("image")
    return _read(row, [] if given is None else given if isinstance(given, (list, tuple)) else [given])


def read_sharegpt(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of a ShareGPT row; its ``system`` comes first."""
    return _read(row, listed(row.get("images"), "images"))


def split(value: str) -> list[str | None]:
    """Text around placeholders; None stands for a picture."""
    pieces = value.split(PLACEHOLDER)
    if len(pieces) > 1 and not pieces[-1]:
        pieces[-2] = pieces[-2].removesuffix("\n")
    parts: list[str | None] = [pieces[0]]
    for piece in pieces[1:]:
        parts += [None, piece.removeprefix("\n")]
    return [part for part in parts if part != ""]


def _read(row: Mapping[str, Any], pictures: Sequence[Any]) -> tuple[Message, ...]:
    turns = row["conversations"]
    if not isinstance(turns, (list, tuple)) or not turns:
        raise fault("row-malformed", "conversations must be a list of turns")
    supply = iter([picture(p) for p in pictures])
    marks = sum(_placeholders(turn) for turn in turns)
    if marks != len(pictures):
        raise fault("media-count", f"{marks} placeholders {PLACEHOLDER} in the human turns, {len(pictures)} pictures")
    messages = [_turn(turn, number, supply) for number, turn in enumerate(turns, 1)]
    if row.get("system"):
        messages.insert(0, Message("system", (Text(text(row["system"], "system")),)))
    return tuple(messages)


def _placeholders(turn: Any) -> int:
    """How many pictures a turn asks for; a malformed turn none, it is refused when read."""
    if not isinstance(turn, Mapping) or SPEAKERS.get(str(turn.get("from"))) not in ("user", "tool"):
        return 0
    return str(turn.get("value")).count(PLACEHOLDER)


def _turn(turn: Any, number: int, supply: Iterator[Any]) -> Message:
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
        return Message(role, tuple(MediaRef("image", next(supply)) if p is None else Text(p) for p in split(value)))
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
