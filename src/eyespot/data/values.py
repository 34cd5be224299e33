"""Single values of a foreign row, each read or refused: text, a list, a picture or video."""

from typing import Any

from eyespot.errors import EyespotError


def fault(code: str, message: str) -> EyespotError:
    """A fault of one row; `read_row` adds where."""
    return EyespotError(code, message)


def text(value: Any, what: str) -> str:
    """`value` as text."""
    if not isinstance(value, str):
        raise fault("row-malformed", f"{what} must be text, not {type(value).__name__}")
    return value


def listed(value: Any, key: str) -> list[Any]:
    """`value` as a list; None is an empty one, as columns of a table have it."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise fault("row-malformed", f"{key} must be a list, not {type(value).__name__}")
    return list(value)


def medium(value: Any, kind: str = "image") -> Any:
    """A path, URL, bytes, picture or array; the Hugging Face form ``{"bytes", "path"}`` is opened up."""
    noun = "picture" if kind == "image" else kind
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("url")
    if value is None or isinstance(value, (bool, int, float, list, tuple)):
        raise fault("row-malformed", f"a {noun} is a path, URL or {noun}, not {value!r}")
    if isinstance(value, str) and not value.strip():
        raise fault("media-missing", f"the path of a {noun} is empty")
    return value
