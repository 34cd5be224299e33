"""THE position-id builder: packing and the engine call it, a model never does.

Text, and media that stand in a line (LLaVA), take one place for each token on every axis. Media that stand in a grid
(M-RoPE: Wang et al. 2024, Qwen2-VL) take (time, row, column), all counted from where the text before them ended; what
follows goes on behind the largest place that was taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from eyespot.contracts.shapes import Int, Tensor

AXES = 3  # time, row, column


@dataclass(frozen=True, slots=True)
class Grid:
    """Tokens of one medium that stand in a grid, time by time and row by row.

    Attributes:
        start: packed place of the first of them.
        size: times, rows and columns, in tokens.
        interval: places from one time to the next; each time's place is rounded down.
    """

    start: int
    size: tuple[int, int, int]
    interval: float = 1.0

    @property
    def tokens(self) -> int:
        """How many there are."""
        times, rows, columns = self.size
        return times * rows * columns


def positions(
    lengths: tuple[int, ...], parent: tuple[int, ...], *, grids: Sequence[Grid] = (), offset: int = 0
) -> Int[Tensor, "A T"]:
    """Position ids of segments.

    Args:
        lengths: tokens of each segment, in packed order.
        parent: the segment that each continues, or -1; a branch counts on from its parent's end.
        grids: media that stand in a grid, in packed order, each inside one segment.
        offset: where a root starts (behind what is in a cache).

    Returns:
        int64 (1, T) where nothing stands in a grid: one row, equal on every axis; else (3, T).
    """
    ends: list[int] = []
    pieces = []
    borders = [*accumulate(lengths, initial=0)]
    waiting = list(reversed(grids))
    for begin, stop, p in zip(borders, borders[1:], parent, strict=False):
        first = offset if p < 0 else ends[p]
        inside = []
        while waiting and waiting[-1].start < stop:
            inside.append(waiting.pop())
        assert all(begin <= grid.start and grid.start + grid.tokens <= stop for grid in inside), "a grid is cut"
        for piece, end in _runs(begin, stop, first, inside):
            pieces.append(piece)
            first = end
        ends.append(first)
    assert not waiting, "a grid stands beyond the tokens"
    if not pieces:
        return torch.zeros(1, 0, dtype=torch.long)
    return torch.cat([piece.expand(AXES, -1) for piece in pieces], dim=1) if grids else torch.cat(pieces, dim=1)


def _runs(begin: int, stop: int, first: int, grids: Sequence[Grid]) -> Iterator[tuple[Tensor, int]]:
    """Position ids of each stretch of text and of each grid of a segment, and where what follows starts."""
    at = begin
    for grid in grids:
        yield torch.arange(first, first + grid.start - at)[None], first + grid.start - at
        first += grid.start - at
        places = grid_places(grid) + first
        first = int(places.max()) + 1
        yield places, first
        at = grid.start + grid.tokens
    yield torch.arange(first, first + stop - at)[None], first + stop - at


def grid_places(grid: Grid) -> Int[Tensor, "3 N"]:
    """Time, row and column of each token of a grid, from 0."""
    times, rows, columns = (torch.arange(n) for n in grid.size)
    times = (times * grid.interval).long()
    return torch.stack(torch.meshgrid(times, rows, columns, indexing="ij")).flatten(1)
