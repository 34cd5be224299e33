"""The pre-norm transformer block that CLIP's, SigLIP's and kindred towers share, for pictures and text."""

from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Tensor
from eyespot.nn.mlp import Mlp
from eyespot.nn.self_attention import SelfAttention


class EncoderBlock(nn.Module):
    """``x += attn(norm1(x)); x += mlp(norm2(x))`` with LayerNorm; o_proj, fc1 and fc2 always biased."""

    def __init__(self, size: int, heads: int, inner: int, activation: str, eps: float, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size, eps)
        self.attn = SelfAttention(size, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(size, eps)
        self.mlp = Mlp(size, inner, activation)

    def forward(self, x: Float[Tensor, "T E"], segments: Segments) -> Float[Tensor, "T E"]:
        """One block over packed tokens."""
        x = x + self.attn(self.norm1(x), segments)
        return x + self.mlp(self.norm2(x))
