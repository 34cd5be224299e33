"""A function over an endless stream in background processes, results in the stream's order whatever their number.

Item i goes to process i mod n through its own pipe, so the order needs no bookkeeping and a process that dies is seen
at once as the end of its pipe. torch's DataLoader does more (collation, shared memory) but learns of a death by a
signal that only a main thread receives, or when its time-out is over.
"""

import contextlib
import multiprocessing
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch

from eyespot.errors import EyespotError

AHEAD = 16  # items that each process has in hand


def ordered_map(
    function: Callable[[Any], Any], items: Iterator[Any], workers: int, timeout_s: float | int
) -> Iterator[Any]:
    """`function(item)` for each item, in order.

    Args:
        function: picklable where processes are not forked.
        items: may be endless; with workers it is read ahead.
        workers: processes; 0 computes here, one item at a time.
        timeout_s: longest wait for one item from a process.

    Raises:
        EyespotError: ``data-worker`` when a process ends or hangs.
    """
    if workers == 0:
        yield from map(function, items)
        return
    team: list[_Worker] = []
    try:
        for _ in range(workers):
            team.append(_Worker(function, [worker.pipe for worker in team]))
        sent = 0
        for received in range(sys.maxsize):
            while sent < received + AHEAD * workers and (item := next(items, _END)) is not _END:
                team[sent % workers].send(item)
                sent += 1
            if sent == received:
                return
            yield team[received % workers].receive(timeout_s)
    finally:
        for worker in team:
            worker.stop()


_END = object()


class _Worker:
    """One process and our end of its pipe."""

    def __init__(self, function: Callable[[Any], Any], siblings: list[Connection]) -> None:
        forked = sys.platform == "linux"
        context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        self.pipe, theirs = context.Pipe()
        inherited = [self.pipe, *siblings] if forked else []
        self.process = context.Process(target=_serve, args=(function, theirs, inherited), daemon=True)
        self.process.start()
        theirs.close()  # now the pipe ends when the process does

    def send(self, item: Any) -> None:
        with contextlib.suppress(OSError):  # a dead process is reported by receive
            self.pipe.send(item)

    def receive(self, timeout_s: float | int) -> Any:
        began = time.monotonic()
        try:
            if not self.pipe.poll(timeout_s):
                raise EyespotError("data-worker", f"a background process gave nothing for {timeout_s:g} s")
            result, error = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join(1)
            how = f"after {time.monotonic() - began:.1f} s, exit code {self.process.exitcode}"
            raise EyespotError("data-worker", f"a background process ended {how}") from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(function: Callable[[Any], Any], pipe: Connection, inherited: list[Connection]) -> None:
    """The process: takes items until the pipe ends. Results wait for the reader in a thread, not in its way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for other in inherited:  # else a sibling would keep a pipe open whose owner is gone
        other.close()
    torch.set_num_threads(1)
    results: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_write, args=(pipe, results), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            results.put(_answer(function, pipe.recv()))


def _write(pipe: Connection, results: "queue.SimpleQueue[bytes]") -> None:
    with contextlib.suppress(OSError):
        while True:
            pipe.send_bytes(results.get())


def _answer(function: Callable[[Any], Any], item: Any) -> bytes:
    """Result or error as bytes; an error that cannot travel becomes its text."""
    try:
        return pickle.dumps((function(item), None))
    except EyespotError as error:
        return pickle.dumps((None, error))
    except Exception as error:  # a bug: raised again in the parent, with its own traceback as a note
        trace = traceback.format_exc()
        error.add_note(f"in a background process:\n{trace}")
        try:
            pickle.loads(data := pickle.dumps((None, error)))
            return data
        except Exception:
            return pickle.dumps((None, RuntimeError(trace)))
