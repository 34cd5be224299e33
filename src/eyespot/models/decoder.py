"""The decoder-only language model: Llama, Mistral, Qwen, Qwen2 and Qwen3 are values of one configuration.

Pre-norm RMSNorm, rotary positions, grouped-query attention, SwiGLU. Nothing multimodal inside: it takes embeddings.
What helps with longer sequences than in training (dynamic NTK, log-n attention) acts in evaluation mode only.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from eyespot.contracts.batch import Segments
from eyespot.contracts.config import Config
from eyespot.contracts.protocols import Hidden
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.nn.cache import KVCache
from eyespot.nn.mlp import GatedMlp
from eyespot.nn.norm import RMSNorm
from eyespot.nn.rope import RopeConfig, for_length, rotary_tables
from eyespot.nn.self_attention import Rotary, SelfAttention, log_n_scale

# (slots, rows): rows are added to the hidden states at these places after a layer (DeepStack).
Adds = Mapping[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DecoderConfig(Config):
    """One decoder.

    Attributes:
        head_dim: channels per head; ``hidden_size // num_heads`` when None.
        qkv_bias, o_bias, mlp_bias: Qwen2 has the first only, Llama none by default.
        qk_norm: RMS norm of each head's q and k before the rotation (Qwen3).
        sliding_window: keys that a query sees, itself included; None: all.
        window_layers: the layers that have the window; empty: all of them.
        tie_word_embeddings: the head is the embedding table.
        log_n_length: keys beyond which queries are scaled up by the logarithm of how many they see; None: never.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 32
    head_dim: int | None = None
    intermediate_size: int = 11008
    rms_norm_eps: float = 1e-6
    rope: RopeConfig = field(default_factory=RopeConfig)
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    window_layers: tuple[int, ...] = ()
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 4096
    log_n_length: int | None = None

    @property
    def channels(self) -> int:
        """Channels per head."""
        return self.head_dim or self.hidden_size // self.num_heads

    def window(self, layer: int) -> int | None:
        """The sliding window of a layer, if it has one."""
        return self.sliding_window if not self.window_layers or layer in self.window_layers else None


class DecoderLayer(nn.Module):
    """``x += attn(norm(x)); x += mlp(norm(x))``."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.index, self.window = index, config.window(index)
        size, eps = config.hidden_size, config.rms_norm_eps
        self.input_norm = RMSNorm(size, eps)
        self.attn = SelfAttention(
            size, config.num_heads, config.num_kv_heads, config.channels,
            qkv_bias=config.qkv_bias, o_bias=config.o_bias, qk_norm_eps=eps if config.qk_norm else None,
        )  # fmt: skip
        self.post_attention_norm = RMSNorm(size, eps)
        self.mlp = GatedMlp(size, config.intermediate_size, config.mlp_bias)

    def forward(
        self,
        x: Float[Tensor, "T D"],
        segments: Segments,
        rotary: Rotary,
        cache: KVCache | None,
        query_scale: Float[Tensor, " T"] | None = None,
    ) -> Float[Tensor, "T D"]:
        """One layer over packed tokens."""
        x = x + self.attn(
            self.input_norm(x), segments, rotary=rotary, window=self.window, cache=cache, layer=self.index,
            query_scale=query_scale,
        )  # fmt: skip
        return x + self.mlp(self.post_attention_norm(x))


class Decoder(nn.Module):
    """Embeddings in, hidden states out; the head lives beside it, in `models/vlm.py`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden: Float[Tensor, "T D"],
        position_ids: Int[Tensor, "A T"],
        segments: Segments,
        cache: KVCache | None = None,
        adds: Adds | None = None,
        taps: Collection[int] = (),
    ) -> Hidden:
        """Run all layers.

        Args:
            hidden: embeddings, media already in their places.
            position_ids: from `models/positions.py`.
            segments: who sees whom; with a cache, `k_lens` counts the cached tokens too.
            cache: keys and values so far; grows by T.
            adds: rows to add after a layer, by layer index.
            taps: layers whose output is wanted as well.
        """
        x = hidden.to(self.norm.weight.dtype)
        rotary = self._rotary(position_ids, segments, cache, x.dtype)
        log_n, tapped = None if self.training else self.config.log_n_length, {}
        query_scale = None if log_n is None else log_n_scale(position_ids[0], log_n, x.dtype)
        for i, layer in enumerate(self.layers):
            x = layer(x, segments, rotary, cache, query_scale)
            if adds and i in adds:
                slots, rows = adds[i]
                x = x.index_add(0, slots, rows.to(x.dtype))
            if i in taps:
                tapped[i] = x
        return Hidden(self.norm(x), tapped)

    def _rotary(
        self, position_ids: Int[Tensor, "A T"], segments: Segments, cache: KVCache | None, dtype: torch.dtype
    ) -> Rotary:
        """Rotary tables; where they depend on the length, each tree of segments has those of its own.

        Keys in a cache are turned already, so that an answer goes on with its prompt's frequencies however long it
        gets; and branches share their prefix's keys, so that a tree goes by its longest chain.
        """
        rope, channels = self.config.rope, self.config.channels
        if not rope.by_length or (rope.type == "dynamic_ntk" and self.training):
            return rotary_tables(position_ids, rope, channels, dtype)
        cached = cache is not None and cache.length > 0
        lengths = [cache.first] * len(segments.q_lens) if cached else segments.tree_lengths
        ropes = [for_length(rope, channels, length) for length in lengths]
        if len(set(ropes)) == 1:
            return rotary_tables(position_ids, ropes[0], channels, dtype)
        pieces = zip(position_ids.split(segments.q_lens, dim=1), ropes, strict=True)
        cos, sin = zip(*(rotary_tables(places, rope, channels, dtype) for places, rope in pieces), strict=True)
        return torch.cat(cos), torch.cat(sin)
