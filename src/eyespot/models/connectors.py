"""Connectors: encoder features to word-like tokens. `linear` (LLaVA 1.0), `mlp{n}x_gelu` (1.5), `identity`."""

import re
from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError


@dataclass(frozen=True)
class ConnectorConfig(Config):
    """Widths and form; `depth` follows from `kind`."""

    kind: str = "mlp2x_gelu"
    input_size: int = 1024
    output_size: int = 4096
    bias: bool = True

    @property
    def depth(self) -> int:
        """Linear maps in all.

        Raises:
            EyespotError: ``config-value`` for an unknown kind.
        """
        if self.kind in ("identity", "linear"):
            return int(self.kind == "linear")
        match = re.fullmatch(r"mlp([1-9])x_gelu", self.kind)
        if not match:
            raise EyespotError(
                "config-value", f"unknown connector {self.kind!r}; known: identity, linear, mlp2x_gelu, mlp3x_gelu, …"
            )
        return int(match[1])


class Connector(nn.Module):
    """Linear maps with exact GELU between them."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [config.input_size] + [config.output_size] * config.depth
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=config.bias) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, x: Float[Tensor, "N E"]) -> Float[Tensor, "N D"]:
        """Each feature by itself."""
        for i, layer in enumerate(self.layers):
            x = layer((F.gelu(x) if i else x).to(layer.weight.dtype))
        return x
