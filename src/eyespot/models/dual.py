"""`DualEncoder`: an image tower and a text tower that meet in one space (CLIP, SigLIP, any two)."""

from dataclasses import dataclass, field

import torch
from torch import nn

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.errors import EyespotError
from eyespot.models.encoders.decoder_text import DecoderText, DecoderTextConfig, PictureQueries, QueriesConfig
from eyespot.models.encoders.post_norm_text import PostNormText, PostNormTextConfig
from eyespot.models.encoders.text import TextEncoder, TextEncoderConfig
from eyespot.models.encoders.vit import VisionEncoder, VitConfig
from eyespot.models.initialize import initialize

TEXT: dict[type, type[nn.Module]] = {
    TextEncoderConfig: TextEncoder, PostNormTextConfig: PostNormText, DecoderTextConfig: DecoderText,
}  # fmt: skip


@dataclass(frozen=True)
class DualConfig(Config):
    """Two towers and the scale of their similarity.

    Attributes:
        logit_scale: starting value of the learned log-temperature.
        logit_bias: starting value of SigLIP's bias; None: CLIP, no bias.
        queries: learned tokens by which the text tower looks at pictures (InternVL-G); None: it never does.
    """

    vision: VitConfig = field(default_factory=VitConfig)
    text: TextEncoderConfig | PostNormTextConfig | DecoderTextConfig = field(default_factory=TextEncoderConfig)
    logit_scale: float = 2.6592
    logit_bias: float | None = None
    queries: QueriesConfig | None = None

    def __post_init__(self) -> None:
        """Queries run through a decoder."""
        if self.queries is not None and not isinstance(self.text, DecoderTextConfig):
            raise EyespotError("config-value", "queries need a text tower that is a decoder", where="queries")


class DualEncoder(nn.Module):
    """Both towers give unit vectors; `similarity` gives the published model's logits."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VisionEncoder(config.vision)
        self.text_encoder = TEXT[type(config.text)](config.text)
        self.queries = PictureQueries(config.queries, config.text.decoder) if config.queries is not None else None
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        self.logit_bias = nn.Parameter(torch.tensor(config.logit_bias)) if config.logit_bias is not None else None
        initialize(self)

    def encode_images(self, media: MediaBatch, queried: bool = False) -> Float[Tensor, "B O"]:
        """Unit vectors of pictures; `queried`: together with what the queries see (InternVL-G)."""
        if not queried:
            return _unit(self.vision_encoder.pooled(media))
        if self.queries is None:
            raise EyespotError("not-supported", "this model has no queries that look at pictures", where="queried")
        x, lengths = self.vision_encoder.features(media, keep_class=True), self.vision_encoder.lengths(media)
        seen = self.queries(self.text_encoder.decoder, x, lengths)
        return _unit(_unit(self.vision_encoder.pool_tokens(x, lengths)) + _unit(seen))

    def encode_texts(self, input_ids: Int[Tensor, "B l"]) -> Float[Tensor, "B O"]:
        """Unit vectors of equal-length texts."""
        return _unit(self.text_encoder(input_ids))

    def unused(self) -> list[str]:
        """Parameters that neither vector depends on, unless it is `queried`; they are kept for export."""
        own = [name for name, _ in self.named_parameters() if name.startswith("queries.")]
        return [f"vision_encoder.{name}" for name in self.vision_encoder.unused()] + own

    def similarity(self, images: Float[Tensor, "I O"], texts: Float[Tensor, "J O"]) -> Float[Tensor, "I J"]:
        """Logits of every picture with every text: cosine × exp(scale) + bias."""
        logits = images @ texts.t() * self.logit_scale.exp()
        return logits + self.logit_bias if self.logit_bias is not None else logits


def _unit(x: Float[Tensor, "B O"]) -> Float[Tensor, "B O"]:
    return x / x.norm(dim=-1, keepdim=True)
