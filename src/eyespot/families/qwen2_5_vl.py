"""Qwen2.5-VL (Bai et al. 2025): Qwen2-VL with windows, RMSNorm and SwiGLU in the tower, and places in seconds of video.

Unusual: the tower's width is ``hidden_size`` here and the decoder's is ``out_hidden_size``; answers write places in
pixels of the resized picture. Numerics: `transformers` modeling_qwen2_5_vl.py.
"""

from dataclasses import replace
from typing import Any

from eyespot.contracts.contract import ImageRule
from eyespot.families import qwen2_vl
from eyespot.families.family import Json, check_sizes, unsupported
from eyespot.families.grids import GridForm, grid_family, tiny_grid
from eyespot.models.encoders.grid_vit import GridVitConfig

_ARCHITECTURE = "Qwen2_5_VLForConditionalGeneration"
_VISION = {
    "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420, "num_heads": 16,
    "in_channels": 3, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "tokens_per_second": 4,
    "window_size": 112, "out_hidden_size": 3584, "fullatt_block_indexes": (7, 15, 23, 31),
}  # fmt: skip
PUBLISHED_TOKENS_PER_SECOND = 2.0


def read_vision(raw: Json) -> dict[str, Any]:
    """Keys of their tower beside the shared ones."""
    check_sizes(raw, ("intermediate_size", "window_size"), "vision_config.")
    if raw["hidden_act"] not in ("silu", "swish"):
        raise unsupported("vision_config.hidden_act", raw["hidden_act"], "silu")
    # A size once for each axis is one number by now.
    if raw["window_size"] < raw["patch_size"] * raw["spatial_merge_size"]:
        raise unsupported("vision_config.window_size", raw["window_size"], "at least one block of patches")
    full = raw["fullatt_block_indexes"]
    if not isinstance(full, (list, tuple)) or not all(isinstance(i, int) and i >= 0 for i in full):
        raise unsupported("vision_config.fullatt_block_indexes", full, "a list of blocks")
    return {
        "intermediate_size": raw["intermediate_size"], "norm": "rms", "gated": True, "activation": "silu",
        "window_size": raw["window_size"], "full_layers": tuple(full),
    }  # fmt: skip


def write_vision(tower: GridVitConfig, rule: ImageRule | None) -> dict[str, Any]:
    """The inverse of `read_vision` and `read_rule`."""
    rate = rule.tokens_per_second if rule is not None else None
    rate = PUBLISHED_TOKENS_PER_SECOND if rate is None else rate
    return {
        "intermediate_size": tower.intermediate_size, "hidden_act": "silu", "window_size": tower.window_size or 112,
        "fullatt_block_indexes": list(tower.full_layers),
        "tokens_per_second": int(rate) if rate == int(rate) else rate,
    }  # fmt: skip


def read_rule(raw: Json) -> dict[str, Any]:
    """What ``vision_config`` says of time."""
    rate = raw["tokens_per_second"]
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < 10**6:
        raise unsupported("vision_config.tokens_per_second", rate, "a positive number")
    return {"tokens_per_second": float(rate)}


FORM = GridForm(
    model_type="qwen2_5_vl",
    architecture=_ARCHITECTURE,
    processor="Qwen2_5_VLProcessor",
    text=replace(qwen2_vl.TEXT, model_type="qwen2_5_vl_text", architecture=_ARCHITECTURE),
    defaults=_VISION,
    widths=("hidden_size", "out_hidden_size"),
    read_vision=read_vision,
    write_vision=write_vision,
    coordinates="abs",
    read_rule=read_rule,
)


def tiny() -> dict[str, Any]:
    """Windows of two by two blocks, and one block of the tower that sees whole frames."""
    tower = GridVitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=24, patch_size=4, norm="rms", gated=True,
        activation="silu", window_size=16, full_layers=(1,),
    )  # fmt: skip
    return {"plain": tiny_grid(tower), "tied": tiny_grid(tower, tie_word_embeddings=True)}


FAMILY = grid_family(FORM, tiny)
