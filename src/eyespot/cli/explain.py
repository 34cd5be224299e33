"""`eyespot explain CODE`: what an error code means and what to do."""

from typing import Annotated

import typer

from eyespot.cli.console import Json, say, say_json
from eyespot.errors import CODES, EyespotError, nearest


def explain(
    code: Annotated[str | None, typer.Argument(help="A code such as media-truncated; none lists them all.")] = None,
    as_json: Json = False,
) -> None:
    """Say what an error code means and what to do.

    Example: `eyespot explain media-truncated`
    """
    if code is not None and code not in CODES:
        raise EyespotError("argument", f"no error code {code!r}{nearest(code, CODES)}", remedy="See docs/errors.md.")
    chosen = CODES if code is None else {code: CODES[code]}
    if as_json:
        say_json(chosen)
        return
    for name, remedy in chosen.items():
        say(f"{name}\n  {remedy}")
