"""The package's one logger. Quiet unless the program that uses it, or `to_stderr`, gives it a handler.

What a run *measures* goes to its ``log.jsonl`` and its events; this is for sentences that a person should read:
a skipped checkpoint, a repeated id, a sink that is gone.
"""

import logging
import sys

log = logging.getLogger("eyespot")
log.addHandler(logging.NullHandler())

_warned: set[str] = set()


def to_stderr(level: int = logging.INFO) -> None:
    """Show messages on stderr, one line each; calling it again changes the level only."""
    if not any(type(handler) is logging.StreamHandler for handler in log.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        log.addHandler(handler)
    log.setLevel(level)


def warn_once(key: str, message: str) -> None:
    """A warning that is said the first time only, however often the situation returns."""
    if key not in _warned:
        _warned.add(key)
        log.warning(message)
