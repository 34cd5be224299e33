"""Small files of a checkpoint, which comes from strangers: JSON, templates, tokenizers; read whole, up to a limit."""

import io
import json
import os
from pathlib import Path
from typing import Any

from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS, Limits


def read_bytes(path: Path, limits: Limits = LIMITS) -> bytes:
    """All bytes of a small file.

    Raises:
        EyespotError: ``checkpoint-too-large``, or ``checkpoint-corrupt`` where it cannot be read.
    """
    limit = limits.max_config_bytes
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1) if size <= limit else b""  # the size of what is no plain file says nothing
    except OSError as error:
        raise EyespotError("checkpoint-corrupt", f"not readable: {error.strerror}", where=str(path)) from error
    if max(size, len(data)) > limit:
        message = f"{max(size, len(data)):,} bytes, at most {limit:,} are read (limits.max_config_bytes)"
        raise EyespotError("checkpoint-too-large", message, where=str(path))
    return data


def read_text(path: Path, limits: Limits = LIMITS) -> str:
    """A small file as text, its ends of line as Python reads them.

    Raises:
        EyespotError: as `read_bytes`, and ``checkpoint-corrupt`` where it is not UTF-8.
    """
    try:
        text = read_bytes(path, limits).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EyespotError("checkpoint-corrupt", f"not readable as text: {error}", where=str(path)) from error
    return io.StringIO(text, newline=None).read()


def read_json(path: Path, limits: Limits = LIMITS) -> Any:
    """What a small file of JSON holds.

    Raises:
        EyespotError: as `read_text`, and ``checkpoint-corrupt`` where it is not JSON.
    """
    text = read_text(path, limits)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EyespotError("checkpoint-corrupt", f"not readable as JSON: {error}", where=str(path)) from error
