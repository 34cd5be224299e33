"""Patch features: what a vision encoder has at each place of a picture, in the order of the picture's rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from torch import nn

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.encoded import MediaPlan
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """Features of the patches of some pictures.

    Attributes:
        values: (layers, N, E): the layers that were asked for; the patches of all grids one after the other, each row
            by row. No class token, no registers.
        grids: (rows, columns) of each picture, or of each tile where the contract cuts tiles; N = Σ rows · columns.
        tiles: how many of the grids belong to each picture.
    """

    values: Float[Tensor, "layers N E"]
    grids: tuple[tuple[int, int], ...]
    tiles: tuple[int, ...]

    def maps(self) -> list[Float[Tensor, "layers rows columns E"]]:
        """The features of each grid as a map."""
        borders = torch.tensor([0, *(rows * columns for rows, columns in self.grids)]).cumsum(0).tolist()
        parts = (self.values[:, a:b] for a, b in pairwise(borders))
        return [part.unflatten(1, grid) for part, grid in zip(parts, self.grids, strict=True)]


def patch_features(encoder: nn.Module, media: MediaBatch, layers: Sequence[int], norm: bool) -> PatchFeatures:
    """Features of packed pictures; arguments and errors as of `Model.features`."""
    if not layers:
        raise EyespotError("argument", "expected at least one layer, got none", where="layers")
    final = getattr(encoder, "post_norm", None)
    if norm and final is None:
        raise EyespotError("not-supported", "this vision encoder has no final norm", remedy="Leave norm=False.")
    values = torch.stack(encoder.features(media, tuple(layers)).chunk(len(layers), dim=-1))
    values = final(values) if norm and final is not None else values
    plans = [plan for plan, count in zip(media.plans, media.rows, strict=True) for _ in range(count)]
    grids = [(t * h, w) for t, h, w in media.grids]
    parts = values.split([rows * columns for rows, columns in grids], dim=1)
    if any(plan.merge_size > 1 for plan in plans):
        values = torch.cat([_by_rows(*each) for each in zip(parts, grids, plans, strict=True)], dim=1)
    return PatchFeatures(values, tuple(grids), media.rows)


def _by_rows(x: Float[Tensor, "layers n E"], grid: tuple[int, int], plan: MediaPlan) -> Float[Tensor, "layers n E"]:
    """Patches that come block by block, row by row."""
    merge, blocks = plan.merge_size, "gh gw" if plan.block_order == "rows" else "gw gh"
    order = f"layers ({blocks} mh mw) e -> layers (gh mh gw mw) e"
    return rearrange(x, order, gh=grid[0] // merge, gw=grid[1] // merge, mh=merge, mw=merge)
