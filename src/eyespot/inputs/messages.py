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
from eyespot.inputs.frames import ASKED

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TEXT_TYPES = ("text", "input_text", "output_text")
IMAGE_TYPES = ("image", "image_url", "input_image")
VIDEO_TYPES = ("video", "video_url", "input_video")
AUDIO_TYPES = ("audio", "audio_url", "input_audio")
# Where the different spellings keep the picture, in the order they are looked for.
IMAGE_KEYS = ("image", "image_url", "url", "path", "base64", "data", "bytes", "source")
VIDEO_KEYS = ("video", "video_url", "url", "path", "base64", "data", "bytes", "source", "frames")
AUDIO_KEYS = ("audio", "audio_url", "input_audio", "url", "path", "base64", "data", "bytes", "source")
KEYS = {"image": (IMAGE_KEYS, "image/png"), "video": (VIDEO_KEYS, "video/mp4"), "audio": (AUDIO_KEYS, "audio/wav")}
NOUNS = {"image": "picture", "video": "video", "audio": "sound"}


def read_messages(text_or_messages: Any, images: Any = (), videos: Any = ()) -> tuple[Message, ...]:
    """A conversation from a string, a message or a list of messages.

    Args:
        text_or_messages: a user's text; a `Message` or a mapping ``{"role", "content"}``; or a list of those, content
            a string or a list of parts.
        images: pictures for the parts ``{"type": "image"}`` that hold none, in order; beside a plain string they go
            before it.
        videos: a list of videos for the parts ``{"type": "video"}``, in the same way, behind the pictures.

    Raises:
        EyespotError: ``message-malformed`` naming the message and part, ``media-count`` naming both counts.
    """
    given = {"image": as_list(images), "video": _as_videos(videos)}
    if isinstance(text_or_messages, str):
        return (Message("user", (*_parts(given), Text(_clean(text_or_messages, "messages[0]")))),)
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


def _as_videos(videos: Any) -> list:
    """Videos as a list; a list of frames is one of them, so one video alone is a path, bytes or `MediaRef`."""
    if videos is None:
        return []
    alone = isinstance(videos, (str, bytes, bytearray, Path, Media, MediaRef))
    return [videos] if alone else list(videos)


def _parts(given: Mapping[str, list]) -> tuple[MediaRef, ...]:
    return tuple(
        medium if isinstance(medium, MediaRef) else MediaRef(kind, medium)
        for kind, media in given.items()
        for medium in media
    )


def _place(messages: list[Message], given: Mapping[str, list], written: Sequence) -> tuple[Message, ...]:
    """The messages with the media given beside them in their places."""
    empty = [p.kind for m in messages for p in m.parts if isinstance(p, MediaRef) and p.source is None]
    if any(given.values()) and not any(m.media for m in messages):
        return _place_before_first_string(messages, given, written)
    for kind, noun in (("image", "a picture"), ("video", "a video")):
        if empty.count(kind) != len(given[kind]):
            message = f"{empty.count(kind)} {kind} parts without {noun}, {len(given[kind])} {kind}s given"
            raise EyespotError("media-count", message)
    rest = {kind: iter(media) for kind, media in given.items()}

    def fill(part: Part) -> Part:
        if not isinstance(part, MediaRef) or part.source is not None or part.kind not in rest:
            return part
        found = next(rest[part.kind])
        if isinstance(found, MediaRef):
            return MediaRef(part.kind, found.source, {**found.options, **part.options})
        return MediaRef(part.kind, found, part.options)

    return tuple(replace(m, parts=tuple(map(fill, m.parts))) if m.parts else m for m in messages)


def _place_before_first_string(
    messages: list[Message], given: Mapping[str, list], written: Sequence
) -> tuple[Message, ...]:
    first = next((i for i, m in enumerate(messages) if m.role == "user"), None)
    if first is None or not (isinstance(written[first], Mapping) and isinstance(written[first]["content"], str)):
        kind = "image" if given["image"] else "video"
        raise EyespotError("media-count", f"no {kind} part in the messages, {len(given[kind])} {kind}s given")
    messages[first] = replace(messages[first], parts=_parts(given) + messages[first].parts)
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
        options = {} if part.get("detail") is None else {"detail": part["detail"]}
        return MediaRef("image", _source(part, "image", options, where), options)
    if kind in VIDEO_TYPES:
        options = {key: part[key] for key in ASKED if part.get(key) is not None}
        return MediaRef("video", _source(part, "video", options, where), options)
    if kind in AUDIO_TYPES:
        source = _source(part, "audio", {}, where)
        if source is None:
            raise _malformed("a part of type 'audio' needs a sound", where)
        return MediaRef("audio", source)
    known = (*TEXT_TYPES, *IMAGE_TYPES, *VIDEO_TYPES, *AUDIO_TYPES)
    raise _malformed(f"unknown part type {kind!r}{nearest(str(kind), known)}", where)


def _source(part: Mapping, kind: str, options: dict, where: str) -> Any:
    """The medium of a part in any spelling; None for "the next of those given beside the messages"."""
    keys, default = KEYS[kind]
    key = next((k for k in keys if part.get(k) is not None), None)
    if key is None:
        if part.get("type") != kind:
            raise _malformed(f"a part of type {part['type']!r} needs a {NOUNS[kind]}", where)
        return None
    value = part[key]
    if isinstance(value, Mapping):  # {"url": …, "detail": …}, {"bytes": …}, {"type": "base64", "media_type", "data"}
        if kind == "image" and value.get("detail") is not None:
            options["detail"] = value["detail"]
        inner = _source({**value, "type": f"{kind}_url"}, kind, options, where)
        if kind == "audio" and value.get("data") is inner and isinstance(inner, str) and value.get("format"):
            return f"data:audio/{value['format']};base64,{inner}"  # OpenAI's input_audio
        if value.get("type") == "base64" and isinstance(inner, str) and not inner.startswith("data:"):
            return f"data:{value.get('media_type', default)};base64,{inner}"
        return inner
    if key == "base64" and isinstance(value, str) and not value.startswith("data:"):
        return f"data:{default};base64,{value}"
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
