"""Reads what callers write as a conversation (strings, OpenAI, Hugging Face and our own spellings) into `Message`.

Not for dataset rows (data/formats.py) and opens nothing: a picture stays a `MediaRef` until the processor asks
inputs/decode for it. What a caller wrote as text stays text, whatever it spells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eyespot.contracts.coordinates import BoxAbs, PointAbs
from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Message, Part, Text
from eyespot.errors import EyespotError, nearest

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TEXT_TYPES = ("text", "input_text", "output_text")
IMAGE_TYPES = ("image", "image_url", "input_image")
VIDEO_TYPES = ("video",)
# Where the different spellings keep the picture, in the order they are looked for.
IMAGE_KEYS = ("image", "image_url", "url", "path", "base64", "data", "bytes", "source")


def read_messages(text_or_messages: Any, images: Any = ()) -> tuple[Message, ...]:
    """A conversation from a string, a message or a list of messages.

    Args:
        text_or_messages: a user's text; a `Message` or a mapping ``{"role", "content"}``; or a list of those, content
            a string or a list of parts.
        images: pictures for the parts ``{"type": "image"}`` that hold none, in order; beside a plain string they go
            before it.

    Raises:
        EyespotError: ``message-malformed`` naming the message and part, ``media-count`` naming both counts.
    """
    given = as_list(images)
    if isinstance(text_or_messages, str):
        parts = tuple(MediaRef("image", image) for image in given)
        return (Message("user", (*parts, Text(_clean(text_or_messages, "messages[0]")))),)
    if isinstance(text_or_messages, (Message, Mapping)):
        text_or_messages = [text_or_messages]
    if not isinstance(text_or_messages, Sequence) or isinstance(text_or_messages, (bytes, bytearray)):
        raise _malformed(f"expected text or a list of messages, got {type(text_or_messages).__name__}", "messages")
    if not text_or_messages:
        raise _malformed("the list of messages is empty", "messages")
    messages = [_read_message(m, f"messages[{i}]") for i, m in enumerate(text_or_messages)]
    return _place(messages, given, text_or_messages)


def as_list(images: Any) -> list:
    """Pictures as a list, where a caller may have given one alone."""
    if images is None:
        return []
    one_array = isinstance(images, np.ndarray) and images.ndim <= 3
    if (
        one_array
        or isinstance(images, (str, bytes, bytearray, Path, Media, MediaRef))
        or not isinstance(images, (Sequence, np.ndarray, Iterator))
    ):
        images = [images]
    return [image.source if isinstance(image, MediaRef) else image for image in images]


def _place(messages: list[Message], given: list, written: Sequence) -> tuple[Message, ...]:
    """The messages with the pictures given beside them in their places."""
    holes = sum(isinstance(p, MediaRef) and p.source is None for m in messages for p in m.parts)
    if given and not any(m.media for m in messages):
        return _place_before_first_string(messages, given, written)
    if holes != len(given):
        raise EyespotError("media-count", f"{holes} image parts without a picture, {len(given)} images given")
    rest = iter(given)

    def fill(part: Part) -> Part:
        empty = isinstance(part, MediaRef) and part.source is None
        return MediaRef(part.kind, next(rest), part.options) if empty else part  # type: ignore[union-attr]

    return tuple(replace(m, parts=tuple(map(fill, m.parts))) if m.parts else m for m in messages)


def _place_before_first_string(messages: list[Message], given: list, written: Sequence) -> tuple[Message, ...]:
    first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
    if first is None or not (isinstance(written[first], Mapping) and isinstance(written[first]["content"], str)):
        raise EyespotError("media-count", f"no image part in the messages, {len(given)} images given")
    pictures = tuple(MediaRef("image", image) for image in given)
    messages[first] = replace(messages[first], parts=pictures + messages[first].parts)
    return tuple(messages)


def _read_message(message: Any, where: str) -> Message:
    if isinstance(message, Message):
        if message.role not in ROLES.values():
            raise _malformed(f"unknown role {message.role!r}{nearest(message.role, ROLES)}", where)
        for part in message.parts:
            if isinstance(part, Text):
                _clean(part.text, where)
        return message
    if not isinstance(message, Mapping):
        raise _malformed(f"expected a mapping with role and content, got {type(message).__name__}", where)
    role = message.get("role")
    if role not in ROLES:
        raise _malformed(f"unknown role {role!r}{nearest(str(role), ROLES)}", where)
    calls = tuple(message.get("tool_calls") or ())
    if not all(isinstance(call, Mapping) for call in calls):
        raise _malformed("tool_calls must be mappings", where)
    return Message(
        role=ROLES[role],
        parts=_read_content(message.get("content"), where, optional=bool(calls)),
        name=message.get("name"),
        tool_calls=calls,
        tool_call_id=message.get("tool_call_id"),
        weight=_read_weight(message, where),
    )


def _read_weight(message: Mapping, where: str) -> float | None:
    weight = message.get("weight", message.get("loss"))
    if weight is None:
        return None
    if not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
        raise _malformed(f"weight must be a number from 0, got {weight!r}", where)
    return float(weight)


def _read_content(content: Any, where: str, optional: bool) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(_clean(content, where)),)
    if content is None and optional:
        return ()
    if isinstance(content, (Mapping, Text, Media, MediaRef, BoxAbs, PointAbs)):
        content = [content]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise _malformed(f"content must be a string or a list of parts, got {type(content).__name__}", where)
    return tuple(_read_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))


def _read_part(part: Any, where: str) -> Part:
    if isinstance(part, (Text, Media, MediaRef, BoxAbs, PointAbs)):
        return part
    if not isinstance(part, Mapping):
        raise _malformed(f"expected a part such as {{'type': 'text', 'text': …}}, got {type(part).__name__}", where)
    kind = part.get("type")
    if kind in TEXT_TYPES:
        if not isinstance(part.get("text"), str):
            raise _malformed(f"a text part needs a string under 'text', got {part.get('text')!r}", where)
        return Text(_clean(part["text"], where))
    if kind in IMAGE_TYPES:
        options = {}
        source = _image_source(part, options, where)
        return MediaRef("image", source, options)
    if kind in VIDEO_TYPES:
        if part.get("video") is None:
            raise _malformed("a video part needs a list of frames under 'video'", where)
        return MediaRef("video", part["video"], {"fps": part.get("fps")})
    known = (*TEXT_TYPES, *IMAGE_TYPES, *VIDEO_TYPES)
    raise _malformed(f"unknown part type {kind!r}{nearest(str(kind), known)}", where)


def _image_source(part: Mapping, options: dict, where: str) -> Any:
    """The picture of an image part in any spelling; None for "the next of the images"."""
    if part.get("detail") is not None:
        options["detail"] = part["detail"]
    key = next((k for k in IMAGE_KEYS if part.get(k) is not None), None)
    if key is None:
        if part.get("type") != "image":
            raise _malformed(f"a part of type {part['type']!r} needs a picture", where)
        return None
    value = part[key]
    if isinstance(value, Mapping):  # {"url": …, "detail": …}, {"bytes": …}, {"type": "base64", "media_type", "data"}
        inner = _image_source({**value, "type": "image_url"}, options, where)
        if value.get("type") == "base64" and isinstance(inner, str) and not inner.startswith("data:"):
            return f"data:{value.get('media_type', 'image/png')};base64,{inner}"
        return inner
    if key == "base64" and isinstance(value, str) and not value.startswith("data:"):
        return f"data:image/png;base64,{value}"
    return value


def _clean(text: str, where: str) -> str:
    """The text itself; lone surrogates are refused, as no tokenizer can read them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _malformed(f"the text holds half a character (a lone surrogate) at {error.start}", where) from None
    return text


def _malformed(message: str, where: str) -> EyespotError:
    return EyespotError("message-malformed", message, where=where)
