"""Rows of ``messages`` (or ``prompt`` and ``completion``): OpenAI and Hugging Face conversational.

Contents are read by `inputs.messages`, as those of a chat are; here stand only what a row has beside them: pictures
in a column, weights, and Hugging Face rows whose contents are plain strings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from eyespot.contracts.message import Message
from eyespot.data.conversations import marks_of, one_or_many, split
from eyespot.data.values import fault, listed, medium
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages

ROLES = ("system", "developer", "user", "assistant", "tool")


def read_openai(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of an OpenAI row; pictures stand in their parts."""
    return _read(turns_of(row), {})


def read_conversational(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a Hugging Face row; ``{"type": "image"}`` takes the next of its column of pictures.

    Videos stand in ``videos`` or ``video`` and are taken by ``{"type": "video"}``.
    """
    media = {}
    for kind in ("image", "video"):
        given = row.get(f"{kind}s") if row.get(f"{kind}s") is not None else row.get(kind)
        media[kind] = [medium(m, kind) for m in listed(one_or_many(given), f"{kind}s")]
    turns = turns_of(row)
    if any(media.values()) and not any(parts_of(turn) for turn in turns):
        turns = _place(turns, media)
    return _read(turns, media)


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


def _read(turns: Sequence[Mapping[str, Any]], media: Mapping[str, Sequence[Any]]) -> tuple[Message, ...]:
    for number, turn in enumerate(turns, 1):
        if turn.get("role") not in ROLES:
            raise fault("row-malformed", f"unknown speaker {turn.get('role')!r} in turn {number}")
        if turn.get("weight") not in (None, 0, 1):
            raise fault("row-malformed", f"the weight of turn {number} is 0 or 1, not {turn['weight']!r}")
        if turn["role"] == "assistant" and not turn.get("content") and not turn.get("tool_calls"):
            raise fault("row-no-answer", f"the answer in turn {number} is empty")
    try:
        return tuple(read_messages(turns, media.get("image"), media.get("video")))
    except EyespotError as error:
        if error.code in ("message-malformed", "argument"):
            raise EyespotError("row-malformed", error.message, where=error.where) from None
        raise


def _place(turns: Sequence[Mapping[str, Any]], media: Mapping[str, Sequence[Any]]) -> list[Mapping[str, Any]]:
    """Questions that are plain strings with `<image>` in them, as parts. Without any, pictures go before the first."""
    placed = [dict(turn) for turn in turns]
    asked = [t for t in placed if t.get("role") == "user" and isinstance(t.get("content"), str)]
    kinds = marks_of([turn["content"] for turn in asked], media)
    for turn in asked:
        if any(mark in turn["content"] for mark in kinds):
            pieces = split(turn["content"], kinds)
            turn["content"] = [{"type": kind, **({"text": p} if kind == "text" else {})} for kind, p in pieces]
    return list(placed)
