"""Vision transformer at native resolution: pictures of any size, each a grid of patches, packed.

Patches come in merge blocks: those that the connector joins into one embedding stand next to each other (a block of
``merge_size``² patches is a *unit*), units row by row. Places are rotated in (axial rotary positions on rows and
columns); a learned table, where there is one, is stretched over each frame from corner to corner. A frame attends to
itself only; with `window_size` most blocks attend within square windows instead, and patches then run in window order,
which `features` undoes.

Qwen2-VL: Wang et al. 2024; windows, RMSNorm and SwiGLU: Qwen2.5-VL, Bai et al. 2025; the table: Qwen3-VL, Bai et al.
2025. Numerics: `transformers` modeling_qwen2_vl.py, modeling_qwen2_5_vl.py, modeling_qwen3_vl.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.batch import MediaBatch, Segments
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.errors import EyespotError
from eyespot.models.encoders.blocks import EncoderBlock, layer_index
from eyespot.models.encoders.stems import PatchStem
from eyespot.nn.rope import axial_tables

Grids = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class GridVitConfig(Config):
    """One tower.

    Attributes:
        temporal_patch_size: frames that one patch spans; a picture is repeated as often.
        merge_size: side of a unit, in patches.
        norm: of the blocks, ``layer`` or ``rms``.
        gated: SwiGLU in the blocks instead of two layers with `activation`.
        rope_theta: base of the rotary frequencies.
        window_size: side of the windows in pixels; None: every block sees the whole frame.
        full_layers: the blocks that see the whole frame where there are windows.
        table_size: side of the square table of learned positions; None: there is none.
    """

    hidden_size: int = 1280
    num_layers: int = 32
    num_heads: int = 16
    intermediate_size: int = 5120
    patch_size: int = 14
    temporal_patch_size: int = 2
    channels: int = 3
    merge_size: int = 2
    patch_bias: bool = False
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-6
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "quick_gelu"
    gated: bool = False
    rope_theta: float = 10000.0
    window_size: int | None = None
    full_layers: tuple[int, ...] = ()
    table_size: int | None = None

    @property
    def window_units(self) -> int | None:
        """Side of a window in units."""
        return None if self.window_size is None else self.window_size // (self.patch_size * self.merge_size)


@dataclass(frozen=True, eq=False)
class GridLayout:
    """Where the patches of some grids are, and what runs together.

    Attributes:
        places: (2, P): row and column of each patch, in the order in which they run.
        frames: patches of each frame.
        windows: patches of each window, where there are windows.
        order: (units,): the unit that runs at each place; None: as they come.
        back: the inverse of `order`.
        corners: (P, 4): the rows of a table of positions around each patch, as patches come.
        weights: (P, 4): how much of each, by nearness.
    """

    places: Int[Tensor, "2 P"]
    frames: tuple[int, ...]
    windows: tuple[int, ...] = ()
    order: Int[Tensor, " U"] | None = None
    back: Int[Tensor, " U"] | None = None
    corners: Int[Tensor, "P 4"] | None = None
    weights: Float[Tensor, "P 4"] | None = None


class GridVit(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: GridVitConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        # A frame more is a channel more to a kernel that never slides.
        self.stem = PatchStem(config.channels * config.temporal_patch_size, config.patch_size, size, config.patch_bias)
        rows = (config.table_size or 0) ** 2
        self.position_embedding = nn.Parameter(torch.empty(rows, size)) if rows else None
        self.blocks = nn.ModuleList(
            EncoderBlock(
                size, config.num_heads, config.intermediate_size, config.activation, config.norm_eps,
                norm=config.norm, gated=config.gated,
            )
            for _ in range(config.num_layers)
        )  # fmt: skip

    def features(
        self, media: MediaBatch, layers: tuple[int, ...] = (-1,), keep_class: bool = False
    ) -> Float[Tensor, "P E"]:
        """Outputs of chosen blocks, concatenated on the last axis, in the order of the patches.

        Args:
            media: raw patches in merge blocks, with their grids.
            layers: indices into the L + 1 hidden states.
            keep_class: there is no class token; a picture never has one.
        """
        wanted = [self.layer_index(layer) for layer in layers]
        merge, window, side = self.config.merge_size, self.config.window_units, self.config.table_size
        layout = grid_layout(media.grids, merge, window, media.patches.device, side)
        x = self.stem(media.patches, media.grids)
        if self.position_embedding is not None and layout.corners is not None:
            table = self.position_embedding.float()
            x = x + F.embedding_bag(layout.corners, table, mode="sum", per_sample_weights=layout.weights).to(x.dtype)
        x = _by_unit(x, layout.order, merge)
        rotary = axial_tables(layout.places, self.config.rope_theta, self.config.hidden_size // self.config.num_heads)
        frames = Segments.of(layout.frames, rule="full")
        windows = Segments.of(layout.windows, rule="full") if layout.windows else frames
        states = {0: x}
        for i, block in enumerate(self.blocks[: max(wanted)]):
            x = block(x, frames if i in self.config.full_layers else windows, rotary)
            if i + 1 in wanted:
                states[i + 1] = x
        chosen = torch.cat([states[i] for i in wanted], dim=-1)
        return _by_unit(chosen, layout.back, merge)

    def layer_index(self, layer: int) -> int:
        """Index into the L + 1 hidden states as a non-negative number."""
        return layer_index(layer, self.config.num_layers)

    def unused(self, layers: tuple[int, ...]) -> list[str]:
        """Parameters that `features` with these layers never reads; they are kept for export."""
        deepest = max(self.layer_index(layer) for layer in layers)
        behind = tuple(f"blocks.{i}." for i in range(deepest, self.config.num_layers))
        return [name for name, _ in self.named_parameters() if name.startswith(behind)] if behind else []


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the tables outlive the call, and training may be the next to use them
def grid_layout(
    grids: Grids, merge_size: int, window: int | None, device: torch.device, table_size: int | None = None
) -> GridLayout:
    """The layout of some grids; follows from host numbers alone, so it is made once for a batch.

    Args:
        grids: frames, patch rows and patch columns of each item.
        merge_size: side of a unit in patches.
        window: side of a window in units, or None.
        device: where the index tables go.
        table_size: side of the table of learned positions, or None.

    Raises:
        EyespotError: ``media-size`` for a grid that does not divide into units.
    """
    uneven = next((g for g in grids if g[1] % merge_size or g[2] % merge_size), None)
    if uneven is not None:
        message = f"a grid of {uneven[1]} x {uneven[2]} patches does not divide into blocks of {merge_size}"
        raise EyespotError("media-size", message)
    places = torch.cat([_places(grid, merge_size) for grid in grids], dim=1)
    frames = tuple(h * w for t, h, w in grids for _ in range(t))
    made: dict[str, Tensor] = {}
    if table_size is not None:
        sizes = torch.cat([torch.tensor([[h], [w]]).expand(2, t * h * w) for t, h, w in grids], dim=1)
        made["corners"], made["weights"] = table_corners(places, sizes, table_size)
    windows: tuple[int, ...] = ()
    if window is not None:
        number = _window_numbers(grids, merge_size, window)
        order = made["order"] = number.argsort(stable=True)
        made["back"] = order.argsort()
        windows = tuple((number.unique(return_counts=True)[1] * merge_size**2).tolist())
        places = places.unflatten(1, (-1, merge_size**2))[:, order].flatten(1)
    return GridLayout(places.to(device), frames, windows, **{key: table.to(device) for key, table in made.items()})


def table_corners(
    places: Int[Tensor, "2 P"], sizes: Int[Tensor, "2 P"], side: int
) -> tuple[Int[Tensor, "P 4"], Float[Tensor, "P 4"]]:
    """Which rows of a square table, stretched over a frame from corner to corner, make the position of each patch.

    Args:
        places: row and column of each patch.
        sizes: rows and columns of its frame.
        side: of the table.

    Returns:
        The four rows around each patch and the weight of each; bilinear, so the weights sum to 1.
    """
    at = places * (side - 1) / (sizes - 1).clamp_min(1)
    low = at.floor()
    near, low = at - low, low.long()
    (top, left), (bottom, right) = low, (low + 1).clamp_max(side - 1)
    (down, across), (up, back) = near, 1 - near
    rows = torch.stack([top * side + left, top * side + right, bottom * side + left, bottom * side + right], dim=1)
    return rows, torch.stack([up * back, up * across, down * back, down * across], dim=1)


def _places(grid: tuple[int, int, int], merge: int) -> Int[Tensor, "2 P"]:
    t, h, w = grid
    square = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    blocks = square.view(2, h // merge, merge, w // merge, merge).transpose(2, 3)
    return blocks.reshape(2, h * w).repeat(1, t)


def _window_numbers(grids: Grids, merge: int, window: int) -> Int[Tensor, " U"]:
    """The window of each unit; windows are counted through all frames, row by row."""
    numbers, count = [], 0
    for t, h, w in grids:
        rows, columns = (torch.arange(n // merge) // window for n in (h, w))
        down, across = int(rows[-1]) + 1, int(columns[-1]) + 1
        frame = (rows[:, None] * across + columns).flatten()
        numbers.append((torch.arange(t)[:, None] * (down * across) + frame).flatten() + count)
        count += t * down * across
    return torch.cat(numbers)


def _by_unit(x: Float[Tensor, "P E"], order: Int[Tensor, " U"] | None, merge: int) -> Float[Tensor, "P E"]:
    """Patches with their units in another order."""
    return x if order is None else x.unflatten(0, (-1, merge**2)).index_select(0, order).flatten(0, 1)
