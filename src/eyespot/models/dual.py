"""`DualEncoder`: an image tower and a text tower that meet in one space (CLIP, SigLIP, any two)."""

from dataclasses import dataclass, field

import torch
from torch import nn

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.models.encoders.post_norm_text import PostNormText, PostNormTextConfig
from eyespot.models.encoders.text import TextEncoder, TextEncoderConfig
from eyespot.models.encoders.vit import VisionEncoder, VitConfig
from eyespot.models.initialize import initialize

TEXT: dict[type, type[nn.Module]] = {TextEncoderConfig: TextEncoder, PostNormTextConfig: PostNormText}


@dataclass(frozen=True)
class DualConfig(Config):
    """Two towers and the scale of their similarity.

    Attributes:
        logit_scale: starting value of the learned log-temperature.
        logit_bias: starting value of SigLIP's bias; None: CLIP, no bias.
    """

    vision: VitConfig = field(default_factory=VitConfig)
    text: TextEncoderConfig | PostNormTextConfig = field(default_factory=TextEncoderConfig)
    logit_scale: float = 2.6592
    logit_bias: float | None = None


class DualEncoder(nn.Module):
    """Both towers give unit vectors; `similarity` gives the published model's logits."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VisionEncoder(config.vision)
        self.text_encoder = TEXT[type(config.text)](config.text)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale))
        self.logit_bias = nn.Parameter(torch.tensor(config.logit_bias)) if config.logit_bias is not None else None
        initialize(self)

    def encode_images(self, media: MediaBatch) -> Float[Tensor, "B O"]:
        """Unit vectors of pictures."""
        x = self.vision_encoder.pooled(media)
        return x / x.norm(dim=-1, keepdim=True)

    def encode_texts(self, input_ids: Int[Tensor, "B l"]) -> Float[Tensor, "B O"]:
        """Unit vectors of equal-length texts."""
        x = self.text_encoder(input_ids)
        return x / x.norm(dim=-1, keepdim=True)

    def unused(self) -> list[str]:
        """Parameters that neither vector depends on; they are kept for export."""
        return [f"vision_encoder.{name}" for name in self.vision_encoder.unused()]

    def similarity(self, images: Float[Tensor, "I O"], texts: Float[Tensor, "J O"]) -> Float[Tensor, "I J"]:
        """Logits of every picture with every text: cosine × exp(scale) + bias."""
        logits = images @ texts.t() * self.logit_scale.exp()
        return logits + self.logit_bias if self.logit_bias is not None else logits
