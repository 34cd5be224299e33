"""InternViT's two published forms: Hugging Face's, inside InternVL, and the authors' own (``intern_vit_6b``).

Learned scales on both branches of a block, and no norm behind the last. The tower of 6 billion parameters has RMSNorm,
no bias on q, k and v, and norms q and k over all heads together; that of 300 million has LayerNorm and those biases.
"""

from dataclasses import replace
from typing import Any

from eyespot.families.family import Json, unsupported
from eyespot.families.towers import TowerForm
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import Reshape, Rule, Split, within

_NORMS = {"layer_norm": "layer", "rms_norm": "rms"}  # theirs: ours
_FIXED = {"patch_bias": True, "class_token": True, "interpolate_positions": True, "layer_scale": True}
# Hugging Face's norms of q and k have an eps of their own, and no key for it.
_QK_EPS = 1e-6


def _norm(raw: Json) -> str:
    if raw["norm_type"] not in _NORMS:
        raise unsupported("vision_config.norm_type", raw["norm_type"], ", ".join(_NORMS))
    return _NORMS[raw["norm_type"]]


def _read_hf(raw: Json) -> dict[str, Any]:
    for key, known in (
        ("use_mask_token", False), ("use_absolute_position_embeddings", True), ("use_mean_pooling", True),
    ):  # fmt: skip
        if bool(raw[key]) is not known:
            raise unsupported(f"vision_config.{key}", raw[key], str(known).lower())
    return {
        "qkv_bias": bool(raw["attention_bias"]), "norm": _norm(raw),
        "qk_norm_eps": _QK_EPS if raw["use_qk_norm"] else None,
    }  # fmt: skip


def _write_hf(config: VitConfig) -> dict[str, Any]:
    return {
        "attention_bias": config.qkv_bias, "norm_type": _written_norm(config), "use_qk_norm": bool(config.qk_norm_eps),
        "layer_scale_init_value": 0.1, "use_mask_token": False,
        "use_absolute_position_embeddings": True, "use_mean_pooling": True,
    }  # fmt: skip


def _written_norm(config: VitConfig) -> str:
    return next(theirs for theirs, ours in _NORMS.items() if ours == config.norm)


HF_TOWER = TowerForm(
    "internvl_vision", "InternVLVisionModel", "GotOcr2ImageProcessor",
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
     "layer_norm_eps": 1e-6, "image_size": 448, "patch_size": 14, "hidden_act": "gelu", "attention_bias": False,
     "use_qk_norm": False, "norm_type": "layer_norm", "use_mask_token": False,
     "use_absolute_position_embeddings": True, "use_mean_pooling": True},
    _FIXED, read_own=_read_hf, write_own=_write_hf,
)  # fmt: skip


def _read_authors(raw: Json) -> dict[str, Any]:
    return {
        "qkv_bias": bool(raw["qkv_bias"]), "norm": _norm(raw),
        "qk_norm_eps": raw["layer_norm_eps"] if raw["qk_normalization"] else None,
    }  # fmt: skip


def _write_authors(config: VitConfig) -> dict[str, Any]:
    return {
        "architectures": ["InternVisionModel"], "qkv_bias": config.qkv_bias, "norm_type": _written_norm(config),
        "qk_normalization": config.qk_norm_eps is not None, "initializer_factor": 0.1, "use_flash_attn": False,
    }  # fmt: skip


AUTHORS_TOWER = TowerForm(
    "intern_vit_6b", "InternVisionModel", "CLIPImageProcessor",
    {"hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 48, "num_attention_heads": 25,
     "layer_norm_eps": 1e-6, "image_size": 224, "patch_size": 14, "hidden_act": "gelu", "qkv_bias": False,
     "qk_normalization": True, "norm_type": "rms_norm"},
    _FIXED, read_own=_read_authors, write_own=_write_authors,
)  # fmt: skip


def authors_rules(config: VitConfig, theirs: str = "", ours: str = "") -> list[Rule]:
    """The authors' names, below a prefix on each side; q, k and v are fused."""
    p, c, e = config.patch_size, config.channels, config.hidden_size
    block = "encoder.layers.{}."
    rules = [
        Reshape("embeddings.class_embedding", "class_embedding", (1, 1, e), (e,)),
        Reshape("embeddings.position_embedding", "position_embedding", (1, -1, e), (-1, e)),
        Reshape("embeddings.patch_embedding.weight", "stem.proj.weight", (-1, c, p, p), (-1, c * p * p)),
        Rule("embeddings.patch_embedding.bias", "stem.proj.bias"),
        Split(block + "attn.qkv.{}", "blocks.{}.attn.[].{}", ("q_proj", "k_proj", "v_proj")),
        Rule(block + "attn.proj.{}", "blocks.{}.attn.o_proj.{}"),
        Rule(block + "attn.{}.weight", "blocks.{}.attn.{}.weight"),
        Rule(block + "norm1.{}", "blocks.{}.norm1.{}"),
        Rule(block + "norm2.{}", "blocks.{}.norm2.{}"),
        Rule(block + "ls1", "blocks.{}.scale1"),
        Rule(block + "ls2", "blocks.{}.scale2"),
        Rule(block + "mlp.{}.{}", "blocks.{}.mlp.{}.{}"),
    ]
    return within(rules, theirs, ours)


_TIMM = {  # the authors' later names: those of their first file
    "embeddings.class_embedding": "cls_token", "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.", "encoder.layers.": "blocks.", ".ls1": ".ls1.gamma",
    ".ls2": ".ls2.gamma",
}  # fmt: skip


def timm_rules(config: VitConfig, theirs: str = "", ours: str = "") -> list[Rule]:
    """Names of the authors' first file, below a prefix on each side."""
    rules = []
    for rule in authors_rules(config, "", ours):
        name = rule.theirs
        for later, first in _TIMM.items():
            name = name.replace(later, first)
        rules.append(replace(rule, theirs=theirs + name))
    return rules


def hf_rules(config: VitConfig, theirs: str = "", ours: str = "") -> list[Rule]:
    """Hugging Face's names, below a prefix on each side."""
    p, c, e = config.patch_size, config.channels, config.hidden_size
    rules = [
        Reshape("embeddings.cls_token", "class_embedding", (1, 1, e), (e,)),
        Reshape("embeddings.position_embeddings", "position_embedding", (1, -1, e), (-1, e)),
        Reshape("embeddings.patch_embeddings.projection.weight", "stem.proj.weight", (-1, c, p, p), (-1, c * p * p)),
        Rule("embeddings.patch_embeddings.projection.bias", "stem.proj.bias"),
        Rule("encoder.layer.{}.layernorm_before.{}", "blocks.{}.norm1.{}"),
        Rule("encoder.layer.{}.layernorm_after.{}", "blocks.{}.norm2.{}"),
        Rule("encoder.layer.{}.attention.projection_layer.{}", "blocks.{}.attn.o_proj.{}"),
        Rule("encoder.layer.{}.attention.{}.{}", "blocks.{}.attn.{}.{}"),
        Rule("encoder.layer.{}.lambda_1", "blocks.{}.scale1"),
        Rule("encoder.layer.{}.lambda_2", "blocks.{}.scale2"),
        Rule("encoder.layer.{}.mlp.{}.{}", "blocks.{}.mlp.{}.{}"),
    ]
    return within(rules, theirs, ours)
