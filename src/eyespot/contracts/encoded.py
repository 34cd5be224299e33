"""`Encoded`: one sample after the processor, at its final length. The model never changes that length."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """How the patches of one medium are laid out, beyond the grid: tiles, thumbnails, newlines, pooling.

    Attributes:
        merge_size: side of the block of patches that becomes one embedding; blocks stand together in `patches`.
        block_order: ``rows`` or ``columns``: how blocks follow one another.
        positions: ``line``: an embedding counts as any token; ``grid``: each row of `grid_thw` is a grid of places.
        interval: places from one time of a grid to the next.
        scaled: rows and columns that the covered part of the map, or each frame, is scaled down to; None: to none.
    """

    tile_rows: int = 1
    tile_cols: int = 1
    thumbnail: str = "none"  # none | first | last
    crop: tuple[int, int, int, int] | None = None  # covered by the picture, in patches: left, top, right, bottom
    newline: str = "none"  # none | row | once
    merge_size: int = 1
    block_order: str = "rows"
    positions: str = "line"
    interval: float = 1.0
    scaled: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Transform:
    """Input pixels ↔ original pixels: ``input = original * scale + offset`` on each axis (x, y)."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def to_input(self, x: float, y: float) -> tuple[float, float]:
        """A point of the original picture, in pixels of the model's input."""
        return x * self.scale[0] + self.offset[0], y * self.scale[1] + self.offset[1]

    def to_original(self, x: float, y: float) -> tuple[float, float]:
        """A point of the model's input, in pixels of the original picture."""
        return (x - self.offset[0]) / self.scale[0], (y - self.offset[1]) / self.scale[1]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedMedia:
    """One medium, ready for its encoder.

    Attributes:
        kind: image, video or audio; names the encoder.
        patches: float32 (P, F): raw patches, rows in row-major grid order (of blocks, and inside each block, where
            `plan.merge_size` joins them), features in (channel, frame, row, column) order.
        grid_thw: int64 (tiles, 3): frames, patch rows and patch columns of each tile or frame; rows sum to P.
        slots: int64 (N,): positions in `Encoded.input_ids` where its embeddings go, in order.
        plan: tiles, newline, pooling.
        original_size: (width, height) before any resize.
        input_size: (width, height) that the model sees.
        transform: original pixels ↔ input pixels.
        sha256: of the medium's decoded content; with the contract id it keys caches.
        timing: seconds of each frame.
    """

    kind: str
    patches: np.ndarray
    grid_thw: np.ndarray
    slots: np.ndarray
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    sha256: str
    plan: MediaPlan = MediaPlan()
    transform: Transform = Transform()
    timing: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the rendered text and of the tokens: who speaks and whether it is learnt."""

    role: str
    start: int  # first token
    stop: int  # one past the last token
    supervised: bool


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One sample at its final length.

    A plain conversation is one segment: ``lengths == (T,)`` and ``parent == (-1,)``. A row of independent turns
    is a tree: the prefix first (``parent -1``), then a segment for each pair, whose parent is the prefix's index.

    Attributes:
        sample_id: names the row in errors and the ledger.
        source: the data source that it came from, for the ledger.
        input_ids: int64 (T,), placeholders expanded.
        loss_weight: float32 (T,): how much *being predicted* counts for each token; 0 for what is not learnt.
            Not shifted: packing makes the shift.
        spans: who said what, in token indices.
        lengths: tokens of each segment; they sum to T.
        parent: for each segment the index of the segment that it continues, or -1.
        media: in the order of their first slot.
        truncated: tokens that `max_length` took away, for the ledger.
    """

    sample_id: str
    source: str
    input_ids: np.ndarray
    loss_weight: np.ndarray
    spans: tuple[Span, ...] = ()
    lengths: tuple[int, ...] = ()
    parent: tuple[int, ...] = (-1,)
    media: tuple[EncodedMedia, ...] = field(default=())
    truncated: int = 0

    def __post_init__(self) -> None:
        if not self.lengths:
            object.__setattr__(self, "lengths", (len(self.input_ids),))
        assert sum(self.lengths) == len(self.input_ids) == len(self.loss_weight)
        assert len(self.lengths) == len(self.parent)

    @property
    def supervised(self) -> int:
        """How many tokens are learnt."""
        return int((self.loss_weight > 0).sum())
