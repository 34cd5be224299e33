"""Pages that are made from code. `python tests/structure/pages.py` writes them; a test holds them to it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ERRORS = ROOT / "docs" / "errors.md"
INTRODUCTION = """\
# Errors

Every error that input, data, a checkpoint or a configuration can cause is an `eyespot.EyespotError` with `code`,
`message`, `where` and `remedy`. The command line prints it in two lines on stderr and exits 2; with `--json` it prints
one object, `{"error": {"code", "message", "where", "remedy"}}`, on stdout. Codes are stable, messages are not.
`eyespot explain CODE` prints what stands here. This page is made from `eyespot.errors.CODES`.
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


if __name__ == "__main__":
    ERRORS.write_text(errors_page(), "utf-8")
