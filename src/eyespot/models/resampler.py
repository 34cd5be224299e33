"""The resampler: a fixed number of learned queries reads a picture's features in one cross-attention (Qwen-VL).

Every picture becomes as many tokens as there are queries, however many features it has. Queries and keys know where
they stand by a fixed table of sines and cosines, resized to the picture's grid; values do not. Upstream: visual.py of
the Qwen-VL checkpoints (Bai et al. 2023).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Tensor
from eyespot.nn.attention import attend_flat
from eyespot.nn.self_attention import SelfAttention

PERIOD = 10000.0  # of the slowest wave of the table, in units of 2π places


class Resampler(nn.Module):
    """Queries attend to features; the result is normed and mapped.

    Args:
        input_size: width of a feature; equal to `output_size`, features are not mapped before they are read.
        output_size: width of a token, a multiple of four.
        num_queries: tokens of each picture, a square number.
        num_heads: of the attention.
        norm_eps: of all norms.
    """

    def __init__(self, input_size: int, output_size: int, num_queries: int, num_heads: int, norm_eps: float) -> None:
        super().__init__()
        self.side = math.isqrt(num_queries)
        assert self.side**2 == num_queries, "queries stand in a square"
        self.kv_proj = None if input_size == output_size else nn.Linear(input_size, output_size, bias=False)
        self.query = nn.Parameter(torch.empty(num_queries, output_size))
        # Stored in checkpoints, and never trained.
        self.register_buffer("position_embedding", sine_table(self.side, output_size))
        self.query_norm = nn.LayerNorm(output_size, norm_eps)
        self.norm = nn.LayerNorm(output_size, norm_eps)
        self.heads = num_heads
        self.attn = SelfAttention(output_size, num_heads)
        self.post_norm = nn.LayerNorm(output_size, norm_eps)
        self.proj = nn.Linear(output_size, output_size, bias=False)

    def forward(self, x: Float[Tensor, "P E"], grids: Sequence[tuple[int, int, int]]) -> Float[Tensor, "N D"]:
        """Tokens of each picture, picture after picture.

        Args:
            x: features in row-major order of each picture's grid.
            grids: (1, rows, columns) of each.
        """
        x = x.to(self.proj.weight.dtype)
        kv = self.norm(x if self.kv_proj is None else self.kv_proj(x))
        tables = {grid: self._table(grid) for grid in set(grids)}
        places = torch.cat([tables[grid] for grid in grids])
        asked = self.attn.q_proj(self.query_norm(self.query) + self.position_embedding)
        k, v = self.attn.k_proj(kv + places), self.attn.v_proj(kv)
        q = asked.repeat(len(grids), 1)
        lengths = tuple(t * h * w for t, h, w in grids)
        segments = Segments((len(self.query),) * len(grids), lengths, (-1,) * len(grids), rule="full")
        return self.proj(self.post_norm(self.attn.o_proj(attend_flat(q, k, v, self.heads, segments))))

    def _table(self, grid: tuple[int, int, int]) -> Float[Tensor, "p D"]:
        """The table resized to a grid, in fp32."""
        times, rows, columns = grid
        if (rows, columns) == (self.side, self.side):
            return self.position_embedding.repeat(times, 1)
        square = self.position_embedding.float().unflatten(0, (self.side, self.side)).permute(2, 0, 1)[None]
        resized = F.interpolate(square, size=(rows, columns), mode="bicubic", align_corners=False)[0]
        return resized.permute(1, 2, 0).flatten(0, 1).to(self.position_embedding.dtype).repeat(times, 1)


def sine_table(side: int, size: int) -> Float[Tensor, "Q D"]:
    """Sines, then cosines, of the column in the first half of each row, of the row in the second (He et al. 2021)."""
    waves = PERIOD ** -(torch.arange(size // 4, dtype=torch.float64) / (size // 4))
    rows, columns = torch.meshgrid(*[torch.arange(side, dtype=torch.float64)] * 2, indexing="ij")
    halves = [
        torch.cat([angle.sin(), angle.cos()], -1) for angle in (p.reshape(-1, 1) * waves for p in (columns, rows))
    ]
    return torch.cat(halves, dim=-1).float()
