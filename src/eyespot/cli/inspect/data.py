"""`eyespot inspect data`: every row read and every picture and video opened, before hours are spent on them.

Bad rows go to stderr, one line each (where and what), so that stdout stays a summary; exit 2 when there is any.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from eyespot.cli.console import FAILED, Json, Pairs, integer, read_pairs, say, say_json, table

KEYS = {"image_root", "model", "max_length"}


@dataclass
class Findings:
    """What a pass over a source saw."""

    rows: int = 0
    images: int = 0
    turns: int = 0
    ids: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, str]] = field(default_factory=list)

    def add(self, report: Any) -> None:
        """Count one row."""
        self.rows += 1
        self.images += report.images
        self.turns += report.turns
        self.ids.add(report.id)
        if report.error is not None:
            self.codes[report.error.code] += 1
            self.bad.append({"row": report.where, "id": report.id, **report.error.to_dict()})


def data(
    target: Annotated[str, typer.Argument(help="A .json or .jsonl file, or world:NAME.", show_default=False)],
    pairs: Pairs = None,
    limit: Annotated[int, typer.Option(min=1, help="Examples to draw from a world, which has no end.")] = 100,
    as_json: Json = False,
) -> int:
    """Read every row, open its pictures and videos, and name each row that training would drop.

    Keys: `image_root`, the folder that pictures in rows are read from (by default the data file's own); `model`, a
    checkpoint whose template and `max_length` each row is also tried with.

    Example: `eyespot inspect data rows.jsonl image_root=photos`
    """
    from eyespot.data.inspection import inspect_rows
    from eyespot.data.sources import open_source

    options = read_pairs(pairs, KEYS)
    source = open_source(target, image_root=options.get("image_root"))
    processor = _processor(options["model"]) if "model" in options else None
    length = {"max_length": integer(options, "max_length")} if "max_length" in options else {}
    findings = Findings()
    for report in inspect_rows(source, processor, rows=None if source.length is not None else limit, **length):
        findings.add(report)
        if report.error is not None and not as_json:
            sys.stderr.write(f"{_place(report)}: {report.error.code}: {' '.join(report.error.message.split())}\n")
    facts = {
        "source": source.name,
        "format": source.format,
        "image_root": str(source.root or ""),
        "rows": findings.rows,
        "good": findings.rows - len(findings.bad),
        "bad": dict(findings.codes),
        "turns": findings.turns,
        "images": findings.images,
        "repeated ids": findings.rows - len(findings.ids),
        "data_hash": source.data_hash,
    }
    if as_json:
        say_json(facts | {"bad_rows": findings.bad})
    else:
        codes = ", ".join(f"{n} {code}" for code, n in findings.codes.most_common()) or "none"
        table(("data", ""), [(key, codes if key == "bad" else str(value)) for key, value in facts.items()])
        if findings.bad:
            say("Bad rows are named on stderr; `eyespot explain CODE` says what to do.")
    return FAILED if findings.bad else 0


def _processor(path: str) -> Any:
    from eyespot import families

    return families.load(path).processor


def _place(report: Any) -> str:
    """Line, id and file, each once."""
    where = report.error.where
    known = [part for part in (report.where, f"id {report.id}") if part not in where and report.id not in where]
    return ": ".join([", ".join(known), where] if known else [where])
