"""`Batch`: one packed step, in training and in serving alike. No padding, no mask tensor, no padding side.

Who sees whom is said once, in `Segments`, queries and keys apart, so that cross-attention, cached decoding,
branches of a shared prefix and prefix-LM blocks are ordinary cases.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

import torch

from eyespot.contracts.encoded import MediaPlan
from eyespot.contracts.shapes import Float, Int, Tensor

Rule = Literal["causal", "full", "blocks"]


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Who sees whom in a packed row of tokens.

    Attributes:
        q_lens: queries of each segment, in packed order.
        k_lens: keys of each segment, in packed order. Queries are the *last* `q_len` of a segment's keys.
        parent: for each segment the earlier segment whose keys it also sees (a tree of prefixes), or -1.
        rule: causal, full, or blocks (a key is seen when its block number is not greater than the query's own).
        blocks: int64, a number for each key, under ``rule="blocks"`` only.
    """

    q_lens: tuple[int, ...]
    k_lens: tuple[int, ...]
    parent: tuple[int, ...]
    rule: Rule = "causal"
    blocks: Tensor | None = None

    @classmethod
    def of(cls, lens: tuple[int, ...], *, parent: tuple[int, ...] | None = None, rule: Rule = "causal") -> "Segments":
        """Self-attention over segments of these lengths."""
        lens = tuple(lens)
        return cls(lens, lens, tuple(parent) if parent is not None else (-1,) * len(lens), rule)

    def __post_init__(self) -> None:
        assert len(self.q_lens) == len(self.k_lens) == len(self.parent), "one length pair and parent per segment"
        assert all(q <= k or self.rule == "full" for q, k in zip(self.q_lens, self.k_lens, strict=True)), (
            "queries are the last of a segment's keys"
        )
        assert all(p < i for i, p in enumerate(self.parent)), "a parent comes before its branches"

    @property
    def tokens(self) -> int:
        """Queries in all."""
        return sum(self.q_lens)

    @property
    def max_q(self) -> int:
        """The longest query stretch, known on the host."""
        return max(self.q_lens, default=0)

    @property
    def max_k(self) -> int:
        """The longest key stretch, known on the host."""
        return max(self.k_lens, default=0)

    @property
    def tree_lengths(self) -> tuple[int, ...]:
        """For each segment the keys of the longest chain of segments in its tree."""
        chains: list[int] = []
        roots: list[int] = []
        for s, (keys, p) in enumerate(zip(self.k_lens, self.parent, strict=True)):
            chains.append(keys + (chains[p] if p >= 0 else 0))
            roots.append(roots[p] if p >= 0 else s)
        longest = dict.fromkeys(roots, 0)
        for root, length in zip(roots, chains, strict=True):
            longest[root] = max(longest[root], length)
        return tuple(longest[root] for root in roots)

    def cu_q(self, device: torch.device | str = "cpu") -> Int[Tensor, " S1"]:
        """Cumulative query borders, int32, as variable-length kernels take them."""
        return torch.tensor([0, *accumulate(self.q_lens)], dtype=torch.int32, device=device)

    def cu_k(self, device: torch.device | str = "cpu") -> Int[Tensor, " S1"]:
        """Cumulative key borders, int32."""
        return torch.tensor([0, *accumulate(self.k_lens)], dtype=torch.int32, device=device)


@dataclass(frozen=True, slots=True, eq=False)
class MediaBatch:
    """All media of a step that go through one encoder.

    Attributes:
        kind: image, video or audio.
        patches: (P, F) raw patches.
        grid_thw: (rows, 3), a row for each tile or frame, of all items in order.
        rows: how many rows of `grid_thw` belong to each item.
        slots: (N,) positions in the packed `input_ids`; N counts embeddings after the connector.
        counts: how many slots belong to each item; a medium without slots is legal.
        plans: layout of each item.
        sha256: of each item.
    """

    kind: str
    patches: Float[Tensor, "P F"]
    grid_thw: Int[Tensor, "R 3"]
    rows: tuple[int, ...]
    slots: Int[Tensor, " N"]
    counts: tuple[int, ...]
    plans: tuple[MediaPlan, ...] = ()
    sha256: tuple[str, ...] = ()

    @property
    def grids(self) -> tuple[tuple[int, int, int], ...]:
        """`grid_thw` as host tuples."""
        return tuple(tuple(row) for row in self.grid_thw.tolist())

    def to(self, device: torch.device | str) -> "MediaBatch":
        """A copy whose tensors live on `device`."""
        return _map(self, lambda t: t.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One packed step.

    Attributes:
        input_ids: (T,).
        position_ids: (A, T): one axis for text models, three for M-RoPE.
        segments: who sees whom.
        media: by encoder name; ``"vision"`` for pictures.
        targets: (T,): what each position must predict; -1 where there is nothing to predict.
        loss_weight: (T,): weight of that prediction; 0 where there is none.
        labels: by head: actions, masks, codec frames.
        sample_ids: the samples packed here.
        owners: for each segment the index of its sample in `sample_ids`.
    """

    input_ids: Int[Tensor, " T"]
    position_ids: Int[Tensor, "A T"]
    segments: Segments
    media: Mapping[str, MediaBatch] = field(default_factory=dict)
    targets: Int[Tensor, " T"] | None = None
    loss_weight: Float[Tensor, " T"] | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    sample_ids: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """A copy whose tensors live on `device`."""
        return _map(self, lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory, for asynchronous transfer."""
        return _map(self, lambda t: t.pin_memory())


def _map(value: Any, function: Any) -> Any:
    """`function` on every tensor inside dataclasses and mappings."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {k: _map(v, function) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _map(getattr(value, f.name), function) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    return value
