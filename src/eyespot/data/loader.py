"""Batches, endless, in an order that neither the number of workers nor a stop and resume can change.

Rows are read and encoded here or in background processes, and come back in the mixture's order. A row that fails goes
to the ledger with its reason; one whose answer leaves nothing to learn stops the run, as it would go unnoticed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from eyespot.contracts.batch import Batch
from eyespot.contracts.encoded import Encoded
from eyespot.data.formats import place
from eyespot.data.ledger import Ledger
from eyespot.data.mixture import Mixture, Pick
from eyespot.data.packing import Packer
from eyespot.data.sources import Source
from eyespot.data.workers import ordered_map
from eyespot.errors import EyespotError

# What is wrong with one row; any other error would strike every row and stops the run.
ROW_CODES = ("too-long", "template-failed")
ROW_GROUPS = ("media-", "row-", "message-")
FATAL_CODES = ("row-unsupervised",)


def is_row_fault(error: EyespotError) -> bool:
    """Whether an error costs a row and not the run."""
    return error.code not in FATAL_CODES and (error.code in ROW_CODES or error.code.startswith(ROW_GROUPS))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row: a sample, or the error that it gave."""

    pick: Pick
    name: str
    sample: Encoded | None = None
    error: EyespotError | None = None


class Reader:
    """Row → sample; everything that a background process needs, and no model.

    Samples of finite sources may be kept, so that later epochs cost nothing to read.
    """

    def __init__(
        self, sources: tuple[Source, ...], processor: Any, options: Mapping[str, Any], keep_bytes: int = 0
    ) -> None:
        self.sources = sources
        self.processor = processor
        self.options = dict(options)
        self._room = keep_bytes
        self._kept: dict[tuple[int, int], Encoded] = {}

    def __call__(self, pick: Pick) -> Outcome:
        """Read and encode one row; its own faults are part of the outcome, other errors propagate."""
        source = self.sources[pick.source]
        try:
            sample = self._kept.get((pick.source, pick.row))
            if sample is None:
                sample = encode_row(source, pick.row, self.processor, self.options)
                self._keep(pick, sample)
            return Outcome(pick, sample.sample_id, sample)
        except EyespotError as error:
            return Outcome(pick, source.id_of(pick.row), error=error)
        except Exception as error:
            error.add_note(f"while reading {source.where(pick.row)}")
            raise

    def _keep(self, pick: Pick, sample: Encoded) -> None:
        size = sample.input_ids.nbytes + sample.loss_weight.nbytes + sum(m.patches.nbytes for m in sample.media)
        if self.sources[pick.source].length is not None and size <= self._room:
            self._room -= size
            self._kept[pick.source, pick.row] = sample


def encode_row(source: Source, row: int, processor: Any, options: Mapping[str, Any]) -> Encoded:
    """One row of a source as a sample that has something to learn.

    Raises:
        EyespotError: with file, line and id in `where`; ``row-unsupervised`` where no token is left to learn.
    """
    example = source.read(row)
    where = source.where(row)
    where = place(where, "" if example.id == where else example.id)
    tools = {"tools": example.meta["tools"]} if "tools" in example.meta else {}
    try:
        sample = processor.encode_example(example, source=source.name, root=source.root, **tools, **options)
    except EyespotError as error:
        inside = error.where.removeprefix(example.id).removeprefix(": ")  # the id stands in `where` already
        raise EyespotError(error.code, error.message, where=inside, remedy=error.remedy).at(where) from None
    if not sample.supervised:
        cut = f" ({sample.truncated} tokens were cut off)" if sample.truncated else ""
        raise EyespotError("row-unsupervised", f"the row has an answer, but no token of it is learnt{cut}", where=where)
    return sample


