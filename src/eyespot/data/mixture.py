"""Which row comes next: sources drawn by weight, finite ones shuffled anew in each epoch, all of it from one seed.

The order is a function of seed and number alone: no worker, batch size or clock changes it. The state is two small
numbers for each source, so a run resumes at any row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eyespot.data.sources import Source, open_source
from eyespot.errors import EyespotError

BLOCK = 1024  # draws made at a time; part of the order, so never change it


@dataclass(frozen=True, slots=True)
class Pick:
    """One row to read.

    Attributes:
        number: of the draw, from 0.
        source: index into `Mixture.sources`.
        row: number of the row in its source.
        epoch: how often that source was read before, from 0.
        last: whether this row ends the epoch.
    """

    number: int
    source: int
    row: int
    epoch: int
    last: bool


class Mixture:
    """An endless order over several sources.

    Args:
        sources: pairs of source and weight, the share of rows it gives; None weighs a source by its number of rows.
        seed: of draws and shuffles.
        shuffle: False reads each finite source in its own order.
    """

    def __init__(
        self, sources: Sequence[tuple[Source, float | int | None]], seed: int = 0, *, shuffle: bool = True
    ) -> None:
        self.sources = tuple(source for source, _ in sources)
        self.weights = _weights(sources)
        self.seed = seed
        self.shuffle = shuffle
        self.number = 0
        self._epochs = [0] * len(self.sources)
        self._next = [0] * len(self.sources)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        self._draws: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    @property
    def rows(self) -> int | None:
        """Rows of all sources, or None where one is endless."""
        lengths = [source.length for source in self.sources]
        return None if None in lengths else sum(n for n in lengths if n is not None)

    @property
    def epochs(self) -> tuple[int, ...]:
        """How often each source was read to its end."""
        return tuple(self._epochs)

    def next(self) -> Pick:
        """The next row; it is counted as read."""
        which = self._draw()
        length = self.sources[which].length
        epoch, at = self._epochs[which], self._next[which]
        row = at if length is None or not self.shuffle else int(self._order(which, epoch, length)[at])
        last = length is not None and at + 1 == length
        pick = Pick(self.number, which, row, epoch, last)
        self.number += 1
        self._epochs[which], self._next[which] = (epoch + 1, 0) if last else (epoch, at + 1)
        return pick

    def state(self) -> dict[str, Any]:
        """Plain data: where the order stands and what it was made of."""
        return {
            "seed": self.seed,
            "number": self.number,
            "sources": [
                {"name": s.name, "hash": s.data_hash, "weight": w, "epoch": e, "next": n}
                for s, w, e, n in zip(self.sources, self.weights, self._epochs, self._next, strict=True)
            ],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            EyespotError: ``data-changed`` where seed, sources, weights or a source's content differ.
        """
        mine = self.state()
        if state["seed"] != mine["seed"]:
            raise EyespotError("data-changed", f"the run began with seed {state['seed']}, not {mine['seed']}")
        then, now = len(state["sources"]), len(mine["sources"])
        if then != now:
            raise EyespotError("data-changed", f"the run began with {then} sources, not {now}")
        for old, new in zip(state["sources"], mine["sources"], strict=True):
            for key in ("hash", "weight"):
                if old[key] != new[key]:
                    raise EyespotError("data-changed", f"{key} was {old[key]}, is {new[key]}", where=new["name"])
        self.number = state["number"]
        self._epochs = [s["epoch"] for s in state["sources"]]
        self._next = [s["next"] for s in state["sources"]]

    def copy(self) -> "Mixture":
        """The same order at the same place, going on by itself."""
        other = Mixture(list(zip(self.sources, self.weights, strict=True)), self.seed, shuffle=self.shuffle)
        other.load_state(self.state())
        return other

    def _draw(self) -> int:
        if len(self.sources) == 1:
            return 0
        block, offset = divmod(self.number, BLOCK)
        if self._draws[0] != block:
            shares = np.asarray(self.weights) / sum(self.weights)
            random = np.random.default_rng([self.seed, 0, block])
            self._draws = block, random.choice(len(self.sources), size=BLOCK, p=shares)
        return int(self._draws[1][offset])

    def _order(self, which: int, epoch: int, length: int) -> np.ndarray:
        if self._orders.get(which, (-1,))[0] != epoch:
            self._orders[which] = epoch, np.random.default_rng([self.seed, 1, which, epoch]).permutation(length)
        return self._orders[which][1]


def open_mixture(specs: Iterable[Any], *, seed: int = 0, image_root: Any = None, **options: Any) -> Mixture:
    """A mixture from what a user names: sources, pairs (source, weight), or text such as ``train.jsonl*2``.

    Args:
        specs: as `open_source` takes them.
        seed: of the order and of worlds.
        image_root: folder of the pictures that rows name.
        options: passed to `open_source`.
    """
    sources = []
    for spec in specs:
        weight: Any = None
        if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], (int, float)):
            spec, weight = spec
        elif isinstance(spec, str) and "*" in spec:
            spec, weight = _weighted(spec)
        sources.append((open_source(spec, image_root=image_root, seed=seed, **options), weight))
    return Mixture(sources, seed)


def _weighted(spec: str) -> tuple[str, float]:
    name, _, weight = spec.rpartition("*")
    try:
        return name, float(weight)
    except ValueError:
        raise EyespotError("argument", f"SOURCE*WEIGHT needs a number, got {weight!r}", where=spec) from None


def _weights(sources: Sequence[tuple[Source, float | int | None]]) -> tuple[float, ...]:
    """Weights given, or rows where none is; endless sources need one as soon as there are others."""
    if not sources:
        raise EyespotError("argument", "a mixture needs at least one source")
    if all(weight is None and source.length is None for source, weight in sources):
        return (1.0,) * len(sources)
    weights = [float(source.length or 0) if weight is None else float(weight) for source, weight in sources]
    for (source, _), weight in zip(sources, weights, strict=True):
        if not 0 < weight < float("inf"):
            hint = " (an endless source beside others needs one: SOURCE*WEIGHT)" if source.length is None else ""
            raise EyespotError("argument", f"a weight is above 0, got {weight:g}{hint}", where=source.name)
    return tuple(weights)
