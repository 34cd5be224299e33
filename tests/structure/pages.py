"""Pages that are made from code. `python tests/structure/pages.py` writes them; a test holds them to it."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ERRORS = ROOT / "docs" / "errors.md"
PARITY = ROOT / "docs" / "parity.md"
GOLDENS = ROOT / "tests" / "goldens"
INTRODUCTION = """\
# Errors

Every error that input, data, a checkpoint or a configuration can cause is an `eyespot.EyespotError` with `code`,
`message`, `where` and `remedy`. The command line prints it in two lines on stderr and exits 2; with `--json` it prints
one object, `{"error": {"code", "message", "where", "remedy"}}`, on stdout. Codes are stable, messages are not.
`eyespot explain CODE` prints what stands here. This page is made from `eyespot.errors.CODES`.
"""
MEASURED = """\
# Parity

How far Eyespot's numbers are from the original's: the largest absolute difference divided by the largest absolute value
of the original, in fp32 on tiny random weights, over the golden questions of each family (two pictures of unlike shape,
text before, between and after) and pictures of extreme size (1 × 1, 400 × 21, 3 × 300 and the like). Ids and positions
are equal. On the *small* draw a wrong epsilon shows, and 1e-5 is allowed; on the *wide* draw a wrong activation shows,
and 1e-4 is allowed. The parity tests hold many more inputs to the same bounds.

The original's answers lie in `tests/goldens`, and every default test run compares them; `python -m tests.goldens.make`
asks the installed originals again, and `make fmt` makes this page from the files.

| original | family | small | wide | transformers | torch | date |
|--|--|--|--|--|--|--|
"""

AUTHORS = """
Where `transformers` has no class, or another reading, the numbers are of the authors' own code, run outside of this
repository. Tests beside each family hold us to them, the small draw and the plain one (0.2 · N(0, 1)) to 1e-5, the wide
one to 1e-4; `python -m tests.goldens.authors` measures anew.

| original | family | largest difference by draw | made by |
|--|--|--|--|
"""


def errors_page() -> str:
    """The table of codes, grouped as the comments in `errors.py` group it."""
    from eyespot.errors import CODES

    source = (ROOT / "src" / "eyespot" / "errors.py").read_text("utf-8").partition("CODES: dict")[2]
    lines = [INTRODUCTION.rstrip()]
    for group, code in re.findall(r"^    (?:# (.+)|\"([\w-]+)\":)", source, re.MULTILINE):
        if group:
            lines += ["", f"## {group[0].upper()}{group[1:]}", "", "| code | what to do |", "|--|--|"]
        else:
            lines.append(f"| `{code}` | {CODES[code].replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def parity_page() -> str:
    """A line for each golden sample."""
    lines = []
    for path in sorted(GOLDENS.glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        if "differences" in record:
            found, made = record["differences"], record["made"]
            numbers = [f"{found[draw]:.1e}" if found[draw] else "0" for draw in ("small", "wide")]
            cells = [*numbers, made["transformers"], made["torch"], made["date"]]
            lines.append(f"| `{path.stem}` | `{record['family']}` | {' | '.join(cells)} |")
    rows = json.loads((GOLDENS / "authors.json").read_text("utf-8"))
    authors = []
    for row in rows:
        record = json.loads((GOLDENS / f"{row['golden']}.json").read_text("utf-8"))
        made = record.get("made_by") or record["provenance"]["made by"]
        numbers = ", ".join(f"{draw} {found:.1e}" for draw, found in row["differences"].items())
        authors.append(f"| {row['original']} | `{row['family']}` | {numbers} | {made} |")
    return MEASURED + "\n".join(lines) + "\n" + AUTHORS + "\n".join(authors) + "\n"


if __name__ == "__main__":
    ERRORS.write_text(errors_page(), "utf-8")
    PARITY.write_text(parity_page(), "utf-8")
