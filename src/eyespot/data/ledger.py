"""The ledger of rows: ``used + truncated + dropped(reason) = read``, always. No row is lost without a line here.

It names the rows that were dropped, notices repeated ids once, and stops a run that loses too much.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from eyespot.errors import EyespotError

NAMED = 1000  # dropped rows kept by name; the counts go on
LEAST = 100  # rows that a share at the end of a run is at least a share of
LOG = logging.getLogger("eyespot.data")


@dataclass
class Dropped:
    """A row that was not used: which, why, and how often it came."""

    source: str
    id: str
    where: str
    code: str
    message: str
    times: int = 1


@dataclass
class Count:
    """Rows of one source."""

    used: int = 0
    truncated: int = 0
    epochs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        """All rows that were read."""
        return self.used + self.truncated + self.dropped.total()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        counts = {"read": self.read, "used": self.used, "truncated": self.truncated}
        return {**counts, "dropped": dict(self.dropped), "epochs": self.epochs}


class Ledger:
    """Counts by source, the dropped rows by name, and warnings.

    Args:
        lengths: rows of each finite source, by name. They make the share exact: a source is judged by whole epochs,
            not by where in its order the bad rows happen to stand.
    """

    def __init__(self, lengths: Mapping[str, int | None] | None = None) -> None:
        self.lengths = dict(lengths or {})
        self.sources: dict[str, Count] = {}
        self.rows: dict[tuple[str, str], Dropped] = {}
        self.warnings: list[str] = []
        self._ids: dict[tuple[str, str], int] = {}

    def used(self, source: str, *, truncated: bool = False) -> None:
        """One row went into a batch, whole or truncated."""
        count = self._count(source)
        if truncated:
            count.truncated += 1
        else:
            count.used += 1

    def dropped(self, source: str, name: str, error: EyespotError) -> None:
        """One row was not used."""
        self._count(source).dropped[error.code] += 1
        key = (source, error.where or name)
        if key in self.rows:
            self.rows[key].times += 1
        elif len(self.rows) < NAMED:
            self.rows[key] = Dropped(source, name, error.where, error.code, error.message)

    def epoch(self, source: str, epochs: int) -> None:
        """A finite source was read to its end, for the time numbered `epochs`."""
        self._count(source).epochs = epochs

    def seen(self, source: str, name: str, index: int) -> None:
        """Notice an id that two rows of a source share; says so once, as many public sets have them."""
        if self._ids.setdefault((source, name), index) != index and not self.warnings:
            self.warnings.append(f"{source}: id {name!r} stands on more than one row (further repeats are not listed)")
            LOG.warning(self.warnings[0])

    @property
    def total(self) -> Count:
        """All sources together."""
        total = Count()
        for count in self.sources.values():
            total.used += count.used
            total.truncated += count.truncated
            total.dropped += count.dropped
        return total

    def check(self, max_dropped: float | int = 0.01, *, final: bool = False) -> None:
        """Stop when too large a share of rows was dropped.

        While a run goes on, it is when more are lost than whole epochs allow, or so many of those read so far that it
        cannot be chance (five standard deviations above the limit, and ten rows).

        Args:
            max_dropped: the largest share that may be.
            final: at the end of a run: epochs that were not completed are judged by what was read of them, too.

        Raises:
            EyespotError: ``data-dropped`` naming the rows.
        """
        total = self.total
        lost, expected = total.dropped.total(), max_dropped * total.read
        certain = lost > max_dropped * self._rows(final)
        beyond_chance = lost > expected + 5 * math.sqrt(expected) + 10
        if not lost or not (certain or beyond_chance):
            return
        rows = list(self.rows.values())
        named = "; ".join(f"{row.where or row.id}: {row.message} ({row.code})" for row in rows[:20])
        more = f"; and {len(rows) - 20} more" if len(rows) > 20 else ""
        raise EyespotError(
            "data-dropped",
            f"{lost} of {total.read} rows read so far were dropped, more than max_dropped={max_dropped:g} allows: "
            f"{named}{more}",
            where=", ".join(dict.fromkeys(row.source for row in rows)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `run.json`, checkpoints and `load_state`."""
        return {
            **{key: value for key, value in self.total.to_dict().items() if key != "epochs"},
            "sources": {name: count.to_dict() for name, count in self.sources.items()},
            "rows": [asdict(row) for row in self.rows.values()],
            "warnings": list(self.warnings),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `to_dict` gave."""
        self.sources = {
            name: Count(c["used"], c["truncated"], c["epochs"], Counter(c["dropped"]))
            for name, c in state["sources"].items()
        }
        rows = [Dropped(**row) for row in state["rows"]]
        self.rows = {(row.source, row.where or row.id): row for row in rows}
        self.warnings = list(state["warnings"])

    def __str__(self) -> str:
        total = self.total
        reasons = ", ".join(f"{n} {code}" for code, n in sorted(total.dropped.items()))
        lost = f"{total.dropped.total()} dropped" + (f" ({reasons})" if reasons else "")
        return f"{total.read} read = {total.used} used + {total.truncated} truncated + {lost}"

    def _rows(self, final: bool) -> float:
        """What the lost rows are a share of: whole epochs; at the end of a run also what was read of a begun one."""
        whole = read = 0.0
        for name, count in self.sources.items():
            length = self.lengths.get(name)
            epochs = math.inf if length is None else -(-count.read // length) * length
            whole += epochs
            read += epochs if length is not None and count.read >= length else count.read
        return min(whole, max(read, LEAST)) if final else whole

    def _count(self, source: str) -> Count:
        return self.sources.setdefault(source, Count())
