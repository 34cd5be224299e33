"""The key/value cache of one request, contiguous; the sole owner of its layout.

Buffers double when they are full, so appending costs amortised O(1) copies and `append` gives plain views.
"""

import torch

from eyespot.contracts.shapes import Float, Tensor


class KVCache:
    """Keys and values of every layer, (tokens, K, C) each."""

    def __init__(self, num_layers: int, capacity: int = 256) -> None:
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._lengths = [0] * num_layers
        self._first = 0
        self._capacity = capacity

    @property
    def length(self) -> int:
        """Tokens held; equal in all layers between two forward passes."""
        return self._lengths[0]

    @property
    def first(self) -> int:
        """Tokens of the first pass; what depends on a prompt's length goes by it for as long as its keys are held."""
        return self._first

    def append(
        self, layer: int, k: Float[Tensor, "T K C"], v: Float[Tensor, "T K C"]
    ) -> tuple[Float[Tensor, "Tk K C"], Float[Tensor, "Tk K C"]]:
        """Add the new tokens and give everything of that layer, oldest first."""
        start = self._lengths[layer]
        stop = start + len(k)
        keys = self._keys[layer] = _grown(self._keys[layer], k, start, stop, self._capacity)
        values = self._values[layer] = _grown(self._values[layer], v, start, stop, self._capacity)
        self._lengths[layer] = stop
        self._first = self._first or stop
        return keys[:stop], values[:stop]


def _grown(buffer: Tensor | None, new: Tensor, start: int, stop: int, capacity: int) -> Tensor:
    if buffer is None or len(buffer) < stop:
        larger = new.new_empty(max(capacity, 2 * stop), *new.shape[1:])
        if buffer is not None:
            larger[:start] = buffer[:start]
        buffer = larger
    with torch.no_grad():
        buffer[start:stop] = new
    return buffer
