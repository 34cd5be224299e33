"""How errors name a path or URL that cannot be had: short, without its content, and a link as a link. Opens nothing."""

import errno
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


def shown(source: Any, width: int = 64) -> str:
    """`source` short enough for an error message; a ``data:`` URL without its content."""
    text = str(source)
    if text[:5].lower() == "data:":
        return f"{text[:24].partition(',')[0]},… ({len(text):,} characters)"
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-width // 2 :]}"


def link_out(path: Path, root: Path | None, allowed: Callable[[Path], bool]) -> str:
    """What to say of the link by which a path leaves the allowed places; empty where it leaves them without one.

    Args:
        path: as it was given, no link followed.
        root: below which rows name their pictures.
        allowed: whether a place, with every link followed, is one of them.
    """
    for part in (*reversed(path.parents), path):
        if _is_link(part) and allowed(part.parent.resolve()) and not allowed(part.resolve()):
            named = part.relative_to(root) if root is not None and part.is_relative_to(root) else part
            what = "is a link" if part == path else f"lies behind {shown(named)}, a link"
            return f"{what} to {shown(part.resolve())}"
    return ""


def why_not_opened(error: Exception, path: Path) -> str:
    """The reason in words; a link is named as one, as it may look sound in a listing."""
    if isinstance(error, RuntimeError) or getattr(error, "errno", None) == errno.ELOOP:  # as Python's version has it
        return "a link that leads in a circle"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
    return f"a link to {shown(path.readlink())}: {reason}" if _is_link(path) else reason


def _is_link(path: Path) -> bool:
    """False, too, for what cannot be looked at or is no path at all."""
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
