"""From what a user names, a folder or a hub id, to a local folder. Nothing that is downloaded is ever run."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from eyespot.errors import EyespotError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# What a checkpoint may hold; no code. Pickled weights only where there are no others.
_PICKLED = ("pytorch_model*.bin", "mm_projector.bin", "adapter_model.bin", "open_clip_pytorch_model.bin")
_TEXT = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.md", "*.safetensors")


def resolve(path_or_id: str | Path) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded into the hub's own cache.

    Raises:
        EyespotError: ``checkpoint-missing`` for a path that is no folder, ``hub-unavailable`` for an id that
            cannot be had.
    """
    path = Path(path_or_id).expanduser()
    try:
        if path.is_dir():
            return path
        is_file = path.is_file()
    except OSError as error:  # such as a name that is too long
        raise EyespotError("checkpoint-missing", f"not a path: {error.strerror}", where=str(path_or_id)[:80]) from error
    if is_file:
        raise EyespotError("checkpoint-missing", "a file, where a checkpoint's folder is expected", where=str(path))
    if isinstance(path_or_id, Path) or not _ID.fullmatch(str(path_or_id)):
        raise EyespotError("checkpoint-missing", "no such folder", where=str(path_or_id))
    return _download(str(path_or_id))


def _download(repo: str) -> Path:
    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(_TEXT)))
        if not any(folder.glob("*.safetensors")):
            # Without a config either, what is a lone file of weights (OpenAI's CLIP, InternVL-C).
            lone = () if (folder / "config.json").is_file() else ("*.pt", "*.pth")
            folder = Path(snapshot_download(repo, allow_patterns=[*_TEXT, *_PICKLED, *lone]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EyespotError(
            "hub-unavailable", f"no folder of this name, and the hub does not give it: {reason}", where=repo
        ) from error
    return folder
