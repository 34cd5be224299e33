"""Normalisations. LayerNorm is torch's; RMSNorm follows the models' arithmetic: fp32 inside, weight after the cast."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from eyespot.contracts.shapes import Float, Tensor


class RMSNorm(nn.Module):
    """``x / rms(x) * weight`` over the last axis (Zhang & Sennrich 2019), with Llama's order of casts."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Normalise over the last axis."""
        if x.device.type == "cpu" and torch.is_grad_enabled():
            return _CpuRms.apply(x, self.weight, self.eps)
        return F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype) * self.weight


class _CpuRms(torch.autograd.Function):
    """The same with a backward pass of its own: on CPU torch puts both together from a dozen passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = (wide * wide).mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        unit = x.float() * scale
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (grad.float() * unit).flatten(0, -2).sum(0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            pulled = grad.float() * weight.float()
            along = (pulled * unit).mean(-1, keepdim=True)
            to_x = pulled.addcmul_(unit, along, value=-1).mul_(scale).to(x.dtype)
        return to_x, to_weight, None
