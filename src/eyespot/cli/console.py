"""What a verb writes: answers and tables on stdout, progress and errors on stderr, one JSON object under `--json`."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eyespot.errors import EyespotError, nearest

FAILED = 2

# Options that several verbs share, so that they are spelled and explained once.
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, errors too.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
Dtype = Annotated[str, typer.Option(help='"auto" (as stored), float32, bfloat16 or float16.')]
Verify = Annotated[bool, typer.Option("--verify", help="Check every file against its recorded sha256 again.")]
Pairs = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)]


def out() -> Console:
    """The console of answers; made at each call, as stdout may be another one by then (tests, redirection)."""
    return Console(file=sys.stdout, soft_wrap=True, highlight=False)


def err() -> Console:
    """The console of progress and errors."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def say(text: str = "", *, end: str = "\n") -> None:
    """Plain text on stdout, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """One JSON object on one line."""
    say(json.dumps(value, ensure_ascii=False, default=str))


def fail(error: EyespotError, as_json: bool = False) -> int:
    """Two lines on stderr, or one object on stdout; returns the exit code."""
    if as_json:
        say_json({"error": error.to_dict()})
        return FAILED
    where = f" [{error.where}]" if error.where else ""
    sys.stderr.write(f"error: {error.code}: {_one_line(error.message)}{_one_line(where)}\n")
    sys.stderr.write(f"  -> {_one_line(error.remedy)}\n")
    return FAILED


def _one_line(text: str) -> str:
    """Two lines are promised; a table of tensors becomes a list with semicolons."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) if "\n" in text else text


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """A table on stdout; numbers to the right."""
    shown = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text, not markup: names in square brackets are names.
        shown.add_row(*(Text(f"{v:,}" if isinstance(v, int) else str(v)) for v in row))
    out().print(shown)


def read_pairs(pairs: Sequence[str] | None, known: Iterable[str]) -> dict[str, str]:
    """`key=value` words as a mapping, for verbs whose keys are few.

    Raises:
        EyespotError: ``argument`` for a word without ``=``, ``config-unknown-key`` for a key that is not known.
    """
    known = set(known)
    values = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise EyespotError("argument", f"expected key=value, got {pair!r}", remedy="Write it as key=value.")
        if key not in known:
            raise EyespotError("config-unknown-key", f"unknown key {key!r}{nearest(key, known)}", where=pair)
        values[key] = value
    return values


def integer(options: Mapping[str, str], key: str) -> int | None:
    """The value of a key as an integer; None where it was not given."""
    if key not in options:
        return None
    try:
        return int(options[key])
    except ValueError as error:
        raise EyespotError("config-value", f"expected an integer, got {options[key]!r}", where=key) from error
