"""Folders that are whole or absent: filled under another name, sealed with a manifest, then renamed.

A checkpoint counts only if its ``complete.json``, written last, names every file with size and sha256; the newest
that holds is taken, and what is skipped is said aloud. Training state is read with ``weights_only=True``.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from eyespot.errors import EyespotError
from eyespot.runtime.log import log

MARKER = "complete.json"
STATE = "training.pt"
CONFIG = "run.json"
TEMPORARY = ".tmp-"


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` complete, or not at all if anything goes wrong before the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    work.mkdir()
    try:
        yield work
        for file in _files(work):
            _sync(file)
        old = path.with_name(f"{TEMPORARY}{path.name}-old")
        if path.exists():
            path.replace(old)
        work.replace(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def save(
    path: Path, write_model: Callable[[Path], None], state: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> Path:
    """Write one checkpoint: the model's own folder, the training state, the run's configuration, the marker last."""
    with undisturbed(), whole_folder(path) as work:  # torch.save draws from Python's generator
        write_model(work / "model")
        torch.save(dict(state), work / STATE)
        (work / CONFIG).write_text(json.dumps(config or {}, indent=1), encoding="utf-8")
        manifest = {str(f.relative_to(work)): {"size": f.stat().st_size, "sha256": _sha256(f)} for f in _files(work)}
        (work / MARKER).write_text(json.dumps({"files": manifest}, indent=1), encoding="utf-8")
    return path


def problem(path: Path) -> str:
    """Why the checkpoint at `path` is not whole; empty when it is."""
    try:
        manifest = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it was not finished"
    for name, known in manifest.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != known["size"]:
            return f"{name} is missing or cut"
        if _sha256(file) != known["sha256"]:
            return f"{name} was changed"
    return ""


def newest(folder: Path) -> Path | None:
    """The latest whole checkpoint below `folder`; later ones that are not whole are named in a warning."""
    for path in sorted(_checkpoints(folder), reverse=True):
        reason = problem(path)
        if not reason:
            return path
        log.warning("checkpoint %s is skipped: %s", path, reason)
    return None


def read_state(path: Path) -> dict[str, Any]:
    """The training state of a checkpoint, without unpickling anything but tensors and plain data."""
    try:
        return torch.load(path / STATE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises four kinds for a damaged file
        raise EyespotError("checkpoint-corrupt", f"cannot read {STATE}: {error}", where=str(path)) from error


def clean(folder: Path) -> None:
    """Remove what a killed process left half written. Only the owner of the run's lock may call this."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith((TEMPORARY, ".model.")):  # the second: what `families.save` writes under
                shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep: int) -> None:
    """Keep the newest `keep` checkpoints within a stage and all at a stage's end; a failing delete does no harm."""
    within = sorted(path for path in _checkpoints(folder) if not path.name.endswith("-end"))
    for path in within[:-keep]:
        remove(path)


def remove(path: Path) -> None:
    """Delete a checkpoint, if it is there; a failing delete does no harm."""
    if not path.is_dir():
        return
    try:
        (path / MARKER).unlink()  # from here on it does not count, however far the deletion gets
        shutil.rmtree(path)
    except OSError as error:
        log.warning("cannot remove the old checkpoint %s: %s", path, error)


def rng_state() -> dict[str, Any]:
    """Every global generator that is drawn from (NumPy's never is: our generators are local), as plain data."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put every generator back to where `rng_state` found it."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace: evaluation and sampling do not move training."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(TEMPORARY)]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Push a file or folder to the disk, so that the rename never gets there before the content."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return  # folders cannot be opened everywhere
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
