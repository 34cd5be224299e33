"""A function over an endless stream in background processes, results in the stream's order whatever their number.

torch's DataLoader does the work (one item at a time, nothing collated), as it notices a process that dies.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from eyespot.errors import EyespotError

AHEAD = 16  # items that each process has in hand


def ordered_map(function: Callable[[Any], Any], items: Iterator[Any], workers: int, timeout_s: float | int) -> Iterator[Any]:
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
    results = iter(
        DataLoader(
            _Mapped(function),
            sampler=items,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=_itself,
            num_workers=workers,
            prefetch_factor=AHEAD,
            timeout=timeout_s,
            generator=torch.Generator(),  # else the loader would draw its seed from the global one
        )
    )
    while True:
        try:
            result = next(results)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader"):  # "Caught … in DataLoader worker" is the function's own
                raise
            reason = str(error).partition("\n")[0]
            raise EyespotError("data-worker", f"a background process stopped: {reason}", where="workers") from error
        yield result


class _Mapped(Dataset):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __getitem__(self, item: Any) -> Any:
        return self.function(item)


def _itself(value: Any) -> Any:
    return value