class Loader:
    """Iterates over packed batches.

    Args:
        mixture: the order; it advances with the rows that went into batches.
        processor: has `encode_example`.
        batch_tokens: decoder tokens of a batch at most.
        max_length: tokens of a sample at most, given to the processor.
        max_patches: raw patches of a batch at most.
        workers: background processes; 0 reads in this one.
        ledger: goes on with this one; else a new one.
        max_dropped: largest share of rows that may be lost.
        options: further arguments of `encode_example`.
        timeout_s: how long a row may take in a background process.
        keep_bytes: memory for encoded samples of finite sources, in each process that reads; 0 keeps none.

    Attributes:
        data_wait: seconds that the caller has waited for batches so far.
    """

    def __init__(
        self,
        mixture: Mixture,
        processor: Any,
        *,
        batch_tokens: int,
        max_length: int | None = None,
        max_patches: int | None = None,
        workers: int = 0,
        ledger: Ledger | None = None,
        max_dropped: float | int = 0.01,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | int = 300.0,
        keep_bytes: int = 0,
    ) -> None:
        self.mixture = mixture
        self.ledger = ledger if ledger is not None else Ledger({s.name: s.length for s in mixture.sources})
        self.max_dropped = max_dropped
        self.data_wait = 0.0
        self._reader = Reader(mixture.sources, processor, {**(options or {}), "max_length": max_length}, keep_bytes)
        self._packer = Packer(batch_tokens, max_patches)
        self._workers, self._timeout = workers, timeout_s
        self._stream: Iterator[Outcome] | None = None
        self._held: Outcome | None = None

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        began = perf_counter()
        try:
            return self._fill()
        finally:
            self.data_wait += perf_counter() - began

    def state(self) -> dict[str, Any]:
        """Where the stream is after the last batch that was handed out, as plain data."""
        return {"mixture": self.mixture.state(), "ledger": self.ledger.to_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; the batches that follow are those of a run that never stopped.

        Raises:
            EyespotError: ``data-changed`` where the sources are not those of the state.
        """
        self.close()
        self.mixture.load_state(state["mixture"])
        self.ledger.load_state(state["ledger"])

    def close(self) -> None:
        """End the background processes; the next batch starts new ones."""
        self._packer = Packer(self._packer.batch_tokens, self._packer.max_patches)
        self._held = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # type: ignore[attr-defined]

    def _fill(self) -> Batch:
        """Settle rows until one does not fit; that one waits, unsettled, so that no state ever counts it."""
        if self._stream is None:
            self._stream = ordered_map(self._reader, self._picks(), self._workers, self._timeout)
        while True:
            outcome = self._held or self._checked(self._await(self._stream))
            self._held = None
            if outcome.sample is not None and not self._packer.fits(outcome.sample):
                self._held = outcome
                return self._packer.take()
            self._settle(outcome)

    def _picks(self) -> Iterator[Pick]:
        """Runs ahead of `mixture` by what the workers have in hand."""
        ahead = self.mixture.copy()
        while True:
            yield ahead.next()

    def _await(self, stream: Iterator[Outcome]) -> Outcome:
        try:
            return next(stream)
        except EyespotError as error:
            if error.code != "data-worker":
                raise
            pick = self.mixture.copy().next()
            raise error.at(f"waiting for {self.mixture.sources[pick.source].where(pick.row)}") from error

    def _checked(self, outcome: Outcome) -> Outcome:
        """A sample that no batch can hold becomes a fault of its row."""
        if outcome.sample is None:
            return outcome
        try:
            self._packer.check(outcome.sample)
        except EyespotError as error:
            where = self.mixture.sources[outcome.pick.source].where(outcome.pick.row)
            return replace(outcome, sample=None, error=error if error.where == where else error.at(where))
        return outcome

    def _settle(self, outcome: Outcome) -> None:
        """Count a row, and put its sample into the batch."""
        if outcome.error is not None and not is_row_fault(outcome.error):
            raise outcome.error
        pick = self.mixture.next()
        assert pick == outcome.pick, "outcomes come in the mixture's order"
        source = self.mixture.sources[pick.source]
        if source.length is not None:
            self.ledger.seen(source.name, outcome.name, pick.row)
        if outcome.sample is not None:
            self.ledger.used(source.name, truncated=outcome.sample.truncated > 0)
            self._packer.add(outcome.sample)
        elif outcome.error is not None:
            self.ledger.dropped(source.name, outcome.name, outcome.error)
            self.ledger.check(self.max_dropped)
        if pick.last:
            self.ledger.epoch(source.name, pick.epoch + 1)
            total = self.ledger.total
            if total.read == total.dropped.total():  # whatever the limit is, an epoch without a sample never ends
                self.ledger.check(0.0)
