"""What a video or sound file is by its first bytes, and how long it says it is. Knows no codec, and opens nothing.

A demuxer is named from here and never guessed by the library: among those that it would try are playlists, which name
further files and addresses. A file that states its length and is shorter was cut off, which decoders would conceal.
"""

import re
from io import BufferedIOBase
from typing import Literal

from eyespot.errors import EyespotError

# What a file begins with → the library's name of its container.
CONTAINERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"....(ftyp(?!heic|heix|mif1|msf1|avif)|moov|mdat|wide|free|skip)", re.DOTALL), "mov"),
    (re.compile(rb"\x1aE\xdf\xa3"), "matroska"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "avi"),
    (re.compile(rb"OggS"), "ogg"),
    (re.compile(rb"FLV\x01"), "flv"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"\x00\x00\x01\xba"), "mpeg"),
    (re.compile(rb"\x47.{187}\x47", re.DOTALL), "mpegts"),
    (re.compile(rb"0&\xb2u\x8ef\xcf\x11"), "asf"),
)
SOUNDS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "wav"),
    (re.compile(rb"fLaC"), "flac"),
    (re.compile(rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL), "mp3"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "aac"),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), "aiff"),
    *((pattern, container) for pattern, container in CONTAINERS if container != "gif"),
)
OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|BM|II\*\0|MM\0\*", re.DOTALL), "a picture"),
    *((pattern, "a sound") for pattern, _ in SOUNDS[:5]),
    (re.compile(rb"#EXTM3U"), "a playlist"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (re.compile(rb"\s*(<!doctype|<html)", re.IGNORECASE), "a web page"),
    (re.compile(rb"[\t\n\r\x20-\x7e]+\Z"), "text"),
)
KNOWN = {
    "video": "MP4, MOV, MKV, WebM, AVI, OGV, FLV, GIF, MPEG or WMV video",
    "audio": "WAV, FLAC, MP3, OGG, M4A, AAC or AIFF sound",
}
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


def looks_like_video(file: BufferedIOBase) -> bool:
    """Whether a file begins as a video does; a GIF counts as a picture. The file is rewound."""
    head = file.read(512)
    file.seek(0)
    return any(pattern.match(head) for pattern, container in CONTAINERS if container != "gif")


def container_of(file: BufferedIOBase, name: str, kind: Literal["video", "audio"] = "video") -> str:
    """The library's name of a file's container; the file is rewound.

    Args:
        file: at its beginning.
        name: for errors.
        kind: what is looked for; a sound may stand in a video's container too.

    Raises:
        EyespotError: ``media-empty``, ``media-unreadable`` saying what it looks like, ``media-truncated``.
    """
    head = file.read(512)
    size = file.seek(0, 2)
    file.seek(0)
    if not head:
        raise EyespotError("media-empty", "the file is empty", where=name)
    known = CONTAINERS if kind == "video" else SOUNDS
    found = next((container for pattern, container in known if pattern.match(head)), None)
    if found is None:
        guess = next((f"; it looks like {what}" for pattern, what in OTHERS if pattern.match(head)), "")
        raise EyespotError("media-unreadable", f"this is no {KNOWN[kind]}{guess}", where=name)
    stated = _STATED.get(found, lambda file, size: 0)(file, size)
    file.seek(0)
    if stated > size:
        raise EyespotError("media-truncated", f"the file ends at byte {size:,} of {stated:,}", where=name)
    return found


def _mov(file: BufferedIOBase, size: int) -> int:
    """Where the last of the boxes ends."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file; else no box
            return 0
        at += length
    return at


def _riff(file: BufferedIOBase, size: int) -> int:
    length = int.from_bytes(file.read(8)[4:], "little")
    return 0 if length == 0xFFFFFFFF else 8 + length  # a stream was written without going back


def _matroska(file: BufferedIOBase, size: int) -> int:
    """Where the segment ends, if its length is known (streams have none)."""
    file.seek(4)
    header = _varint(file)
    file.seek(0 if header is None else file.tell() + header)
    if file.read(4) != _MATROSKA_SEGMENT:
        return 0
    length = _varint(file)
    return 0 if length is None else file.tell() + length


def _varint(file: BufferedIOBase) -> int | None:
    """A length whose first bit that is set says how many bytes it takes; None where all others are set too."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    bits = 7 * width
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


_STATED = {"mov": _mov, "avi": _riff, "wav": _riff, "matroska": _matroska}
