"""Text tower with the norm behind each half of a block, reading both ways, its padding unseen (BERT, PubMedBERT).

Padding is left out instead of masked: the tokens that are there run packed, each at its own place. The text's vector is
its first token or the mean of all. BERT: Devlin et al. 2019. Numerics: `transformers` modeling_bert.py.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.errors import EyespotError
from eyespot.models.encoders.blocks import PostNormBlock
from eyespot.models.encoders.padding import without_padding


@dataclass(frozen=True)
class PostNormTextConfig(Config):
    """One text tower.

    Attributes:
        max_length: rows of the position table.
        token_types: rows of the table of token types; every token of a caption is of the first.
        pad_token_id: tokens that are not there.
        pool: ``class``: the first token; ``mean``: all of them.
        pooled_dense: a dense layer of the same width with ``tanh`` on the pooled vector (BERT's pooler).
        projection: ``linear``; ``mlp``: two layers with GELU, as wide between as the mean of both ends; ``none``.
        projection_size: width of the contrastive space.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    max_length: int = 512
    token_types: int = 2
    pad_token_id: int = 0
    norm_eps: float = 1e-12
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] = "gelu"
    pool: Literal["class", "mean"] = "class"
    pooled_dense: Literal["none", "tanh"] = "none"
    projection: Literal["linear", "mlp", "none"] = "linear"
    projection_size: int = 512


class PostNormText(nn.Module):
    """Tokens to one vector for each text, not normalised."""

    def __init__(self, config: PostNormTextConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        if config.projection == "none" and size != config.projection_size:
            widths = f"{size} and {config.projection_size}"
            raise EyespotError("config-value", f"without a projection both widths are one, got {widths}", where="text")
        self.token_embedding = nn.Embedding(config.vocab_size, size)
        self.type_embedding = nn.Embedding(config.token_types, size)
        self.position_embedding = nn.Parameter(torch.empty(config.max_length, size))
        self.embedding_norm = nn.LayerNorm(size, config.norm_eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(size, config.num_heads, config.intermediate_size, config.activation, config.norm_eps)
            for _ in range(config.num_layers)
        )
        self.dense = nn.Linear(size, size) if config.pooled_dense == "tanh" else None
        self.projection = _projection(config)

    def forward(self, input_ids: Int[Tensor, "B l"]) -> Float[Tensor, "B O"]:
        """Texts, padded on the right to one length with `pad_token_id`."""
        there, lengths = without_padding(input_ids, self.config.pad_token_id, self.config.max_length)
        places = self.position_embedding[: input_ids.shape[1]]
        x = self.token_embedding(input_ids) + self.type_embedding.weight[0] + places
        x = self.embedding_norm(x)[there]
        segments = Segments.of(lengths, rule="full")
        for block in self.blocks:
            x = block(x, segments)
        if self.config.pool == "mean":
            x = torch.stack([text.mean(0) for text in x.split(lengths)])
        else:
            x = x[torch.tensor([0, *lengths[:-1]], device=x.device).cumsum(0)]
        return self.projection(x if self.dense is None else self.dense(x).tanh())


class MlpProjection(nn.Module):
    """``fc2(gelu(fc1(x)))`` without biases."""

    def __init__(self, size: int, inner: int, output: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, inner, bias=False)
        self.fc2 = nn.Linear(inner, output, bias=False)

    def forward(self, x: Float[Tensor, "B E"]) -> Float[Tensor, "B O"]:
        """Apply to the last axis."""
        return self.fc2(F.gelu(self.fc1(x)))


def _projection(config: PostNormTextConfig) -> nn.Module:
    size, output = config.hidden_size, config.projection_size
    if config.projection == "mlp":
        return MlpProjection(size, (size + output) // 2, output)
    return nn.Linear(size, output, bias=False) if config.projection == "linear" else nn.Identity()
