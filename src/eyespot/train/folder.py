"""A run's folder: one writer, ``run.json`` and ``log.jsonl``, checkpoints, and what may differ when it is continued.

``out/lock`` is held by the kernel, not by its existence, so that a killed run leaves no lock behind.
"""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eyespot.errors import EyespotError
from eyespot.runtime.log import warn_once
from eyespot.train import checkpoint
from eyespot.train.provenance import provenance
from eyespot.train.run import RunConfig

try:
    import fcntl
except ImportError:  # no POSIX locks here: the run goes on without
    fcntl = None

# Keys that change nothing about what is learnt; every other difference is refused on resume.
FREE = {"out", "save_every", "log_every", "eval_every", "evaluator", "report", "workers", "keep"}
FREE |= {"layout", "audit", "card", "cache_gib"}
# A limit, not a choice of rows: which are lost does not depend on it, and raising it is what `data-dropped` advises.
FREE |= {"max_dropped"}


class RunFolder:
    """The folder of one run, held open by one process.

    Args:
        config: the run.
        resume: go on from the newest whole checkpoint; False: the folder must hold no run.
        command: how the run was started, for the record.

    Raises:
        EyespotError: ``run-exists``, ``run-locked``, ``run-mismatch``.
    """

    def __init__(self, config: RunConfig, resume: bool, command: str) -> None:
        self.path = Path(config.out)
        self.config, self.command = config, command
        self.checkpoints = self.path / "checkpoints"
        if self.path.exists() and not self.path.is_dir():
            raise EyespotError("config-value", "expected a folder, got a file", where=f"out={self.path}")
        if not resume and self.holds_run:
            raise EyespotError("run-exists", f"{self.path} already holds a run", where="out")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path / "lock")
        try:
            self.checkpoint = self._open(resume)
        except BaseException:
            self.close()
            raise

    @property
    def holds_run(self) -> bool:
        """Whether something was trained here; a run that was refused before its first step is none."""
        return any((self.path / name).exists() for name in ("log.jsonl", "checkpoints", "model"))

    @property
    def finished(self) -> bool:
        """Whether everything was written, result included."""
        return (self.path / "result.json").is_file()

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``log.jsonl``; a full disk or a vanished folder does not stop the training."""
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            warn_once(f"log:{self.path}", f"cannot write {self.path / 'log.jsonl'}: {error}; training goes on")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every whole row of the log."""
        yield from read_log(self.path / "log.jsonl")

    def cut_log(self, stage: str, step: int) -> None:
        """Drop the rows that lie after `step` of `stage`: what a resumed run will do again."""
        names = [s.name for s in self.config.stages]
        limit = (names.index(stage), step)
        kept = [r for r in self.rows() if r["stage"] in names and (names.index(r["stage"]), r["step"]) <= limit]
        write_text(self.path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def record(self, **facts: Any) -> None:
        """Add facts to ``run.json``."""
        write_json(self.path / "run.json", {**self.facts(), **facts})

    def record_stage(self, stage: str, table: Any, sources: Any) -> None:
        """Add to ``run.json`` what a stage trains and the hashes of its data."""
        data = [{"name": s.name, "format": s.format, "rows": s.length, "hash": s.data_hash} for s in sources]
        found = {"trainable": [row.to_dict() for row in table.rows], "data": data}
        self.record(stages={**self.facts().get("stages", {}), stage: found})

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        try:
            return json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EyespotError("run-mismatch", f"run.json cannot be read: {error}", where=str(self.path)) from error

    def close(self) -> None:
        """Let others write here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self, resume: bool) -> Path | None:
        checkpoint.clean(self.checkpoints)
        checkpoint.clean(self.path)
        found = checkpoint.newest(self.checkpoints) if resume else None
        plain = self.config.to_dict()
        if found is not None:
            _check_same(self.facts().get("config", {}), plain, str(self.path))
            resumed = [*self.facts().get("resumed", []), {"from": found.name, "at": _now(), "command": self.command}]
            self.record(resumed=resumed)
            return found
        for name in ("log.jsonl", "result.json"):
            (self.path / name).unlink(missing_ok=True)
        start = {"command": self.command, "started": _now(), "seed": self.config.seed, **provenance()}
        write_json(self.path / "run.json", {**start, "config": plain, "stages": {}})
        return None


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a ``log.jsonl``; a torn last line, left by a killed process, is passed over."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def write_json(path: Path, value: Any) -> None:
    """A JSON file that is whole or unchanged."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file that is whole or unchanged."""
    work = path.with_name(f"{path.name}.tmp")
    work.write_text(text, encoding="utf-8")
    work.replace(path)


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Each key that differs between two plain configurations, as ``key: before → after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and path == "stages":
        for i in range(max(len(before), len(after))):
            pair = [side[i] if i < len(side) else None for side in (before, after)]
            name = next((side["name"] for side in pair if side), str(i))
            yield from differences(*pair, name)
    elif before != after:
        yield f"{path}: {json.dumps(before)} → {json.dumps(after)}"


def _check_same(before: dict[str, Any], after: dict[str, Any], where: str) -> None:
    kept = [{k: v for k, v in side.items() if k not in FREE} for side in (before, after)]
    found = list(differences(*kept))
    if found:
        raise EyespotError("run-mismatch", "the configuration differs: " + "; ".join(found), where=where)


def _lock(path: Path) -> int | None:
    """A kernel lock on `path`, which names its holder; None where the system has no such locks."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 64).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise EyespotError("run-locked", f"process {holder} is writing this run", where=str(path.parent)) from error
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
