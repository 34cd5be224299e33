"""`Encoded` samples → one packed `Batch`. Here, and only here, targets are shifted (D6) and positions are built.

A packed batch is the concatenation of its samples' own batches: nothing is padded, split or reordered.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch

from eyespot.contracts.batch import Batch, MediaBatch, Segments
from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.errors import EyespotError
from eyespot.models.positions import Grid, positions

ENCODERS = {"image": "vision", "video": "vision", "audio": "audio"}  # which encoder takes a kind of medium


def pack(samples: Sequence[Encoded]) -> Batch:
    """One batch of whole samples, in their order."""
    lengths = tuple(n for sample in samples for n in sample.lengths)
    parent = tuple(_shifted_parents(samples))
    targets, weight = zip(*(shift(sample) for sample in samples), strict=True)
    return Batch(
        input_ids=torch.from_numpy(np.concatenate([sample.input_ids for sample in samples])),
        position_ids=positions(lengths, parent, grids=_grids(samples)),
        segments=Segments.of(lengths, parent=parent),
        media=_merge_media(samples),
        targets=torch.from_numpy(np.concatenate(targets)),
        loss_weight=torch.from_numpy(np.concatenate(weight)),
        sample_ids=tuple(sample.sample_id for sample in samples),
        owners=tuple(i for i, sample in enumerate(samples) for _ in sample.lengths),
    )


def shift(sample: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Targets and weights of a sample: position t predicts token t + 1 of its own segment.

    The last token of a segment predicts nothing, so the first token of a branch is nobody's target: siblings would
    ask their common prefix for different tokens. Hence a branch begins with a token that is not learnt.
    """
    targets = np.full(len(sample.input_ids), -1, dtype=np.int64)
    weight = np.zeros(len(sample.input_ids), dtype=np.float32)
    start = 0
    for length, parent in zip(sample.lengths, sample.parent, strict=True):
        stop = start + length
        assert parent < 0 or not length or sample.loss_weight[start] == 0, (
            f"{sample.sample_id}: a branch begins with a token that is to be learnt, but nothing predicts it"
        )
        if length:
            weight[start : stop - 1] = sample.loss_weight[start + 1 : stop]
            targets[start : stop - 1] = sample.input_ids[start + 1 : stop]
        start = stop
    targets[weight == 0] = -1
    return targets, weight


class Packer:
    """Fills batches greedily, in order: a sample that does not fit any more begins the next batch.

    Args:
        batch_tokens: decoder tokens of a batch at most, placeholders expanded.
        max_patches: raw patches of a batch at most; None for no limit.
    """

    def __init__(self, batch_tokens: int, max_patches: int | None = None) -> None:
        self.batch_tokens = batch_tokens
        self.max_patches = max_patches
        self.samples: list[Encoded] = []
        self.tokens = self.patches = 0

    def check(self, sample: Encoded) -> None:
        """Refuse a sample that no batch can hold.

        Raises:
            EyespotError: ``too-long`` with both counts.
        """
        size = len(sample.input_ids)
        if size > self.batch_tokens:
            message = f"the sample has {size} tokens, a batch holds {self.batch_tokens} (batch_tokens)"
            raise EyespotError("too-long", message, where=sample.sample_id)
        if self.max_patches is not None and patches_of(sample) > self.max_patches:
            message = f"the sample has {patches_of(sample)} patches, a batch holds {self.max_patches} (max_patches)"
            raise EyespotError("too-long", message, where=sample.sample_id)

    def fits(self, sample: Encoded) -> bool:
        """Whether the sample goes into the batch that is being filled."""
        if not self.samples:
            return True
        tokens = self.tokens + len(sample.input_ids) <= self.batch_tokens
        return tokens and (self.max_patches is None or self.patches + patches_of(sample) <= self.max_patches)

    def add(self, sample: Encoded) -> None:
        """Put a sample that fits into the batch."""
        self.check(sample)
        assert self.fits(sample), "ask fits() first, and take() a batch that is full"
        self.samples.append(sample)
        self.tokens += len(sample.input_ids)
        self.patches += patches_of(sample)

    def take(self) -> Batch:
        """The batch so far; a new one begins."""
        batch = pack(self.samples)
        self.samples, self.tokens, self.patches = [], 0, 0
        return batch


def media_batch(items: Sequence[EncodedMedia], starts: Sequence[int] | None = None) -> MediaBatch:
    """Media of one encoder together.

    Args:
        items: in packed order.
        starts: where each item's sample begins among the packed tokens; None leaves slots as they are.
    """
    starts = [0] * len(items) if starts is None else starts
    slots = [medium.slots + start for medium, start in zip(items, starts, strict=True)]
    return MediaBatch(
        kind=items[0].kind,
        patches=torch.from_numpy(np.concatenate([m.patches for m in items])),
        grid_thw=torch.from_numpy(np.concatenate([m.grid_thw for m in items]).astype(np.int64)),
        rows=tuple(len(m.grid_thw) for m in items),
        slots=torch.from_numpy(np.concatenate(slots).astype(np.int64)),
        counts=tuple(len(m.slots) for m in items),
        plans=tuple(m.plan for m in items),
        sha256=tuple(m.sha256 for m in items),
    )


def patches_of(sample: Encoded) -> int:
    """Raw patches of all media of a sample."""
    return sum(len(medium.patches) for medium in sample.media)


def _shifted_parents(samples: Sequence[Encoded]) -> Iterator[int]:
    before = 0
    for sample in samples:
        yield from (p + before if p >= 0 else -1 for p in sample.parent)
        before += len(sample.lengths)


def _grids(samples: Sequence[Encoded]) -> list[Grid]:
    """Media whose embeddings stand in a grid, by their packed places."""
    found = []
    starts = accumulate((len(sample.input_ids) for sample in samples), initial=0)
    for start, sample in zip(starts, samples, strict=False):
        for medium in sample.media:
            if medium.plan.positions == "grid" and len(medium.slots):
                found += _grids_of(medium, start)
    return found


def _grids_of(medium: EncodedMedia, start: int) -> Iterator[Grid]:
    merge, at = medium.plan.merge_size, 0
    for times, rows, columns in medium.grid_thw.tolist():
        size = (times, rows // merge, columns // merge)
        grid = Grid(start + int(medium.slots[at]), size, medium.plan.interval)
        yield grid
        at += grid.tokens


def _merge_media(samples: Sequence[Encoded]) -> dict[str, MediaBatch]:
    """One `MediaBatch` for each encoder, slots in packed positions."""
    found: dict[str, tuple[list[EncodedMedia], list[int]]] = {}
    starts = accumulate((len(sample.input_ids) for sample in samples), initial=0)
    for start, sample in zip(starts, samples, strict=False):
        for medium in sample.media:
            items, places = found.setdefault(ENCODERS[medium.kind], ([], []))
            items.append(medium)
            places.append(start)
    return {encoder: media_batch(items, places) for encoder, (items, places) in found.items()}
