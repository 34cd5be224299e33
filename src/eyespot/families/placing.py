"""Where a save may write, and how what it wrote gets there: whole or not at all, and over nothing that others wrote."""

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.inputs.tokenizer import FILES as TOKENIZER_FILES
from eyespot.weights import peft, seal
from eyespot.weights.files import is_weights, umask

READ = frozenset({seal.SEAL, *sidefiles.JSON_FILES, *sidefiles.OWN, *TOKENIZER_FILES, peft.CONFIG, *peft.WEIGHTS})


def check_place(path: Path, written: Collection[str] = ()) -> None:
    """Refuse a place where a save would replace what it did not write, or be read together with it.

    Args:
        path: a folder that may not exist yet; links are followed.
        written: names that will be written beside those that every reader knows.

    Raises:
        EyespotError: ``argument`` for a file, ``checkpoint-exists`` naming the files in the way.
    """
    if path.exists() and not path.is_dir():
        raise EyespotError("argument", "a file stands where the checkpoint's folder should be", where=str(path))
    own = _own(path)
    strange = sorted(n for n in _names(path) - own if n in READ or n in written or is_weights(n))
    if strange:
        shown = ", ".join(strange[:6]) + (f" and {len(strange) - 6} more" if len(strange) > 6 else "")
        raise EyespotError("checkpoint-exists", f"not written by eyespot: {shown}", where=str(path))


def workplace(path: Path) -> Path:
    """An empty folder on the same disk as `path`: beside it, or inside where `path` itself must stay what it is."""
    inside = path.is_dir() and not _can_be_exchanged(path)
    place = path if inside else path.parent
    place.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=place, prefix=f".{path.name[:40]}."))


def put_in_place(work: Path, path: Path) -> None:
    """Give a finished folder its name, in place of the checkpoint that was saved there before.

    If anything fails, that checkpoint is there again. If the process is killed at this moment, the old files lie beside
    (or inside) under a hidden name, and what stands at `path` is absent, whole, or refused by its seal.
    """
    own = _own(path)
    if work.parent == path.parent and _names(path) <= own:
        _exchange(work, path)
    else:
        _exchange_files(work, path, own & _names(path))


def _own(path: Path) -> set[str]:
    """Files of a folder that a save wrote."""
    try:
        saved = seal.saved_files(path)
    except EyespotError:  # not our record, whatever it is
        return set()
    return saved | {seal.SEAL} if saved else set()


def _can_be_exchanged(path: Path) -> bool:
    """Whether nothing but a checkpoint of ours is there, and nobody holds on to the folder itself."""
    held = path.is_mount() or Path.cwd().is_relative_to(path) or not os.access(path.parent, os.W_OK)
    return not held and _names(path) <= _own(path)


def _exchange(work: Path, path: Path) -> None:
    """The folder as a whole, in two renames."""
    old = work.with_name(f"{work.name}.old")
    work.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o777 & ~umask())
    try:
        if path.exists():
            path.replace(old)
        work.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange_files(work: Path, path: Path, own: set[str]) -> None:
    """File by file, among files that stay.

    First goes what has no successor, then comes the new seal, then what it speaks of. So at each moment every file of
    ours is one that the seal knows, and a later save finds its way; and the seal holds only when all are there.
    """
    old = Path(tempfile.mkdtemp(dir=path, prefix=".old."))
    new, done = _names(work), []

    def move(source: Path, target: Path) -> None:
        source.replace(target)
        done.append((source, target))

    try:
        for name in sorted(own - new):
            move(path / name, old / name)
        if seal.SEAL in own:  # a copy, so that there always is a seal
            shutil.copy2(path / seal.SEAL, old / seal.SEAL)
            done.append((path / seal.SEAL, old / seal.SEAL))
        move(work / seal.SEAL, path / seal.SEAL)
        for name in sorted(new - {seal.SEAL}):
            if name in own:
                move(path / name, old / name)
            move(work / name, path / name)
    except BaseException:
        for source, target in reversed(done):
            target.replace(source)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _names(path: Path) -> set[str]:
    return {p.name for p in path.iterdir()} if path.is_dir() else set()
