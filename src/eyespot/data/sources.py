"""Where examples come from: a data file, rows in memory, or a world. Any row can be read at any time, by any process.

A source knows its root (the only folder whose pictures its rows may name), its format and a hash of its content.
Nothing is shuffled or repeated here; `mixture` does that.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eyespot import worlds
from eyespot.contracts.message import Example
from eyespot.contracts.protocols import World
from eyespot.data.formats import detect_all, read_row, row_id
from eyespot.data.rows import RowFile, index_rows
from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS, Limits

SAMPLE = 64  # rows looked at to tell the format


class Source:
    """Examples by number.

    Attributes:
        name: names the source in the ledger and in errors.
        format: what its rows were detected as; ``world`` or ``examples`` where there is nothing to read.
        length: rows, or None for an endless source.
        root: the folder that pictures are read from; None where no row names a file.
        data_hash: changes when the data do.
    """

    name: str
    format: str
    length: int | None
    root: Path | None
    data_hash: str

    def read(self, index: int) -> Example:
        """Row `index` as an `Example`.

        Raises:
            EyespotError: of the row, with file, line and id in `where`.
        """
        raise NotImplementedError

    def where(self, index: int) -> str:
        """Names row `index` in errors: file and line, or number."""
        return f"{self.name}[{index}]"

    def id_of(self, index: int) -> str:
        """The id of row `index`, also where the row cannot be read as an example."""
        return self.where(index)

    def examples(self, start: int = 0) -> Iterator[Example]:
        """The examples in order, from number `start`; the first bad row raises."""
        index = start
        while self.length is None or index < self.length:
            yield self.read(index)
            index += 1

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"{self.name} is endless")
        return self.length

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        count = "endless" if self.length is None else f"{self.length:,} rows"
        return f"{self.name}: {self.format}, {count}"


class FileSource(Source):
    """Rows of a .json or .jsonl file."""

    def __init__(self, rows: RowFile, image_root: Path | None) -> None:
        self.rows = rows
        self.name = str(rows.path)
        self.length = len(rows)
        self.root = rows.path.parent if image_root is None else image_root
        self.data_hash = rows.sha256
        self.format = _format_of(self.name, self.length, rows.read)

    def read(self, index: int) -> Example:
        """Row `index`."""
        where = self.where(index)
        return read_row(self.rows.read(index), where, format=self.format, name=where)

    def where(self, index: int) -> str:
        """File and line."""
        return self.rows.where(index)

    def id_of(self, index: int) -> str:
        """The row's own id, else file and line."""
        try:
            return row_id(self.rows.read(index)) or self.where(index)
        except EyespotError:
            return self.where(index)


class RowSource(Source):
    """Rows or `Example`s in memory: a list, or a table with a length, such as a Hugging Face data set."""

    def __init__(self, rows: Sequence[Any], image_root: Path | None, name: str) -> None:
        self.rows = rows
        self.name = name
        self.length = len(rows)
        self.root = Path.cwd() if image_root is None else image_root
        if not self.length:
            raise EyespotError("data-empty", "there are no rows", where=name)
        ready = isinstance(rows[0], Example)
        self.format = "examples" if ready else _format_of(name, self.length, lambda index: rows[index])
        self.data_hash = getattr(rows, "_fingerprint", None) or _hash([self.name, self.length, list(rows)])

    def read(self, index: int) -> Example:
        """Row `index`."""
        row = self.rows[index]
        where = self.where(index)
        return row if isinstance(row, Example) else read_row(row, where, format=self.format, name=where)

    def id_of(self, index: int) -> str:
        """The row's own id, else its number."""
        row = self.rows[index]
        return row.id if isinstance(row, Example) else row_id(row) or self.where(index)


