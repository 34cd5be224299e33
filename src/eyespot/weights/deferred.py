"""Tensors that are made when they are asked for: a checkpoint larger than the memory passes through one by one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

import torch

from eyespot.contracts.shapes import Tensor

Entry = tuple[Callable[[], Tensor], Tensor]  # what makes a tensor, and its shape and dtype on the meta device


class Deferred(MutableMapping[str, Tensor]):
    """Tensors by name; nothing is kept, so that what is asked for twice is made twice.

    Args:
        entries: by name.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = dict(entries)

    def meta(self, name: str) -> Tensor:
        """Shape and dtype of a tensor, without making it."""
        return self._entries[name][1]

    def cast(self, dtype: torch.dtype | None) -> "Deferred":
        """The same in another number type; None: as they are."""
        if dtype is None:
            return self
        return Deferred(
            {n: (lambda make=make: make().to(dtype), m.to(dtype)) for n, (make, m) in self._entries.items()}
        )

    def ordered(self, names: Iterable[str]) -> "Deferred":
        """The same in this order."""
        return Deferred({name: self._entries[name] for name in names})

    def __copy__(self) -> "Deferred":
        return Deferred(self._entries)

    def __getitem__(self, name: str) -> Tensor:
        return self._entries[name][0]()

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._entries[name] = (lambda: tensor, tensor.to("meta"))

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def metas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Shapes and dtypes of all, without making any."""
    return {name: tensors.meta(name) if hasattr(tensors, "meta") else tensors[name] for name in tensors}
