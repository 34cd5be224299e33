"""Text tower of contrastive models: CLIP's (causal, pooled at the end token), SigLIP's (both ways, last position)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.models.encoders.blocks import EncoderBlock
from eyespot.models.encoders.padding import check_length


@dataclass(frozen=True)
class TextEncoderConfig(Config):
    """One text tower.

    Attributes:
        max_length: rows of the position table.
        pool: ``eos`` (first end token), ``argmax`` (largest id: CLIP's legacy rule, config eos_token_id 2), ``last``.
        projection_size: width of the contrastive space.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    num_layers: int = 12
    num_heads: int = 8
    intermediate_size: int = 2048
    max_length: int = 77
    norm_eps: float = 1e-5
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "quick_gelu"
    causal: bool = True
    pool: Literal["eos", "argmax", "last"] = "eos"
    eos_token_id: int = 49407
    projection_size: int = 512
    projection_bias: bool = False


class TextEncoder(nn.Module):
    """Tokens to one vector for each text, not normalised."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.token_embedding = nn.Embedding(config.vocab_size, size)
        self.position_embedding = nn.Parameter(torch.empty(config.max_length, size))
        self.blocks = nn.ModuleList(
            EncoderBlock(size, config.num_heads, config.intermediate_size, config.activation, config.norm_eps)
            for _ in range(config.num_layers)
        )
        self.final_norm = nn.LayerNorm(size, config.norm_eps)
        self.projection = nn.Linear(size, config.projection_size, bias=config.projection_bias)

    def forward(self, input_ids: Int[Tensor, "B l"]) -> Float[Tensor, "B O"]:
        """Equal-length texts, padded as the contract says. No mask: CLIP cannot see its padding, SigLIP reads it."""
        count, length = input_ids.shape
        check_length(input_ids, self.config.max_length)
        x = self.token_embedding(input_ids) + self.position_embedding[:length]
        segments = Segments.of((length,) * count, rule="causal" if self.config.causal else "full")
        x = x.flatten(0, 1)
        for block in self.blocks:
            x = block(x, segments)
        x = self.final_norm(x).unflatten(0, (count, length))
        return self.projection(x[torch.arange(count, device=x.device), self._pooled_place(input_ids)])

    def _pooled_place(self, input_ids: Int[Tensor, "B l"]) -> Int[Tensor, " B"]:
        if self.config.pool == "last":
            return torch.full((len(input_ids),), input_ids.shape[1] - 1, device=input_ids.device)
        if self.config.pool == "argmax":
            return input_ids.argmax(-1)
        return (input_ids == self.config.eos_token_id).int().argmax(-1)
