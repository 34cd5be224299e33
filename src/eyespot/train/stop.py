"""SIGTERM at a step's border: the run saves, then ends as the signal asked. A second SIGTERM ends it at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class Stop:
    """While open, SIGTERM only sets `asked`; in another thread than the main one nothing is changed."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def end(self) -> None:
        """Give the signal on to whoever handled it before: by default the process ends with it."""
        self._restore()
        os.kill(os.getpid(), signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
