"""Every row of a source read and its pictures opened, before a run depends on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example
from eyespot.data.loader import encode_row
from eyespot.data.sources import Source
from eyespot.errors import EyespotError
from eyespot.inputs.decode import decode_image
from eyespot.runtime.limits import LIMITS, Limits


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
        processor: also encodes each row, so that template, length and supervision are checked; None: opens pictures.
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
    pictures = [part for message in example.messages for part in message.media if isinstance(part, MediaRef)]
    for number, picture in enumerate(pictures, 1):
        try:
            decode_image(picture.source, root=source.root, limits=limits)
        except EyespotError as error:
            raise error.at(f"{where}, picture {number}") from None
