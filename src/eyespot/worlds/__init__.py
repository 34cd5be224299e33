"""Procedural data with exact truth: seeded, endless, nothing downloaded. `get(name)` gives a world."""

from importlib import import_module
from typing import Any

from eyespot.contracts.protocols import World
from eyespot.errors import EyespotError, nearest

# name → module, class, configuration class; imported when asked for.
TABLE = {
    "scenes": ("eyespot.worlds.scenes", "Scenes", "ScenesConfig"),
    "handwriting": ("eyespot.worlds.handwriting", "Handwriting", "HandwritingConfig"),
}


def get(name: str, **options: Any) -> World:
    """The world of this name; `options` are fields of its configuration.

    Raises:
        EyespotError: ``world-unknown``, or ``config-unknown-key`` for an option that the world does not have.
    """
    if name not in TABLE:
        raise EyespotError("world-unknown", f"no world is called {name!r}{nearest(name, TABLE)}", where=f"world:{name}")
    path, world, config = TABLE[name]
    module = import_module(path)
    return getattr(module, world)(getattr(module, config).from_dict(options, name))
