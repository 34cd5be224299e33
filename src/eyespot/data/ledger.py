"""The ledger of rows: ``used + truncated + dropped(reason) = read``, always. No row is lost without a line here.

It names the rows that were dropped, notices repeated ids once, and stops a run that loses too much.
"""

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from eyespot.errors import EyespotError

NAMED = 1000  # dropped rows kept by name; the counts go on
FLOOR = 1000  # rows that must have been read before a share means anything, where the source is longer
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
        rows: rows of all sources together, where they are finite; a share of dropped rows is judged against at
            least so many (at most 1,000), so that one early bad row among many does not stop a run.
    """

    def __init__(self, rows: int | None = None) -> None:
        self.floor = FLOOR if rows is None else min(rows, FLOOR)
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

        Args:
            max_dropped: the largest share that may be.
            final: at the end of a run: judge by what was read (but never fewer than 100 rows of a longer source).

        Raises:
            EyespotError: ``data-dropped`` naming the rows.
        """
        total = self.total
        lost = total.dropped.total()
        floor = min(self.floor, 100) if final else self.floor
        if lost <= max_dropped * max(total.read, floor):
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

    def _count(self, source: str) -> Count:
        return self.sources.setdefault(source, Count())
