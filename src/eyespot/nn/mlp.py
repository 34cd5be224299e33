"""Feed-forward blocks: the two-layer form of encoders and the gated form of decoders."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.shapes import Float, Tensor


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``, the approximation that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (SigLIP)."""
    return F.gelu(x, approximate="tanh")


# Four towers, three GELUs: the name in a config is never guessed.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class Mlp(nn.Module):
    """``fc2(act(fc1(x)))``, both with bias."""

    def __init__(self, size: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, inner)
        self.fc2 = nn.Linear(inner, size)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Float[Tensor, "*n E"]) -> Float[Tensor, "*n E"]:
        """Apply to the last axis."""
        return self.fc2(self.activation(self.fc1(x)))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, size: int, inner: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size, inner, bias=bias)
        self.up_proj = nn.Linear(size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, size, bias=bias)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n D"]:
        """Apply to the last axis."""
        x = once(x)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def once(x: Tensor) -> Tensor:
    """What several linear maps read, in the dtype that autocast would give it for each of them anew."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
