"""Objects by name: ``package.module:function`` to the object, and an object back to a stable name for JSON files."""

import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eyespot.errors import EyespotError

DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolve(value: Any, where: str) -> Any:
    """A ``package.module:name`` as the object it names; anything else as it is."""
    if not is_dotted(value):
        return value
    module_name, _, attribute = value.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise EyespotError("config-value", f"cannot import {value!r}: {error}", where=where) from error


def is_dotted(value: Any) -> bool:
    """Whether `value` is a ``package.module:name`` and no file that exists."""
    return isinstance(value, str) and bool(DOTTED.fullmatch(value)) and not Path(value).exists()


def name_of(value: Any) -> Any:
    """`value` for a JSON file: objects that recipes put in (builders, worlds, rows) by a stable name."""
    if isinstance(value, dict):
        return {k: name_of(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > 8 and not _plain(value[0]):  # rows in memory: their content is hashed where they are read
            return f"{len(value)} × {type(value[0]).__name__}"
        return [name_of(v) for v in value]
    if _plain(value):
        return value
    if isinstance(value, functools.partial):
        given = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.keywords.items())]
        return f"{name_of(value.func)}({', '.join(given)})"
    if isinstance(value, Callable) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Path):
        return str(value)
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    return f"{name}({value.name})" if hasattr(value, "name") else name


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
