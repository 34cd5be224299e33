"""Boxes and points as text, once the resize is known: the model reads and writes places on the picture that it sees.

Not a parser of answers (tasks do that). The picture meant is the last one before the box, or the first of all.
"""

from collections.abc import Sequence
from dataclasses import replace

from eyespot.contracts.coordinates import BoxAbs, PointAbs
from eyespot.contracts.encoded import EncodedMedia
from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Message, Part, Text
from eyespot.errors import EyespotError


def write_places(messages: Sequence[Message], media: Sequence[EncodedMedia], form: str) -> tuple[Message, ...]:
    """`messages` with every box and point written into the text around it.

    Args:
        messages: may hold `BoxAbs` and `PointAbs` parts, in pixels of the original pictures.
        media: the pictures in order.
        form: ``unit`` (shares with two decimals), ``thousand`` (integers 0–1000), ``abs`` (pixels of the input) or
            ``tags`` (``<ref>label</ref><box>(x1,y1),(x2,y2)</box>``, integers 0–999: Qwen-VL).
    """
    if not any(isinstance(part, (BoxAbs, PointAbs)) for m in messages for part in m.parts):
        return tuple(messages)
    seen, written = 0, []
    for i, message in enumerate(messages):
        parts: list[Part] = []
        glue = False  # whether text that follows belongs to the place before it
        for part in message.parts:
            if isinstance(part, (BoxAbs, PointAbs)):
                if not media:
                    raise EyespotError("message-malformed", "a box or point without a picture", where=f"messages[{i}]")
                text, glue_now = written_place(part, media[max(seen - 1, 0)], form), True
            elif isinstance(part, Text):
                text, glue_now = part.text, False
            else:
                seen += isinstance(part, (Media, MediaRef))
                parts.append(part)
                glue = False
                continue
            if parts and isinstance(parts[-1], Text) and (glue or glue_now):
                parts[-1] = Text(parts[-1].text + text)
            else:
                parts.append(Text(text))
            glue = glue_now
        written.append(replace(message, parts=tuple(parts)))
    return tuple(written)


def written_place(place: BoxAbs | PointAbs, medium: EncodedMedia, form: str) -> str:
    """``[0.12, 0.30, 0.50, 0.61]``, ``[120, 300, 500, 610]``, pixels or tags, on the picture that the model sees."""
    corners = [(place.x1, place.y1), (place.x2, place.y2)] if isinstance(place, BoxAbs) else [(place.x, place.y)]
    width, height = medium.input_size
    numbers = []
    for x, y in corners:
        x, y = medium.transform.to_input(x, y)
        # What a crop cut off lies on the border.
        numbers += [min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)]
    if form == "tags":
        whole = [round(n * 999) for n in numbers]
        pairs = ",".join(f"({x},{y})" for x, y in zip(whole[::2], whole[1::2], strict=True))
        return (f"<ref>{place.label}</ref>" if place.label else "") + f"<box>{pairs}</box>"
    if form == "unit":
        return "[" + ", ".join(f"{n:.2f}" for n in numbers) + "]"
    scale = (1000, 1000) if form == "thousand" else (width, height)
    return "[" + ", ".join(str(round(n * scale[i % 2])) for i, n in enumerate(numbers)) + "]"
