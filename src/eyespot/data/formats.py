"""Foreign rows → `Example`: LLaVA, ShareGPT, pictures named in text, OpenAI messages, Hugging Face conversational rows.

What a row is, is seen from its keys and never from a file's name. A source has one format; a row that surely has
another shape is an error for that row, not a guess.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eyespot.contracts.message import Example, Message
from eyespot.data.conversations import read_llava, read_sharegpt
from eyespot.data.tagged import names_pictures, read_tagged
from eyespot.data.turns import parts_of, read_conversational, read_openai, turns_of
from eyespot.data.values import fault
from eyespot.errors import EyespotError

UNREAD = ("audio", "audios")


@dataclass(frozen=True)
class Format:
    """How rows of one format are read: the key that holds the turns, and whether questions and answers alternate."""

    name: str
    key: str
    read: Callable[[Mapping[str, Any]], tuple[Message, ...]]
    alternate: bool


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("llava", "conversations", read_llava, alternate=True),
        Format("sharegpt", "conversations", read_sharegpt, alternate=True),
        Format("tagged", "conversations", read_tagged, alternate=True),
        Format("openai", "messages", read_openai, alternate=False),
        Format("conversational", "messages", read_conversational, alternate=False),
    )
}


def shape(row: Mapping[str, Any]) -> tuple[str, bool]:
    """The format that a row's keys speak for, and whether they do so surely: a text-only row fits two formats."""
    if names_pictures(row):
        return "tagged", True
    if "conversations" in row:
        if any(row.get(key) is not None for key in ("images", "videos", "system", "tools")):
            return "sharegpt", True
        return "llava", row.get("image") is not None or row.get("video") is not None
    if "messages" in row or ("prompt" in row and "completion" in row):
        try:
            turns = turns_of(row)
        except EyespotError:
            turns = []
        parts = [part for turn in turns for part in parts_of(turn)]
        media = any(row.get(key) is not None for key in ("images", "image", "videos", "video"))
        if media or "messages" not in row or any(part.get("type") in ("image", "video") for part in parts):
            return "conversational", True
        marked = any(turn.keys() & {"tool_calls", "weight"} for turn in turns)
        return "openai", marked or "tools" in row or any(part.keys() & {"image_url", "video_url"} for part in parts)
    return "", False


def detect(row: Mapping[str, Any]) -> str:
    """The name of the format that a row is read as.

    Raises:
        EyespotError: ``data-unknown-format`` naming the row's keys.
    """
    name, _ = shape(row)
    if not name:
        raise EyespotError("data-unknown-format", f"no known format has the keys {_keys(row)}")
    return name


def detect_all(rows: Iterable[Mapping[str, Any]]) -> str:
    """The format of a source by a sample of its rows: the most frequent among the sure ones, else of all."""
    rows = list(rows)
    found = [shape(row) for row in rows]
    names = [name for name, sure in found if sure] or [name for name, _ in found if name]
    if not names:
        return detect(rows[0] if rows else {})
    return max(dict.fromkeys(names), key=names.count)


def read_row(row: Any, where: str = "", *, format: str | None = None, name: str = "") -> Example:
    """One row as an `Example`.

    Args:
        row: the row's keys and values.
        where: file and line, for errors.
        format: the format of its source; a row of another shape is an error. None: whatever the row is.
        name: its id when the row has none of its own.

    Raises:
        EyespotError: ``row-malformed``, ``row-no-answer``, ``media-count``, ``media-missing`` or
            ``data-unknown-format``, each with file, line and id.
    """
    own = row_id(row)
    try:
        _expect_shape(row, format)
        chosen = FORMATS[format or detect(row)]
        for key in UNREAD:
            if row.get(key):
                raise fault("row-malformed", f"{key!r} is not read yet, pictures and videos are")
        messages = chosen.read(row)
        turns = row.get("turns", "dialogue")
        if turns not in ("dialogue", "independent"):
            raise fault("row-malformed", f"turns is dialogue or independent, not {turns!r}")
        check_turns(messages, alternate=chosen.alternate or turns == "independent")
        tools = _tools(row)
    except EyespotError as error:
        raise error.at(place(where, own)) from None
    return Example(own or name or where, messages, meta={"tools": tools} if tools else {}, turns=turns)


def row_id(row: Any) -> str:
    """The row's own id as text, or empty."""
    given = row.get("id") if isinstance(row, Mapping) else None
    return str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""


def place(where: str, name: str) -> str:
    """``"data.jsonl:12, id 000123"``."""
    return ", ".join([*([where] if where else []), *([f"id {name}"] if name else [])]) or "row"


def check_turns(messages: Sequence[Message], *, alternate: bool) -> None:
    """Every question answered, every answer there, no answer twice.

    Args:
        messages: of one row.
        alternate: also refuse two questions in a row and an answer before any question.
    """
    if not any(m.role == "assistant" for m in messages):
        raise fault("row-no-answer", "no turn is an answer")
    previous = ""
    for number, message in enumerate(messages, 1):
        if message.role == "assistant":
            if not message.text.strip() and not message.tool_calls and not message.media:
                raise fault("row-no-answer", f"the answer in turn {number} is empty")
            if previous == "assistant":
                raise fault("row-malformed", f"two answers in a row (turns {number - 1} and {number})")
            if alternate and previous not in ("user", "tool"):
                raise fault("row-malformed", f"turn {number} answers before anything is asked")
        elif alternate and message.role == previous == "user":
            raise fault("row-no-answer", f"the question in turn {number - 1} has no answer")
        previous = message.role
    if previous != "assistant":
        raise fault("row-no-answer", f"the last turn ({previous}) has no answer")


def _expect_shape(row: Any, format: str | None) -> None:
    if not isinstance(row, Mapping):
        raise fault("row-malformed", f"a row is an object, not {type(row).__name__}")
    name, sure = shape(row)
    if format is None or name == format:
        return
    if not name:
        raise fault("row-malformed", f"the source is {format}, but this row has only the keys {_keys(row)}")
    if sure or FORMATS[name].key != FORMATS[format].key:
        raise fault("row-malformed", f"the source is {format}, but this row has the shape of {name}")


def _tools(row: Mapping[str, Any]) -> Any:
    """`tools` as a list; ShareGPT rows hold it as JSON text."""
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            return json.loads(tools)
        except ValueError:
            raise fault("row-malformed", "tools is not JSON") from None
    return tools or None


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(row)[:8]) or "(none)"
