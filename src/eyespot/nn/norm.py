"""Normalisations. LayerNorm is torch's; RMSNorm follows the models' arithmetic: fp32 inside, weight after the cast."""

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.shapes import Float, Tensor


class RMSNorm(nn.Module):
    """``x / rms(x) * weight`` over the last axis (Zhang & Sennrich 2019), with Llama's order of casts."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Normalise over the last axis."""
        return F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype) * self.weight
