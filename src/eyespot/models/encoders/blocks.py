"""The transformer blocks that the towers for pictures and text share, and how hidden states are counted."""

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError
from eyespot.nn.mlp import GatedMlp, Mlp
from eyespot.nn.norm import RMSNorm
from eyespot.nn.self_attention import Rotary, SelfAttention

NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": RMSNorm}


class EncoderBlock(nn.Module):
    """``x += scale1 · attn(norm1(x)); x += scale2 · mlp(norm2(x))``; o_proj and the feed-forward always biased.

    Args:
        size: width of the residual stream.
        heads: attention heads.
        inner: width of the feed-forward.
        activation: its name; the gated form has SiLU.
        eps: of the norms.
        qkv_bias: bias of the three input projections.
        norm: ``layer`` or ``rms``.
        gated: SwiGLU instead of two layers.
        layer_scale: a learned factor for each channel of what either half adds (Touvron et al. 2021).
        qk_norm_eps: eps of RMS norms of all q and all k together (InternViT); None: none.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        inner: int,
        activation: str,
        eps: float,
        qkv_bias: bool = True,
        norm: str = "layer",
        gated: bool = False,
        layer_scale: bool = False,
        qk_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = NORMS[norm](size, eps)
        self.attn = SelfAttention(size, heads, qkv_bias=qkv_bias, qk_norm_eps=qk_norm_eps, qk_norm_whole=True)
        self.norm2 = NORMS[norm](size, eps)
        self.mlp = GatedMlp(size, inner, bias=True) if gated else Mlp(size, inner, activation)
        self.scale1 = nn.Parameter(torch.ones(size)) if layer_scale else None
        self.scale2 = nn.Parameter(torch.ones(size)) if layer_scale else None

    def forward(
        self, x: Float[Tensor, "T E"], segments: Segments, rotary: Rotary | None = None
    ) -> Float[Tensor, "T E"]:
        """One block over packed tokens."""
        added = self.attn(self.norm1(x), segments, rotary=rotary)
        x = x + (added if self.scale1 is None else added * self.scale1)
        added = self.mlp(self.norm2(x))
        return x + (added if self.scale2 is None else added * self.scale2)


class PostNormBlock(nn.Module):
    """``x = norm1(x + attn(x)); x = norm2(x + mlp(x))``, all with biases (Vaswani et al. 2017; BERT)."""

    def __init__(self, size: int, heads: int, inner: int, activation: str, eps: float) -> None:
        super().__init__()
        self.attn = SelfAttention(size, heads)
        self.norm1 = nn.LayerNorm(size, eps)
        self.mlp = Mlp(size, inner, activation)
        self.norm2 = nn.LayerNorm(size, eps)

    def forward(self, x: Float[Tensor, "T E"], segments: Segments) -> Float[Tensor, "T E"]:
        """One block over packed tokens."""
        x = self.norm1(x + self.attn(x, segments))
        return self.norm2(x + self.mlp(x))


def layer_index(layer: int, num_layers: int) -> int:
    """Hugging Face's index into the L + 1 hidden states as a non-negative number.

    Raises:
        EyespotError: ``argument`` for a state that there is not.
    """
    index = layer + num_layers + 1 if layer < 0 else layer
    if not 0 <= index <= num_layers:
        message = f"layer {layer} asked of an encoder with {num_layers} blocks"
        raise EyespotError("argument", message, where="select_layers")
    return index