class WorldSource(Source):
    """A split of a world, endless or its first `length` items. The seed is the run's: one seed, the same scenes."""

    def __init__(self, world: World, split: str, seed: int, length: int | None = None) -> None:
        self.world, self.split, self.seed = world, split, seed
        self.name = f"world:{world.name}:{split}" + (f"#{length}" if length else "")
        self.format, self.length, self.root = "world", length, None
        self.data_hash = _hash([self.name, seed, world])

    def read(self, index: int) -> Example:
        """Item `index`, which depends on split, seed and index only."""
        return next(self.world.examples(self.split, self.seed, index))


def open_source(
    spec: Any, *, image_root: str | Path | None = None, seed: int = 0, limits: Limits = LIMITS, name: str = "rows"
) -> Source:
    """A source from what a user names.

    Args:
        spec: path of a .json or .jsonl file, ``world:NAME[:SPLIT][#ITEMS]``, a world, a sequence or finite iterable
            of rows or `Example`s, a callable that gives one of these, or a `Source`.
        image_root: folder of the pictures that rows name; None: the data file's own folder (for rows in memory, the
            current one).
        seed: of a world.
        limits: of rows.
        name: of rows in memory.

    Raises:
        EyespotError: ``data-missing``, ``data-unknown-format``, ``data-unreadable``, ``data-empty``, ``argument``.
    """
    root = None if image_root is None else Path(image_root)
    if isinstance(spec, Source):
        return spec
    if isinstance(spec, str) and spec.startswith("world:"):
        world, _, split = spec.removeprefix("world:").partition(":")
        world, split, length = *(part.partition("#")[0] for part in (world, split)), spec.partition("#")[2]
        return WorldSource(worlds.get(world), split or "train", seed, _length(length, spec))
    if isinstance(spec, (str, Path)):
        return FileSource(index_rows(Path(spec), limits), root)
    if isinstance(spec, World):
        return WorldSource(spec, "train", seed)
    if callable(spec):
        return open_source(spec(), image_root=root, seed=seed, limits=limits, name=getattr(spec, "__name__", name))
    if isinstance(spec, Iterable) and not isinstance(spec, Mapping):
        return RowSource(spec if hasattr(spec, "__getitem__") else list(spec), root, name)  # type: ignore[arg-type]
    raise EyespotError("argument", f"a source is a path, world:NAME, a world or rows, not {type(spec).__name__}")


def _length(text: str, spec: str) -> int | None:
    """How many items of a world are taken; endless where nothing is said."""
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise EyespotError("argument", f"expected a number of items after #, got {text!r}", where=spec)
    return int(text)


def _format_of(name: str, length: int, read: Callable[[int], Any]) -> str:
    """The format by rows spread over the source; rows that cannot be read do not vote."""
    rows, problem = [], ""
    for index in dict.fromkeys(np.linspace(0, length - 1, min(length, SAMPLE)).astype(int).tolist()):
        try:
            rows.append(read(index))
        except EyespotError as error:
            problem = problem or f"; the first fault: {error.message} ({error.where})"
    rows = [row for row in rows if isinstance(row, Mapping)]
    if not rows:
        raise EyespotError("data-unknown-format", f"no row is an object that can be read{problem}", where=name)
    try:
        return detect_all(rows)
    except EyespotError as error:
        raise error.at(name) from None


def _hash(value: Any) -> str:
    """sha256 of settings and rows, pictures by their content. Attributes that begin with _ are caches and left out."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON does not know, as what it does."""
    if isinstance(getattr(value, "sha256", None), str):
        return value.sha256
    if isinstance(value, (bytes, bytearray)):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray):
        return [value.shape, str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, Image.Image):
        return [value.size, value.mode, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if callable(value):
        return getattr(value, "__qualname__", repr(type(value)))
    names = (
        [f.name for f in dataclasses.fields(value)]
        if dataclasses.is_dataclass(value)
        else getattr(value, "__dict__", ())
    )
    return [type(value).__qualname__, {name: getattr(value, name) for name in names if not name.startswith("_")}]
