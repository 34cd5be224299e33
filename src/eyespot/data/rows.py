"""Data files as rows that can be read in any order: an index of byte offsets and line numbers, made in one pass.

The pass also hashes the file. A bad row costs that row and names its line; only a .json list that is broken as a
whole stops. Bytes are read anew for each row, so memory does not grow with the file and workers share nothing.
"""

import codecs
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS, Limits

SPACE = " \t\r\n"
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, eq=False)
class RowFile:
    """A data file and where each of its rows stands.

    Attributes:
        path: the file.
        spans: int64 (rows, 3): first byte, bytes, line number (from 1).
        sha256: of the whole file.
        max_bytes: of a row; longer ones are refused unread.
    """

    path: Path
    spans: np.ndarray
    sha256: str
    max_bytes: int

    def __len__(self) -> int:
        return len(self.spans)

    def where(self, index: int) -> str:
        """``"train.jsonl:12"``."""
        return f"{self.path.name}:{self.spans[index, 2]}"

    def read(self, index: int) -> Any:
        """Row `index` as JSON data.

        Raises:
            EyespotError: ``row-malformed`` naming file and line.
        """
        first, size, _ = map(int, self.spans[index])
        if size > self.max_bytes:
            raise _bad(f"the row has {size:,} bytes, at most {self.max_bytes:,} are read", self.where(index))
        with self.path.open("rb") as file:
            file.seek(first)
            data = file.read(size)
        return read_json(data, self.where(index))


def index_rows(path: Path, limits: Limits = LIMITS) -> RowFile:
    """Index a .json list or a file of JSON lines (told apart by the first character).

    Raises:
        EyespotError: ``data-missing``, ``data-unknown-format``, ``data-unreadable``.
    """
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        raise EyespotError("data-unknown-format", f"data files are .json or .jsonl, not {path.name!r}", where=str(path))
    try:
        with path.open("rb") as file:
            head = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()
        listed = path.suffix.lower() == ".json" and not head.startswith(b"{")
        spans, digest = (_list_spans if listed else _line_spans)(path, limits)
    except OSError as error:
        raise EyespotError("data-missing", f"cannot read the data file: {error.strerror}", where=str(path)) from None
    if not len(spans):
        raise EyespotError("data-empty", "the file has no rows", where=str(path))
    return RowFile(path, spans, digest, limits.max_row_bytes)


def read_json(data: bytes, where: str) -> Any:
    """Strict JSON: UTF-8, no NaN, no key twice, no half of a surrogate pair.

    Raises:
        EyespotError: ``row-malformed``.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"byte {error.start + 1} of the row is not UTF-8", where) from None
    decoder = Decoder()
    try:
        value = decoder.json.decode(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _bad(f"not JSON: {error.msg} at character {error.pos + 1}", where) from None
    except UnicodeEncodeError:
        raise _bad("half of a surrogate pair (\\ud800–\\udfff) stands alone", where) from None
    except (RecursionError, ValueError) as error:
        raise _bad(f"not readable JSON: {error}", where) from None
    if decoder.faults:
        raise _bad(decoder.faults[0], where)
    return value


@dataclass
class Decoder:
    """JSON decoding that notes what strict JSON forbids, so that one bad row of a list does not end the reading."""

    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.json = json.JSONDecoder(object_pairs_hook=self._pairs, parse_constant=self._constant)

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = [key for key, _ in pairs]
            self.faults.append(f"the key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
        return result

    def _constant(self, name: str) -> None:
        self.faults.append(f"{name} is not JSON")


def _line_spans(path: Path, limits: Limits) -> tuple[np.ndarray, str]:
    """A row for each line that is not blank; a line without end costs no more memory than the limit."""
    spans, digest, offset, number = [], hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while line := file.readline(limits.max_row_bytes + 1):
            number += 1
            digest.update(line)
            size, mark = len(line), len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
            while not line.endswith(b"\n") and (more := file.readline(1 << 20)):
                digest.update(more)
                size += len(more)
                line = more  # only its end matters now
            if size > limits.max_row_bytes or line[mark:].strip():
                spans.append((offset + mark, size - mark, number))
            offset += size
    return np.array(spans, dtype=np.int64).reshape(-1, 3), digest.hexdigest()


def _list_spans(path: Path, _: Limits) -> tuple[np.ndarray, str]:
    """A row for each element of a JSON list. Invalid UTF-8 becomes a mark here and a fault of its row later."""
    data = path.read_bytes()
    start = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    text = data[start:].decode("utf-8", errors="surrogateescape")
    spans, char, byte, line = [], 0, start, 1

    def advance(to: int) -> None:
        nonlocal char, byte, line
        passed = text[char:to]
        byte += len(passed.encode("utf-8", errors="surrogateescape"))
        line += passed.count("\n")
        char = to

    for first, stop in _elements(text, str(path)):
        advance(first)
        at, number = byte, line
        advance(stop)
        spans.append((at, byte - at, number))
    return np.array(spans, dtype=np.int64).reshape(-1, 3), hashlib.sha256(data).hexdigest()


def _elements(text: str, where: str) -> list[tuple[int, int]]:
    """First and last character of each element of the list that `text` holds."""
    scan = Decoder().json.raw_decode
    found: list[tuple[int, int]] = []
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise EyespotError("data-unreadable", "a .json data file is a list of rows", where=where)
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return found
    while True:
        try:
            _, stop = scan(text, at)
        except (ValueError, RecursionError) as error:
            raise _broken(text, getattr(error, "pos", at), getattr(error, "msg", str(error)), where) from None
        found.append((at, stop))
        at = _skip(text, stop)
        if text[at : at + 1] == "]":
            if _skip(text, at + 1) < len(text):
                raise _broken(text, at, "something follows the list", where)
            return found
        if text[at : at + 1] != ",":
            raise _broken(text, at, "the list does not end" if at == len(text) else "expected , or ]", where)
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _bad(message: str, where: str) -> EyespotError:
    return EyespotError("row-malformed", message, where=where)


def _broken(text: str, at: int, why: str, where: str) -> EyespotError:
    line = text.count("\n", 0, at) + 1
    return EyespotError("data-unreadable", f"not JSON from line {line} on: {why}", where=f"{where}:{line}")
