"""From a picture's tokens to one vector by cross-attention: SigLIP's head with a learned query, InternVL-C's with the
mean of the tokens as the query."""

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Tensor
from eyespot.nn.attention import attend, attend_flat
from eyespot.nn.mlp import Mlp
from eyespot.nn.self_attention import SelfAttention


class AttentionPool(nn.Module):
    """SigLIP's MAP head: a learned probe attends to the tokens, then ``y + mlp(norm(y))``."""

    def __init__(self, size: int, heads: int, inner: int, activation: str, eps: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(size))
        self.attn = SelfAttention(size, heads)
        self.norm = nn.LayerNorm(size, eps)
        self.mlp = Mlp(size, inner, activation)

    def forward(self, x: Float[Tensor, "T E"], lengths: tuple[int, ...]) -> Float[Tensor, "B E"]:
        """One vector for each stretch of `lengths` tokens."""
        from_probe, _, _ = self.attn.project(self.probe[None].to(x.dtype))
        _, k, v = self.attn.project(x)
        y = self.attn.finish(attend(from_probe.expand(len(lengths), -1, -1), k, v, one_query_each(lengths)))
        return y + self.mlp(self.norm(y))


class MeanQueryPool(nn.Module):
    """InternVL-C's pool: the mean of the tokens attends to them; query, keys and values each have a norm of their own.

    Args:
        size: width of a token.
        heads: of the attention.
        output: width of the vector.
    """

    EPS = 1e-5  # of the norms, whatever the tower's is

    def __init__(self, size: int, heads: int, output: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_norm, self.k_norm, self.v_norm = (nn.LayerNorm(size, self.EPS) for _ in range(3))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(size, size) for _ in range(3))
        self.o_proj = nn.Linear(size, output)

    def forward(self, x: Float[Tensor, "T E"], lengths: tuple[int, ...]) -> Float[Tensor, "B O"]:
        """One vector for each stretch of `lengths` tokens."""
        mean = torch.stack([part.mean(0) for part in x.split(lengths)])
        q, k, v = self.q_proj(self.q_norm(mean)), self.k_proj(self.k_norm(x)), self.v_proj(self.v_norm(x))
        return self.o_proj(attend_flat(q, k, v, self.heads, one_query_each(lengths)))


def one_query_each(lengths: tuple[int, ...]) -> Segments:
    """One query for each stretch of keys."""
    return Segments((1,) * len(lengths), lengths, (-1,) * len(lengths), rule="full")
