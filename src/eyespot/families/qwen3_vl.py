"""Qwen3-VL, dense (Bai et al. 2025): Qwen3 behind a tower whose middle features the decoder's first layers get too.

Unusual: a learned table of positions is stretched over each picture, beside rotary ones; blocks that the config names
are tapped, each with a merger of its own that norms the joined block (DeepStack); the three position axes take turns
among the rotary frequencies; heads are wider than hidden_size / num_attention_heads; the times of a video stand behind
their seconds, written out. Numerics: `transformers` modeling_qwen3_vl.py.
"""

import math
from typing import Any

from eyespot.contracts.contract import ImageRule
from eyespot.families.decoders import DecoderForm
from eyespot.families.family import Json, check_sizes, unsupported
from eyespot.families.grids import GridForm, grid_family, tiny_grid
from eyespot.families.towers import activation, written_activation
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.nn.rope import RopeConfig
from eyespot.weights.keymap import Rule, within

_ARCHITECTURE = "Qwen3VLForConditionalGeneration"
_MAX_TABLE = 1 << 10  # several times the published side

TEXT = DecoderForm(
    "qwen3_vl_text",
    _ARCHITECTURE,
    {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5e5,
        "tie_word_embeddings": False,
    },
    qkv_bias="key",
    qk_norm=True,
    sections=(24, 20, 20),
    interleaved=True,
)

_TOWER = {
    "depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh", "intermediate_size": 4304, "num_heads": 16,
    "in_channels": 3, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
    "num_position_embeddings": 2304, "deepstack_visual_indexes": (8, 16, 24),
}  # fmt: skip
_IMAGE = {
    "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5),
    "size": {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096},
}  # fmt: skip
_VIDEO = {"size": {"shortest_edge": 4096, "longest_edge": 24576 * 32 * 32}}  # of all frames

_MERGER = (
    Rule("norm.{}", "norm.{}"),
    Rule("linear_fc1.{}", "layers.0.{}"),
    Rule("linear_fc2.{}", "layers.1.{}"),
)
RULES = (
    Rule("patch_embed.proj.bias", "vision_encoder.stem.proj.bias"),
    Rule("pos_embed.weight", "vision_encoder.position_embedding"),
    Rule("blocks.{}.mlp.linear_{}.{}", "vision_encoder.blocks.{}.mlp.{}.{}"),
    *within(_MERGER, "merger.", "connector."),
    *within(_MERGER, "deepstack_merger_list.{}.", "deep_connectors.{}."),
)


def read_vision(raw: Json) -> dict[str, Any]:
    """Keys of their tower beside the shared ones."""
    check_sizes(raw, ("intermediate_size", "num_position_embeddings"), "vision_config.")
    rows = raw["num_position_embeddings"]
    side = math.isqrt(rows)
    if side**2 != rows or side > _MAX_TABLE:
        raise unsupported("vision_config.num_position_embeddings", rows, f"a square, up to {_MAX_TABLE:,}²")
    return {
        "intermediate_size": raw["intermediate_size"], "activation": activation(raw), "patch_bias": True,
        "table_size": side,
    }  # fmt: skip


def write_vision(tower: GridVitConfig, rule: ImageRule | None) -> dict[str, Any]:
    """The inverse of `read_vision`."""
    return {
        "intermediate_size": tower.intermediate_size, "hidden_act": written_activation(tower.activation),
        "num_position_embeddings": max(tower.table_size or 1, 1) ** 2,
    }  # fmt: skip


FORM = GridForm(
    model_type="qwen3_vl",
    architecture=_ARCHITECTURE,
    processor="Qwen3VLProcessor",
    text=TEXT,
    defaults=_TOWER,
    widths=("hidden_size", "out_hidden_size"),
    read_vision=read_vision,
    write_vision=write_vision,
    coordinates="thousand",
    nested=True,
    taps="deepstack_visual_indexes",
    rules=RULES,
    layouts={"hf": ("model.visual.", "model.language_model.")},
    image=_IMAGE,
    video=_VIDEO,
    timed=True,
)


def tiny() -> dict[str, Any]:
    """Two taps; and none, with biases and a tied head."""
    tower = GridVitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=24, patch_size=4, activation="gelu_tanh",
        patch_bias=True, table_size=3,
    )  # fmt: skip
    own = {"qkv_bias": False, "qk_norm": True, "head_dim": 12}
    rope = RopeConfig(5e6, sections=(2, 2, 2), interleaved=True)
    plain = tiny_grid(tower, rope=rope, **own)
    assert plain.connector is not None
    deep = {"deep_layers": (1, 3), "deep_connector": plain.connector.replace(norm_joined=True)}
    biased = {"tie_word_embeddings": True, "qkv_bias": True, "o_bias": True}
    return {"plain": plain.replace(**deep), "shallow-tied": tiny_grid(tower, rope=rope, **own | biased)}


FAMILY = grid_family(FORM, tiny)
