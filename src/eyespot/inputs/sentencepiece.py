"""A stub until the reader of tokenizer.model is written."""

from pathlib import Path

from eyespot.errors import EyespotError


def tokenizer_json_from_model(path: Path, config: dict) -> tuple[str, dict]:
    """Not yet."""
    raise EyespotError("tokenizer-missing", "tokenizer.model alone is not read yet", where=str(path))
