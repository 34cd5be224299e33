"""Where a run comes from: versions, machine, git state. Kept in ``run.json``; nothing depends on it."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

import torch

PACKAGES = ("eyespot", "torch", "numpy", "pillow", "safetensors", "tokenizers", "jinja2")


def provenance() -> dict[str, Any]:
    """Versions, machine and git state of the current folder, as plain data."""
    return {"versions": _versions(), "machine": _machine(), "git": git_state()}


def git_state() -> dict[str, Any] | None:
    """Commit of the current folder and whether files differ from it; None outside a repository or without git."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit.strip(), "dirty": bool(changed and changed.strip())}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
