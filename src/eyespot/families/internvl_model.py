"""What both layouts of InternVL share: the model of a tower and a decoder, and how media are written.

The connector norms a block of patches, joined into one vector, and maps it twice; the norm's eps is torch's own, and no
config has a key for it.
"""

from typing import Any

from eyespot.errors import EyespotError
from eyespot.families.family import Json, unsupported
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig

IMAGE_TOKEN, IMAGE_TOKEN_ID = "<IMG_CONTEXT>", 151667
START, END, VIDEO_TOKEN = "<img>", "</img>", "<video>"


def joined(decoder: Any, tower: VitConfig, merge: int, layer: int = -1) -> VlmConfig:
    """The model, `merge` patches on a side of a block, the tower tapped at a layer."""
    connector = ConnectorConfig(
        "mlp2x_gelu", tower.hidden_size, decoder.hidden_size, merge_size=merge, norm="layer", norm_eps=1e-5,
        norm_joined=True,
    )  # fmt: skip
    return VlmConfig(decoder, tower, connector, select_layers=(layer,))


def parts_of(config: VlmConfig) -> tuple[VitConfig, ConnectorConfig]:
    """Tower and connector.

    Raises:
        EyespotError: ``layout-unsupported`` for a model that lacks one.
    """
    if not isinstance(config.vision, VitConfig) or config.connector is None:
        message = "InternVL needs a vision encoder for tiles of one size, and a connector"
        raise EyespotError("layout-unsupported", message)
    return config.vision, config.connector


def block_side(raw: Json, tower: VitConfig) -> int:
    """Patches on a side of a block, of ``downsample_ratio``."""
    ratio, side = raw.get("downsample_ratio", 0.5), 0
    if isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and 1e-3 < ratio <= 1:
        side = round(1 / ratio)
    if not side or abs(side * ratio - 1) > 1e-6 or tower.grid[0] % side:
        raise unsupported("downsample_ratio", ratio, f"1 by a whole number that divides {tower.grid[0]} patches")
    return side


def written_media(token: str, start: str = START, end: str = END) -> dict[str, str]:
    """Fields of the text rule: what stands around a picture's tokens, and before each frame of a video."""
    return {"image_form": f"{start}{token}{end}", "frame_form": f"Frame{{number}}: {start}{token}{end}"}
