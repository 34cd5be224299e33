"""Codecs of what is asked and how the answer is read. `open_task(name)` gives one; no task knows a model."""

from importlib import import_module

from eyespot.contracts.protocols import Task
from eyespot.errors import EyespotError, nearest

# name → module, class; imported when asked for.
TABLE = {
    "caption": ("eyespot.tasks.caption", "Caption"),
    "grounding": ("eyespot.tasks.grounding", "Grounding"),
    "handwriting": ("eyespot.tasks.vqa", "Vqa"),
    "scenes": ("eyespot.tasks.scenes", "ScenesTask"),
    "vqa": ("eyespot.tasks.vqa", "Vqa"),
}


def open_task(name: str) -> Task:
    """The task of this name.

    Raises:
        EyespotError: ``task-unknown`` naming the nearest.
    """
    if name not in TABLE:
        raise EyespotError("task-unknown", f"unknown task {name!r}{nearest(name, TABLE)}", where="task")
    path, task = TABLE[name]
    return getattr(import_module(path), task)()
