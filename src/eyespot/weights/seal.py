"""`eyespot.json`: the contract beside the weights, and a sha256 of every file of a checkpoint.

The first check of a folder reads every byte; that it held is remembered by size and time, so that later loads cost
nothing. It is remembered in the user's cache: a checkpoint is never changed by being loaded, and a folder that cannot
be written to needs no exception. Without a cache every load reads everything.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.runtime.log import log
from eyespot.weights.files import read_json, write_json

SEAL = "eyespot.json"
VERSION = 1


def seal(folder: Path, contract: Contract | None = None) -> Path:
    """Record every file of `folder` as it is now.

    Args:
        folder: a checkpoint.
        contract: how the model's input is prepared, from what has just saved every file here. None: whoever edited the
            folder; the contract and which files were saved stay as recorded.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EyespotError("checkpoint-missing", f"{folder} is no folder", where=str(folder))
    kept = contract.to_dict() if contract is not None else _recorded(folder).get("contract")
    files = {path.name: _entry(path) for path in _files(folder)}
    record: dict[str, Any] = {"version": VERSION}
    if kept is not None:
        record |= {"contract": kept, "contract_id": Contract.from_dict(kept, SEAL).id}
        record["saved"] = sorted(files if contract is not None else saved_files(folder))
    record["files"] = files
    return write_json(folder / SEAL, record)


def check(folder: Path, verify: bool = False) -> bool:
    """Compare a checkpoint with its record; False where it has none.

    Args:
        folder: a checkpoint.
        verify: read every byte even where size and time say that nothing has changed.

    Raises:
        EyespotError: ``checkpoint-seal`` naming every file that differs or is absent.
    """
    folder = Path(folder)
    record = _recorded(folder)
    files = record.get("files")
    if not isinstance(files, Mapping):
        return False
    known = {} if verify else _known(folder)
    wrong, held = [], {}
    for name, entry in files.items():
        path = folder / name
        # A record that names something outside its folder is not ours.
        if Path(name).name != name or not isinstance(entry, Mapping) or not path.is_file():
            wrong.append(f"{name} (absent)")
            continue
        stat = path.stat()
        now = [stat.st_size, stat.st_mtime_ns, entry.get("sha256")]
        if known.get(name) != now and (entry.get("size") != stat.st_size or entry.get("sha256") != sha256(path)):
            wrong.append(name)
        held[name] = now
    if wrong:
        raise EyespotError("checkpoint-seal", f"differs from {SEAL}: {', '.join(wrong)}", where=str(folder))
    if held != known:
        _remember(folder, held)
    return True


def stored_contract(folder: Path) -> Contract | None:
    """The contract recorded in a checkpoint, or None."""
    record = _recorded(Path(folder))
    if record.get("contract") is None:
        return None
    contract = Contract.from_dict(record["contract"], f"{SEAL}: contract")
    if record.get("contract_id") != contract.id:
        raise EyespotError("contract-mismatch", f"the contract's id is not the one {SEAL} states", where=str(folder))
    return contract


def saved_files(folder: Path) -> set[str]:
    """Names of the files that a save wrote here; files that came later may be sealed with them, but are not among them.

    Only a save records a contract, so a folder without one was sealed by hand.
    """
    record = _recorded(Path(folder))
    saved = record.get("saved", list(record.get("files", {}))) if record.get("contract") is not None else []
    return {name for name in saved if isinstance(name, str)} if isinstance(saved, list) else set()


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name != SEAL and not p.name.startswith("."))


def _entry(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": sha256(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _recorded(folder: Path) -> dict[str, Any]:
    return read_json(folder / SEAL) if (folder / SEAL).is_file() else {}


def _cache(folder: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "eyespot" / "checked" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()}.json"


def _known(folder: Path) -> dict[str, Any]:
    """What was found to hold: {name: [size, mtime_ns, sha256]}."""
    try:
        return read_json(_cache(folder))
    except (EyespotError, RuntimeError):  # RuntimeError: there is no home
        return {}


def _remember(folder: Path, held: Mapping[str, Any]) -> None:
    try:
        path = _cache(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, held)
    except (OSError, RuntimeError):
        log.debug("no cache to remember that %s was checked", folder)
