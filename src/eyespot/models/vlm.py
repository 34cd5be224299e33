"""`VisionLanguageModel`: encode media, put the embeddings into their slots, decode.

The processor has expanded every placeholder to its final count; here embeddings are scattered by index, and a count
that does not fit is an error, never a repair. A text-only model is the same class without a vision encoder.
LLaVA: Liu et al. 2023; `transformers` modeling_llava.py. Tiles: modeling_llava_next.py. Features from the middle of the
encoder that go into the decoder's first layers (DeepStack: Meng et al. 2024): modeling_qwen3_vl.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.batch import Batch, MediaBatch
from eyespot.contracts.config import Config
from eyespot.contracts.protocols import Hidden, MediaEmbeddings
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError
from eyespot.models.connectors import ConnectorConfig, build_connector
from eyespot.models.decoder import Decoder, DecoderConfig
from eyespot.models.encoders.grid_vit import GridVit, GridVitConfig
from eyespot.models.encoders.vit import VisionEncoder, VitConfig
from eyespot.models.initialize import initialize
from eyespot.models.tiles import join_tiles
from eyespot.nn.cache import KVCache

VISION: dict[type, type[nn.Module]] = {VitConfig: VisionEncoder, GridVitConfig: GridVit}


@dataclass(frozen=True)
class VlmConfig(Config):
    """What is joined, and where the encoder is tapped.

    Attributes:
        select_layers: hidden states of the encoder that the connector reads, concatenated (LLaVA: -2).
        keep_class: the class token goes along (Hugging Face's ``full``); False: patches only (``default``).
        newline: a learned embedding ends each row of a tiled picture, or a medium.
        deep_layers: hidden states of the encoder that are added behind the decoder's layers 0, 1, …, in this order.
        deep_connector: the form of their connectors, one for each.
    """

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    vision: VitConfig | GridVitConfig | None = None
    connector: ConnectorConfig | None = None
    select_layers: tuple[int, ...] = (-2,)
    keep_class: bool = False
    newline: bool = False
    deep_layers: tuple[int, ...] = ()
    deep_connector: ConnectorConfig | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Every hidden state of the encoder that is read."""
        return (*self.select_layers, *self.deep_layers)

    def __post_init__(self) -> None:
        """Refuse layers without a connector, and more of them than the decoder has."""
        if bool(self.deep_layers) != (self.deep_connector is not None):
            raise EyespotError("config-value", "expected deep_layers and deep_connector together", where="deep_layers")
        if len(self.deep_layers) > self.decoder.num_layers:
            message = f"{len(self.deep_layers)} layers of the encoder for {self.decoder.num_layers} of the decoder"
            raise EyespotError("config-value", message, where="deep_layers")


class VisionLanguageModel(nn.Module):
    """Parts: `vision_encoder`, `connector` and `deep_connectors`, `image_newline`, `decoder`; `lm_head` unless tied."""

    def __init__(self, config: VlmConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VISION[type(config.vision)](config.vision) if config.vision else None
        self.connector = build_connector(config.connector) if config.connector else None
        deep = config.deep_connector
        self.deep_connectors = nn.ModuleList(build_connector(deep) for _ in config.deep_layers if deep)
        self.decoder = Decoder(config.decoder)
        tied = config.decoder.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.decoder.hidden_size, config.decoder.vocab_size, bias=False)
        size = config.decoder.hidden_size
        self.image_newline = nn.Parameter(torch.randn(size) * size**-0.5) if config.newline else None
        initialize(self)

    def encode(self, media: Mapping[str, MediaBatch]) -> dict[str, MediaEmbeddings]:
        """Embeddings for the slots of each encoder's media, in order."""
        embeddings = {}
        for name, items in media.items():
            if self.vision_encoder is None or self.connector is None or name != "vision":
                raise EyespotError("not-supported", f"this model has no encoder for {items.kind} input")
            features = self.vision_encoder.features(items, self.config.layers, self.config.keep_class)
            width = features.shape[-1] // len(self.config.layers)
            main, *tapped = features.split(
                [width * len(self.config.select_layers), *[width] * len(self.deep_connectors)], dim=-1
            )
            deep = [join_tiles(c(x, items.grids), items) for c, x in zip(self.deep_connectors, tapped, strict=True)]
            rows = join_tiles(self.connector(main, items.grids), items, self.image_newline)
            embeddings[name] = MediaEmbeddings(rows, dict(enumerate(deep)))
        return embeddings

    def forward(
        self,
        batch: Batch,
        cache: KVCache | None = None,
        embeddings: Mapping[str, MediaEmbeddings] | None = None,
    ) -> Hidden:
        """Hidden states (T, D) of a packed step; `logits` turns wanted rows into scores.

        Args:
            batch: one packed step.
            cache: of one request, for decoding.
            embeddings: the result of `encode`, where the caller already has it.
        """
        embeddings = self.encode(batch.media) if embeddings is None else embeddings
        hidden = self.decoder.embed_tokens(batch.input_ids)
        adds = {}
        for name, items in batch.media.items():
            found = embeddings[name]
            hidden = self._merge(hidden, items, found.main)
            adds.update({layer: (items.slots, rows) for layer, rows in found.deep.items()})
        return self.decoder(hidden, batch.position_ids, batch.segments, cache, adds)

    def logits(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Scores over the vocabulary for some rows of hidden states."""
        if self.lm_head is not None:
            return self.lm_head(hidden)
        return F.linear(hidden, self.decoder.embed_tokens.weight)

    def unused(self) -> list[str]:
        """Parameters behind the tap: never read, kept for export, listed by the gradient audit."""
        if self.vision_encoder is None:
            return []
        return [f"vision_encoder.{name}" for name in self.vision_encoder.unused(self.config.layers)]

    @staticmethod
    def _merge(hidden: Float[Tensor, "T D"], items: MediaBatch, rows: Float[Tensor, "N D"]) -> Float[Tensor, "T D"]:
        if len(rows) != len(items.slots):
            raise EyespotError(
                "media-count",
                f"{len(items.slots)} places in the text for {len(items.counts)} {items.kind} item(s), "
                f"but the encoder gives {len(rows)} embeddings",
                where=f"places for each item {list(items.counts)}, grids {[list(g) for g in items.grids]}",
                remedy="The processor and the encoder disagree on tokens per picture; check the contract's image rule.",
            )
        return hidden.index_copy(0, items.slots, rows.to(hidden.dtype))
