"""Eyespot gives eyes, ears and hands to language models: build, train, prove, evaluate and serve them.

The stable names are those of `__all__`; they are imported when first used, so that `eyespot --help` starts quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eyespot.contracts.protocols import Reply
    from eyespot.engine.model import Model, Trace, compose, load, save
    from eyespot.errors import EyespotError

__all__ = ["EyespotError", "Model", "Reply", "Trace", "compose", "load", "save"]
__version__ = "0.1.0"

_HOMES = {
    "EyespotError": "eyespot.errors",
    "Reply": "eyespot.contracts.protocols",
    **dict.fromkeys(("Model", "Trace", "compose", "load", "save"), "eyespot.engine.model"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'eyespot' has no attribute {name!r}")
