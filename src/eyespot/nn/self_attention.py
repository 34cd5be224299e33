"""Self-attention over packed tokens: the one module that encoders and decoders share.

`project` and `finish` are public, so that two widths can run through one attention (action experts).
"""

import math

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.nn.attention import attend
from eyespot.nn.cache import KVCache
from eyespot.nn.mlp import once
from eyespot.nn.norm import RMSNorm
from eyespot.nn.rope import rotate

Rotary = tuple[Tensor, Tensor]


class SelfAttention(nn.Module):
    """Grouped-query attention with optional biases, RMS norms of q and k, and rotary positions.

    Args:
        size: width of the residual stream.
        num_heads: query heads H.
        num_kv_heads: key/value heads K; H for plain multi-head attention.
        head_dim: channels per head C; ``size // num_heads`` when None.
        qkv_bias: bias of the three input projections.
        o_bias: bias of the output projection.
        qk_norm_eps: eps of the norms of q and k before the rotation (Qwen3); None: no such norms.
        qk_norm_whole: the norms see all heads at once (InternViT), not each by itself.
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        qkv_bias: bool = True,
        o_bias: bool = True,
        qk_norm_eps: float | None = None,
        qk_norm_whole: bool = False,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim or size // num_heads
        kv_heads = num_kv_heads or num_heads
        self.q_proj = nn.Linear(size, num_heads * self.head_dim, bias=qkv_bias)
        self.k_proj = nn.Linear(size, kv_heads * self.head_dim, bias=qkv_bias)
        self.v_proj = nn.Linear(size, kv_heads * self.head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(num_heads * self.head_dim, size, bias=o_bias)
        self.norm_whole = qk_norm_whole
        widths = [n * self.head_dim if qk_norm_whole else self.head_dim for n in (num_heads, kv_heads)]
        self.q_norm = RMSNorm(widths[0], qk_norm_eps) if qk_norm_eps is not None else None
        self.k_norm = RMSNorm(widths[1], qk_norm_eps) if qk_norm_eps is not None else None

    def project(
        self, x: Float[Tensor, "T D"], rotary: Rotary | None = None
    ) -> tuple[Float[Tensor, "T H C"], Float[Tensor, "T K C"], Float[Tensor, "T K C"]]:
        """Queries, keys and values, normed and rotated."""
        x = once(x)
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            if self.norm_whole:
                q = self.q_norm(q.flatten(1)).view_as(q)
                k = self.k_norm(k.flatten(1)).view_as(k)
            else:
                q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        # Under autocast norms give fp32; attention runs in the projections' dtype.
        return q.to(v.dtype), k.to(v.dtype), v

    def finish(self, heads: Float[Tensor, "T H C"]) -> Float[Tensor, "T D"]:
        """Join the heads and project back to the residual stream."""
        return self.o_proj(heads.flatten(1))

    def forward(
        self,
        x: Float[Tensor, "T D"],
        segments: Segments,
        *,
        rotary: Rotary | None = None,
        window: int | None = None,
        cache: KVCache | None = None,
        layer: int = 0,
        query_scale: Float[Tensor, " T"] | None = None,
    ) -> Float[Tensor, "T D"]:
        """Attend within `segments`; with a cache the new keys are appended first. `query_scale`: of each query."""
        q, k, v = self.project(x, rotary)
        if query_scale is not None:
            q = q * query_scale[:, None, None]
        if cache is not None:
            k, v = cache.append(layer, k, v)
        return self.finish(attend(q, k, v, segments, window=window))


def log_n_scale(places: Int[Tensor, " T"], trained: int, dtype: torch.dtype) -> Float[Tensor, " T"]:
    """Factors on queries under log-n attention: ``log(n) / log(trained)`` for a query that sees n > `trained` keys.

    Softmax over more keys than in training is flatter; this keeps its entropy about the same (Chiang & Cholak 2022).

    Args:
        places: of the queries in their sequences, from 0.
        trained: keys up to which nothing changes.
        dtype: of the result; the logarithms are taken in fp32.
    """
    return ((places + 1).float().log() / math.log(trained)).clamp(min=1.0).to(dtype)
