"""Text tower that is a whole language model: a caption's vector is its last token's (InternVL-C; QLLaMA).

Padding is left out instead of masked, as in `post_norm_text`. `PictureQueries` is what InternVL-G adds: learned tokens
that run through the same decoder and look at a picture in some of its layers; pooled, they are one more vector of it.
Chen et al. 2023 (InternVL), section 3.3. Upstream: OpenGVLab/InternVL modeling_internvl.py, modeling_qllama.py.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.errors import EyespotError
from eyespot.models.decoder import Decoder, DecoderConfig
from eyespot.models.encoders.padding import without_padding
from eyespot.models.encoders.pools import MeanQueryPool
from eyespot.nn.attention import attend_flat
from eyespot.nn.norm import RMSNorm
from eyespot.nn.rope import rotary_tables


@dataclass(frozen=True)
class DecoderTextConfig(Config):
    """One text tower.

    Attributes:
        decoder: the language model; its head is not part of the tower.
        max_length: tokens of a caption.
        pad_token_id: tokens that are not there.
        projection_size: width of the contrastive space.
    """

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    max_length: int = 80
    pad_token_id: int = 0
    projection_size: int = 768

    @property
    def vocab_size(self) -> int:
        """Rows of the table of tokens."""
        return self.decoder.vocab_size


@dataclass(frozen=True)
class QueriesConfig(Config):
    """Learned tokens that look at a picture from within a decoder.

    Attributes:
        count: of the tokens.
        every: they look in each layer whose number it divides, the first included.
        heads: of the attention that pools them.
        output_size: width of the vector.
        seen_size: width of a picture's features.
    """

    count: int = 96
    every: int = 2
    heads: int = 16
    output_size: int = 768
    seen_size: int = 3200

    def __post_init__(self) -> None:
        """Refuse counts that nothing could be built from."""
        if min(self.count, self.every, self.heads) < 1:
            raise EyespotError("config-value", f"expected numbers from 1 up, got {self.to_dict()}", where="queries")


class DecoderText(nn.Module):
    """Tokens to one vector for each text, not normalised."""

    def __init__(self, config: DecoderTextConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder)
        self.projection = nn.Linear(config.decoder.hidden_size, config.projection_size, bias=False)

    def forward(self, input_ids: Int[Tensor, "B l"]) -> Float[Tensor, "B O"]:
        """Texts, padded on the right to one length with `pad_token_id`."""
        there, lengths = without_padding(input_ids, self.config.pad_token_id, self.config.max_length)
        count, length = input_ids.shape
        places = torch.arange(length, device=input_ids.device).expand(count, -1)[there][None]
        hidden = self.decoder(self.decoder.embed_tokens(input_ids[there]), places, Segments.of(lengths)).last
        return self.projection(hidden[torch.tensor(lengths, device=hidden.device).cumsum(0) - 1])


class PictureQueries(nn.Module):
    """Query tokens through a decoder, all of a picture's seeing each other, and the picture in some layers."""

    def __init__(self, config: QueriesConfig, decoder: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        size = decoder.hidden_size
        self.query = nn.Parameter(torch.empty(config.count, size))
        looking = range(0, decoder.num_layers, config.every)
        self.looks = nn.ModuleDict({str(i): Look(size, decoder, config.seen_size) for i in looking})
        self.pool = MeanQueryPool(size, config.heads, config.output_size)
        # Heads of training's other two losses, captions and matching; no vector depends on them.
        self.lm_head = nn.Linear(size, decoder.vocab_size, bias=False)
        self.match = nn.Linear(size, 2)

    def forward(self, decoder: Decoder, x: Float[Tensor, "P E"], lengths: tuple[int, ...]) -> Float[Tensor, "B O"]:
        """One vector for each picture, not normalised.

        Args:
            decoder: whose layers the queries run through.
            x: features of all pictures.
            lengths: features of each.
        """
        count, pictures = self.config.count, len(lengths)
        own = (count,) * pictures
        among, across = Segments.of(own, rule="full"), Segments(own, lengths, (-1,) * pictures, rule="full")
        places = torch.arange(count, device=x.device).repeat(pictures)[None]
        hidden = self.query.repeat(pictures, 1)
        rotary = rotary_tables(places, decoder.config.rope, decoder.config.channels, hidden.dtype)
        for i, layer in enumerate(decoder.layers):
            hidden = hidden + layer.attn(layer.input_norm(hidden), among, rotary=rotary, window=layer.window)
            if str(i) in self.looks:
                hidden = hidden + self.looks[str(i)](hidden, x, across)
            hidden = hidden + layer.mlp(layer.post_attention_norm(hidden))
        return self.pool(decoder.norm(hidden), own)


class Look(nn.Module):
    """Cross-attention without biases or positions, a norm on each side."""

    def __init__(self, size: int, decoder: DecoderConfig, seen_size: int) -> None:
        super().__init__()
        self.heads = decoder.num_heads
        self.norm = RMSNorm(size, decoder.rms_norm_eps)
        self.seen_norm = RMSNorm(seen_size, decoder.rms_norm_eps)
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(seen_size, size, bias=False)
        self.v_proj = nn.Linear(seen_size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)

    def forward(self, x: Float[Tensor, "T D"], seen: Float[Tensor, "P E"], segments: Segments) -> Float[Tensor, "T D"]:
        """What the tokens take from the features."""
        seen = self.seen_norm(seen)
        q, k, v = self.q_proj(self.norm(x)), self.k_proj(seen), self.v_proj(seen)
        return self.o_proj(attend_flat(q, k, v, self.heads, segments))
