"""Connectors: encoder features to word-like tokens.

`linear` (LLaVA 1.0), `mlp{n}x_gelu` (1.5), `identity`; `patch_merger` (Qwen2-VL: Wang et al. 2024) norms each patch,
joins a block of neighbours into one vector, and maps it in two steps, the first of them without changing its width.
In others, and for features from the middle of an encoder (DeepStack: Qwen3-VL, Bai et al. 2025), the norm is of the
joined vector. Where the image rule cuts patches in blocks, InternVL's pixel shuffle is such a join. `resampler`
(Qwen-VL: Bai et al. 2023) is a module of its own, `models/resampler.py`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import nn

from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError
from eyespot.models.encoders.blocks import NORMS
from eyespot.models.resampler import Resampler


@dataclass(frozen=True)
class ConnectorConfig(Config):
    """Widths and form; `depth` follows from `kind`.

    Attributes:
        input_size: width of one feature of the encoder.
        merge_size: side of the block of neighbouring features that becomes one token.
        norm: ``none``, ``layer`` or ``rms``; of each feature, before the block is joined.
        norm_joined: the norm is of the joined block.
        num_queries, num_heads: of a ``resampler``; a picture becomes as many tokens as there are queries.
    """

    kind: str = "mlp2x_gelu"
    input_size: int = 1024
    output_size: int = 4096
    bias: bool = True
    merge_size: int = 1
    norm: Literal["none", "layer", "rms"] = "none"
    norm_eps: float = 1e-6
    norm_joined: bool = False
    num_queries: int | None = None
    num_heads: int | None = None

    def __post_init__(self) -> None:
        """Refuse a resampler that could not be built."""
        if self.kind != "resampler":
            return
        queries, heads = self.num_queries or 0, self.num_heads or 0
        for name, ok in (
            ("num_queries a square number from 1 up", queries > 0 and queries == math.isqrt(queries) ** 2),
            ("num_heads that divides output_size", heads > 0 and self.output_size % heads == 0),
            ("an output_size in fours", self.output_size % 4 == 0),
        ):
            if not ok:
                raise EyespotError("config-value", f"expected {name}, got {self.to_dict()}", where="connector")

    @property
    def depth(self) -> int:
        """Linear maps in all.

        Raises:
            EyespotError: ``config-value`` for an unknown kind.
        """
        if self.kind in ("identity", "linear", "resampler"):
            return int(self.kind == "linear")
        if self.kind == "patch_merger":
            return 2
        match = re.fullmatch(r"mlp([1-9])x_gelu", self.kind)
        if not match:
            known = "identity, linear, mlp2x_gelu, mlp3x_gelu, …, patch_merger, resampler"
            raise EyespotError("config-value", f"unknown connector {self.kind!r}; known: {known}")
        return int(match[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths from the joined features to the tokens."""
        joined = self.input_size * self.merge_size**2
        inner = joined if self.kind == "patch_merger" else self.output_size
        return (joined, *[inner] * (self.depth - 1), *[self.output_size][: self.depth])


class Connector(nn.Module):
    """Linear maps with exact GELU between them."""

    def __init__(self, config: ConnectorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.sizes
        normed = sizes[0] if config.norm_joined else config.input_size
        self.norm = NORMS[config.norm](normed, config.norm_eps) if config.norm != "none" else None
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=config.bias) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, x: Float[Tensor, "P E"], grids: Sequence[tuple[int, int, int]] = ()) -> Float[Tensor, "N D"]:
        """Each feature by itself, or each block of neighbours; those follow one another, whatever their `grids`."""
        if self.norm is not None and not self.config.norm_joined:
            x = self.norm(x.to(self.norm.weight.dtype))
        if self.config.merge_size > 1:
            x = x.reshape(-1, self.config.sizes[0])
        if self.norm is not None and self.config.norm_joined:
            x = self.norm(x.to(self.norm.weight.dtype))
        for i, layer in enumerate(self.layers):
            x = layer((F.gelu(x) if i else x).to(layer.weight.dtype))
        return x


def build_connector(config: ConnectorConfig) -> Connector | Resampler:
    """The module of a config; it is called with features and the grids that they stand in."""
    if config.kind == "resampler":
        sizes = config.input_size, config.output_size, config.num_queries or 0, config.num_heads or 0
        return Resampler(*sizes, config.norm_eps)
    return Connector(config)
