"""`VisionLanguageModel`: encode media, put the embeddings into their slots, decode.

The processor has expanded every placeholder to its final count; here embeddings are scattered by index, and a count
that does not fit is an error, never a repair. A text-only model is the same class without a vision encoder.
LLaVA: Liu et al. 2023; `transformers` modeling_llava.py. Tiles: modeling_llava_next.py.
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
from eyespot.models.connectors import Connector, ConnectorConfig
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
        newline: a learned embedding ends each row of a tiled picture.
    """

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    vision: VitConfig | GridVitConfig | None = None
    connector: ConnectorConfig | None = None
    select_layers: tuple[int, ...] = (-2,)
    keep_class: bool = False
    newline: bool = False


class VisionLanguageModel(nn.Module):
    """Parts: `vision_encoder`, `connector`, `image_newline`, `decoder`; `lm_head` unless it is the embedding table."""

    def __init__(self, config: VlmConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VISION[type(config.vision)](config.vision) if config.vision else None
        self.connector = Connector(config.connector) if config.connector else None
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
            features = self.vision_encoder.features(items, self.config.select_layers, self.config.keep_class)
            embeddings[name] = MediaEmbeddings(join_tiles(self.connector(features), items, self.image_newline))
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
        return [f"vision_encoder.{name}" for name in self.vision_encoder.unused(self.config.select_layers)]

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
