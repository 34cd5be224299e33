"""`eyespot inspect data`: every row read and every picture opened, before hours are spent on them.

Bad rows go to stderr, one line each (where and what), so that stdout stays a summary; exit 2 when there is any.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from eyespot.cli.console import FAILED, Json, Pairs, read_pairs, say, say_json, table
from eyespot.errors import EyespotError


@dataclass
class Findings:
    """What a pass over a source saw."""

    rows: int = 0
    images: int = 0
    turns: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, str]] = field(default_factory=list)
    repeated: int = 0


def data(
    target: Annotated[str, typer.Argument(help="A .json or .jsonl file, or world:NAME.", show_default=False)],
    pairs: Pairs = None,
    limit: Annotated[int, typer.Option(min=1, help="Examples to draw from a world, which has no end.")] = 100,
    as_json: Json = False,
) -> int:
    """Read every row, open its pictures, and name each row that training would drop.

    Keys: `image_root`, the folder that pictures in rows are read from (by default the data file's own).

    Example: `eyespot inspect data rows.jsonl image_root=photos`
    """
    from eyespot.data.sources import open_source

    options = read_pairs(pairs, {"image_root"})
    source = open_source(target, image_root=options.get("image_root"))
    findings = _read(source, source.length if source.length is not None else limit, as_json)
    facts = {
        "source": source.name,
        "format": source.format,
        "image_root": str(source.root or ""),
        "rows": findings.rows,
        "good": findings.rows - len(findings.bad),
        "bad": dict(findings.codes),
        "turns": findings.turns,
        "images": findings.images,
        "repeated ids": findings.repeated,
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


def _read(source: Any, count: int, quiet: bool) -> Findings:
    findings = Findings(rows=count)
    seen: set[str] = set()
    for index in range(count):
        name = source.id_of(index)
        findings.repeated += name in seen
        seen.add(name)
        try:
            example = source.read(index)
            findings.turns += len(example.messages)
            findings.images += _open_media(example, source, index)
        except EyespotError as error:
            findings.codes[error.code] += 1
            findings.bad.append({"row": source.where(index), "id": name, **error.to_dict()})
            if not quiet:
                where = error.where if source.where(index) in error.where else f"{source.where(index)}: {error.where}"
                sys.stderr.write(f"{where}: {error.code}: {' '.join(error.message.split())}\n")
    return findings


def _open_media(example: Any, source: Any, index: int) -> int:
    """Decode every picture of a row; how many there were."""
    from eyespot.contracts.media import MediaRef
    from eyespot.inputs.decode import decode_image

    pictures = [part for message in example.messages for part in message.media if isinstance(part, MediaRef)]
    for number, picture in enumerate(pictures):
        shown = picture.source if isinstance(picture.source, str) and len(picture.source) < 200 else ""
        decode_image(picture.source, root=source.root, name=f"image {number} {shown}".strip())
    return len(pictures)
