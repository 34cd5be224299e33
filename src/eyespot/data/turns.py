"""Rows of ``messages`` (or ``prompt`` and ``completion``): OpenAI and Hugging Face conversational.

Contents are read by `inputs.messages`, as those of a chat are; here stand only what a row has beside them: pictures
in a column, weights, and Hugging Face rows whose contents are plain strings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eyespot.contracts.message import Message
from eyespot.data.conversations import PLACEHOLDER, split
from eyespot.data.values import fault, listed, picture
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages

ROLES = ("system", "developer", "user", "assistant", "tool")


def read_openai(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of an OpenAI row; pictures stand in their parts."""
    return _read(turns_of(row), ())


def read_conversational(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a Hugging Face row; ``{"type": "image"}`` takes the next of its column of pictures."""
    given = row["images"] if row.get("images") is not None else row.get("image")
    if given is not None and not isinstance(given, (list, tuple)):
        given = [given]
    pictures = [picture(p) for p in listed(given, "images")]
    turns = turns_of(row)
    if pictures and not any(parts_of(turn) for turn in turns):
        turns = _place(turns)
    return _read(turns, pictures)


def turns_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The turns of ``messages``, or of ``prompt`` and ``completion`` joined; strings become turns."""
    if "messages" in row:
        turns = row["messages"]
    else:
        sides = [("user", row["prompt"]), ("assistant", row["completion"])]
        joined = [[{"role": role, "content": s}] if isinstance(s, str) else s for role, s in sides]
        turns = [*joined[0], *joined[1]] if all(isinstance(s, (list, tuple)) for s in joined) else None
    if not isinstance(turns, (list, tuple)) or not turns or not all(isinstance(t, Mapping) for t in turns):
        raise fault("row-malformed", "messages must be a list of turns with role and content")
    return list(turns)


def parts_of(turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a turn whose content is a list; none when it is a string."""
    content = turn.get("content")
    return [p for p in content if isinstance(p, Mapping)] if isinstance(content, (list, tuple)) else []


def _read(turns: Sequence[Mapping[str, Any]], pictures: Sequence[Any]) -> tuple[Message, ...]:
    for number, turn in enumerate(turns, 1):
        if turn.get("role") not in ROLES:
            raise fault("row-malformed", f"unknown speaker {turn.get('role')!r} in turn {number}")
        if turn.get("weight") not in (None, 0, 1):
            raise fault("row-malformed", f"the weight of turn {number} is 0 or 1, not {turn['weight']!r}")
        if turn["role"] == "assistant" and not turn.get("content") and not turn.get("tool_calls"):
            raise fault("row-no-answer", f"the answer in turn {number} is empty")
    try:
        return tuple(read_messages(turns, pictures))
    except EyespotError as error:
        if error.code in ("message-malformed", "argument"):
            raise EyespotError("row-malformed", error.message, where=error.where) from None
        raise


def _place(turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Questions that are plain strings with `<image>` in them, as parts. Without any, pictures go before the first."""
    placed = [dict(turn) for turn in turns]
    for turn in placed:
        content = turn.get("content")
        if turn.get("role") == "user" and isinstance(content, str) and PLACEHOLDER in content:
            pieces = split(content)
            turn["content"] = [{"type": "image"} if p is None else {"type": "text", "text": p} for p in pieces]
    return list(placed)
