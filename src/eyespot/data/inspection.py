"""Every row of a source read and its pictures and videos opened, before a run depends on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example
from eyespot.data.loader import encode_row
from eyespot.data.sources import Source
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image
from eyespot.inputs.frames import wanted_frames
from eyespot.inputs.video import decode_video
from eyespot.runtime.limits import LIMITS, Limits

_SMALL = ImageRule(resize="exact", size=(16, 16))  # frames of a film are read and not kept


@dataclass(frozen=True, slots=True)
class RowReport:
    """What is known of one row: its id, file and line, how much it holds, and its fault, if any."""

    id: str
    where: str
    turns: int = 0
    images: int = 0
    error: EyespotError | None = None


def inspect_rows(
    source: Source, processor: Any = None, *, rows: int | None = None, limits: Limits = LIMITS, **options: Any
) -> Iterator[RowReport]:
    """A report for each row, in order.

    Args:
        source: what to read.
        processor: also encodes each row, so that template, length and supervision are checked; None: opens media.
        rows: stop after so many; needed for an endless source.
        limits: of sizes.
        options: further arguments of `encode_example`.
    """
    count = len(source) if rows is None else rows if source.length is None else min(rows, source.length)
    for row in range(count):
        turns = images = 0
        fault = None
        try:
            example = source.read(row)
            turns, images = len(example.messages), sum(len(m.media) for m in example.messages)
            if processor is None:
                _open_media(example, source, source.where(row), limits)
            else:
                encode_row(source, row, processor, {"limits": limits, **options})
        except EyespotError as error:
            fault = error
        yield RowReport(source.id_of(row), source.where(row), turns, images, fault)


def _open_media(example: Example, source: Source, where: str, limits: Limits) -> None:
    media = [part for message in example.messages for part in message.media if isinstance(part, MediaRef)]
    for number, part in enumerate(media, 1):
        try:
            if part.kind == "video":
                decode_video(
                    part.source, part.options.get("fps"), frames=wanted_frames(FrameRule(), part.options),
                    rule=_SMALL, root=source.root, limits=limits,
                )  # fmt: skip
            else:
                decode_image(part.source, root=source.root, limits=limits)
        except EyespotError as error:
            noun = "picture" if part.kind == "image" else part.kind
            raise error.at(f"{where}, {noun} {number}") from None
