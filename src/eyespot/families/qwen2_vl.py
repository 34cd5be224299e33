"""Qwen2-VL (Wang et al. 2024): pictures of any size, a rotary tower, a merger of 2 × 2 patches, a decoder with M-RoPE.

Unusual: the tower's width is called ``embed_dim`` and its ``hidden_size`` is the decoder's; QuickGELU in the tower,
exact GELU in the merger. Numerics: `transformers` modeling_qwen2_vl.py.
"""

from typing import Any

from eyespot.contracts.contract import ImageRule
from eyespot.families.decoders import DecoderForm
from eyespot.families.family import Json, check_sizes
from eyespot.families.grids import GridForm, grid_family, tiny_grid
from eyespot.families.towers import activation, written_activation
from eyespot.models.encoders.grid_vit import GridVitConfig

TEXT = DecoderForm(
    "qwen2_vl_text",
    "Qwen2VLForConditionalGeneration",
    {
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "max_window_layers": 80,
    },
    qkv_bias="always",
    window="layers",
    sections=(16, 24, 24),
)

_VISION = {
    "depth": 32, "embed_dim": 1280, "hidden_size": 3584, "hidden_act": "quick_gelu", "mlp_ratio": 4, "num_heads": 16,
    "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip


def read_vision(raw: Json) -> dict[str, Any]:
    """Keys of their tower that its successors do not have."""
    check_sizes(raw, ("mlp_ratio",), "vision_config.")
    return {"intermediate_size": raw["embed_dim"] * raw["mlp_ratio"], "activation": activation(raw)}


def write_vision(tower: GridVitConfig, rule: ImageRule | None) -> dict[str, Any]:
    """The inverse of `read_vision`."""
    ratio = tower.intermediate_size // tower.hidden_size
    return {"mlp_ratio": max(ratio, 1), "hidden_act": written_activation(tower.activation)}


FORM = GridForm(
    model_type="qwen2_vl",
    architecture="Qwen2VLForConditionalGeneration",
    processor="Qwen2VLProcessor",
    text=TEXT,
    defaults=_VISION,
    widths=("embed_dim", "hidden_size"),
    read_vision=read_vision,
    write_vision=write_vision,
    coordinates="thousand",
)


def tiny() -> dict[str, Any]:
    """As published; and a tied decoder with a window behind blocks of three patches."""
    tower = GridVitConfig(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, patch_size=4)
    other = tower.replace(patch_size=2, merge_size=3, temporal_patch_size=1, activation="gelu", rope_theta=500.0)
    windowed = {"tie_word_embeddings": True, "sliding_window": 5, "window_layers": (1,)}
    return {"plain": tiny_grid(tower), "tied-window": tiny_grid(other, **windowed)}


FAMILY = grid_family(FORM, tiny)
