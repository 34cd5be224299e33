"""Towers as open_clip (Ilharco et al. 2021) names and configures them: its own, `timm`'s, and Hugging Face's BERT.

What a config only names (a `timm` model, a BERT) is completed from the shapes of the tensors; head counts, which no
tensor tells, are those of the published widths. Numerics: open_clip transformer.py, hf_model.py; timm
vision_transformer.py.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.families import bert
from eyespot.families.family import Json, check_sizes, differences, section, unsupported
from eyespot.families.towers import CLIP_VISION, SIGLIP_VISION, depth, mlp_ratio
from eyespot.models.encoders.post_norm_text import PostNormTextConfig
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import Rearrange, Reshape, Rule, Split, within

_QKV = ("q_proj", "k_proj", "v_proj")
_BLOCK = [
    Rule("resblocks.{}.ln_1.{}", "blocks.{}.norm1.{}"),
    Rule("resblocks.{}.ln_2.{}", "blocks.{}.norm2.{}"),
    Split("resblocks.{}.attn.in_proj_weight", "blocks.{}.attn.[].weight", _QKV),
    Split("resblocks.{}.attn.in_proj_bias", "blocks.{}.attn.[].bias", _QKV),
    Rule("resblocks.{}.attn.out_proj.{}", "blocks.{}.attn.o_proj.{}"),
    Rule("resblocks.{}.mlp.c_fc.{}", "blocks.{}.mlp.fc1.{}"),
    Rule("resblocks.{}.mlp.c_proj.{}", "blocks.{}.mlp.fc2.{}"),
]
_TEXT = [
    *within(_BLOCK, "transformer."),
    Rule("token_embedding.weight", "token_embedding.weight"),
    Rule("positional_embedding", "position_embedding"),
    Rule("ln_final.{}", "final_norm.{}"),
]
_BERT = [
    *within(bert.RULES, "transformer."),
    Rule("proj.0.weight", "projection.fc1.weight"),
    Rule("proj.2.weight", "projection.fc2.weight"),
    Rule("proj.weight", "projection.weight"),
]


def vision_rules(config: VitConfig) -> list[Rule]:
    """Names below ``visual.``: of open_clip's own tower, or of timm's."""
    p, c, e = config.patch_size, config.channels, config.hidden_size
    if config.post_norm == "pooled":
        return [
            *within(_BLOCK, "transformer."),
            Reshape("conv1.weight", "stem.proj.weight", (-1, c, p, p), (-1, c * p * p)),
            Rule("class_embedding", "class_embedding"),
            Rule("positional_embedding", "position_embedding"),
            Rule("ln_pre.{}", "pre_norm.{}"),
            Rule("ln_post.{}", "post_norm.{}"),
            Rearrange("proj", "projection.weight", "e o -> o e"),
        ]
    trunk = [
        Reshape("patch_embed.proj.weight", "stem.proj.weight", (-1, c, p, p), (-1, c * p * p)),
        Rule("patch_embed.proj.bias", "stem.proj.bias"),
        Reshape("cls_token", "class_embedding", (1, 1, e), (e,)),
        Reshape("pos_embed", "position_embedding", (1, -1, e), (-1, e)),
        Split("blocks.{}.attn.qkv.{}", "blocks.{}.attn.[].{}", _QKV),
        Rule("blocks.{}.attn.proj.{}", "blocks.{}.attn.o_proj.{}"),
        Rule("blocks.{}.mlp.{}.{}", "blocks.{}.mlp.{}.{}"),
        *(Rule(f"blocks.{{}}.norm{i}.{{}}", f"blocks.{{}}.norm{i}.{{}}") for i in (1, 2)),
        Rule("norm.{}", "post_norm.{}"),
        Reshape("attn_pool.latent", "pool.probe", (1, 1, e), (e,)),
        Rule("attn_pool.q.{}", "pool.attn.q_proj.{}"),
        Split("attn_pool.kv.{}", "pool.attn.[].{}", ("k_proj", "v_proj")),
        Rule("attn_pool.proj.{}", "pool.attn.o_proj.{}"),
        Rule("attn_pool.norm.{}", "pool.norm.{}"),
        Rule("attn_pool.mlp.{}.{}", "pool.mlp.{}.{}"),
    ]
    return [*within(trunk, "trunk."), Rule("head.proj.{}", "projection.{}")]


def text_rules(config: TextEncoderConfig | PostNormTextConfig) -> list[Rule]:
    """Names of a text tower, below ``text.`` where it is a module of its own."""
    if isinstance(config, PostNormTextConfig):
        return _BERT
    if config.projection_bias:
        return [*_TEXT, Rule("text_projection.{}", "projection.{}")]
    return [*_TEXT, Rearrange("text_projection", "projection.weight", "e o -> o e")]


# open_clip's own towers.

_MAX_RATIO = 64
# Keys that change the numbers, with the only value that is supported.
_PLAIN = {
    "ls_init_value": None, "attentional_pool": False, "no_ln_pre": False, "pos_embed_type": "learnable",
    "qk_norm": False, "scaled_cosine_attn": False, "scale_heads": False, "scale_attn_inner": False,
    "scale_attn": False, "scale_fc": False, "embed_cls": False, "proj_type": "linear", "text_arch": "clip",
    "variable_text": False, "norm_type": None,
}  # fmt: skip


def read_vision(model: Json) -> VitConfig:
    """The image tower of a ``model_cfg``."""
    raw = section(model, "vision_cfg")
    if raw.get("timm_model_name"):
        return _read_timm(raw, model["embed_dim"])
    if isinstance(raw.get("layers"), (list, tuple)):
        raise unsupported("vision_cfg.layers", raw["layers"], "a vision transformer; this is a ResNet")
    raw = {"layers": 12, "width": 768, "head_width": 64, "patch_size": 16, "image_size": 224, "pool_type": "tok", **raw}
    shared = _read_blocks(raw, model, "vision_cfg")
    if raw["pool_type"] != "tok":
        raise unsupported("vision_cfg.pool_type", raw["pool_type"], "tok")
    size = _pair(raw["image_size"])
    own = {**CLIP_VISION.fixed, "image_size": size, "patch_size": _whole(raw, "patch_size")}
    return VitConfig.from_dict(shared | own | {"projection_size": model["embed_dim"]}, "vision_cfg")


def read_text(model: Json, names: Any) -> TextEncoderConfig | PostNormTextConfig:
    """The text tower of a ``model_cfg``."""
    raw = section(model, "text_cfg")
    if raw.get("hf_model_name"):
        return _read_bert(raw, model["embed_dim"], names)
    raw = {"layers": 12, "width": 512, "heads": 8, "context_length": 77, "vocab_size": 49408, **raw}
    own = _read_blocks(raw, model, "text_cfg")
    pool = {"argmax": "argmax", "last": "last", "eos": "eos"}.get(raw.get("pool_type", "argmax"))
    if pool is None:
        raise unsupported("text_cfg.pool_type", raw["pool_type"], "argmax, last or eos")
    own |= {"vocab_size": _whole(raw, "vocab_size"), "max_length": _whole(raw, "context_length"), "pool": pool}
    own |= {"causal": not raw.get("no_causal_mask", False), "projection_bias": bool(raw.get("proj_bias", False))}
    if pool != "last":  # 2 stands for "the largest id", as in Hugging Face's configs
        own["eos_token_id"] = 2 if pool == "argmax" else _whole(raw, "eos_id")
    return TextEncoderConfig.from_dict(own | {"projection_size": model["embed_dim"]}, "text_cfg")


def write_vision(config: VitConfig, quick: bool) -> dict[str, Any]:
    """The inverse of `read_vision`."""
    width, size = config.hidden_size, config.image_size
    raw: dict[str, Any] = {"image_size": size[0] if size[0] == size[1] else list(size)}
    if config.post_norm == "pooled":
        raw |= {"layers": config.num_layers, "width": width, "patch_size": config.patch_size}
        raw |= {"head_width": width // config.num_heads, **_write_blocks(config)}
    else:
        raw |= _write_timm(config)
    model = {"embed_dim": config.output_size, "quick_gelu": quick, "vision_cfg": raw}
    return _checked(config, read_vision(model), raw, "vision")


def write_text(config: TextEncoderConfig | PostNormTextConfig, quick: bool, max_length: int | None) -> dict[str, Any]:
    """The inverse of `read_text`; a BERT may take fewer tokens than it has places."""
    if isinstance(config, PostNormTextConfig):
        return _write_bert(config, max_length)
    raw: dict[str, Any] = {
        "context_length": config.max_length, "vocab_size": config.vocab_size, "width": config.hidden_size,
        "heads": config.num_heads, "layers": config.num_layers, "pool_type": config.pool, **_write_blocks(config),
    }  # fmt: skip
    raw |= {"no_causal_mask": True} if not config.causal else {}
    raw |= {"proj_bias": True} if config.projection_bias else {}
    raw |= {"eos_id": config.eos_token_id} if config.pool == "eos" else {}
    model = {"embed_dim": config.projection_size, "quick_gelu": quick, "text_cfg": raw}
    return _checked(config, read_text(model, ()), raw, "text")


def _read_blocks(raw: Json, model: Json, where: str) -> dict[str, Any]:
    for key, plain in _PLAIN.items():
        if raw.get(key, plain) != plain:
            raise unsupported(f"{where}.{key}", raw[key], repr(plain))
    check_sizes({"num_hidden_layers": raw["layers"]}, ("num_hidden_layers",), f"{where}.")
    width, ratio = _whole(raw, "width"), raw.get("mlp_ratio", 4.0)
    heads = _whole(raw, "heads") if "heads" in raw else width // _whole(raw, "head_width")
    if not heads or width % heads:
        raise unsupported(f"{where}.width", width, f"a multiple of its {heads} heads")
    if not isinstance(ratio, (int, float)) or not 0 < ratio <= _MAX_RATIO:
        raise unsupported(f"{where}.mlp_ratio", ratio, f"a number up to {_MAX_RATIO}")
    tanh = section(raw, "act_kwargs").get("approximate") == "tanh"
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu_tanh" if tanh else "gelu"
    return {
        "hidden_size": width, "num_layers": raw["layers"], "num_heads": heads, "activation": activation,
        "intermediate_size": int(width * ratio), "norm_eps": section(raw, "norm_kwargs").get("eps", 1e-5),
    }  # fmt: skip


def _write_blocks(config: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {"mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size)}
    raw |= {"norm_kwargs": {"eps": config.norm_eps}} if config.norm_eps != 1e-5 else {}
    return raw | ({"act_kwargs": {"approximate": "tanh"}} if config.activation == "gelu_tanh" else {})


# Towers of timm and of Hugging Face.

_TIMM = re.compile(r"vit_\w+_patch\d+_(siglip_)?\d+(\.\w+)?")
# Those of timm's models that have the tanh form of GELU.
_TANH = re.compile(r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_\d+|vit_large_patch16_siglip_512")
_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1536: 16}
_POOLERS = {"cls_last_hidden_state_pooler": "class", "cls_pooler": "class", "mean_pooler": "mean", None: "class"}
_PROJECTIONS = {"mlp": "mlp", "linear": "linear", None: "none", "": "none"}
_BERT_KEYS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip


def completed(model: Json, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A ``model_cfg`` with what the tensors say of towers that it only names; what it says itself stays.

    Raises:
        EyespotError: ``checkpoint-keys`` where a tensor that should show a size is absent or of another shape.
    """
    model = dict(model)
    vision, text = section(model, "vision_cfg"), section(model, "text_cfg")
    try:
        if vision.get("timm_model_name"):
            sizes = _filled(section(vision, "timm_model_kwargs"), _timm_sizes(tensors, vision))
            model["vision_cfg"] = {**vision, "timm_model_kwargs": sizes}
        if text.get("hf_model_name"):
            sizes = _filled(section(text, "hf_model_config"), _bert_sizes(tensors))
            model["text_cfg"] = {**text, "hf_model_config": sizes}
    except (KeyError, IndexError, ValueError) as error:
        message = f"the tensors do not show the sizes of the towers: {error}"
        raise EyespotError("checkpoint-keys", message) from error
    return model


def _filled(own: Json, found: Json) -> dict[str, Any]:
    return {**own, **{key: value for key, value in found.items() if key not in own}}


def _timm_sizes(tensors: Mapping[str, Tensor], vision: Json) -> dict[str, Any]:
    trunk = "visual.trunk."
    if f"{trunk}pos_embed" not in tensors:  # not a plain vision transformer; its name is refused later
        return {}
    _, rows, width = tensors[f"{trunk}pos_embed"].shape
    patch, first = tensors[f"{trunk}patch_embed.proj.weight"].shape[-1], int(f"{trunk}cls_token" in tensors)
    return {
        "img_size": vision.get("image_size", patch * math.isqrt(rows - first)), "patch_size": patch,
        "embed_dim": width, "depth": depth(tensors, f"{trunk}blocks."), "num_heads": _HEADS.get(width, width // 64),
        "mlp_ratio": mlp_ratio(len(tensors[f"{trunk}blocks.0.mlp.fc1.weight"]), width),
    }  # fmt: skip


def _bert_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    inner = "text.transformer."
    if f"{inner}embeddings.word_embeddings.weight" not in tensors:
        return {}
    vocab_size, size = tensors[f"{inner}embeddings.word_embeddings.weight"].shape
    return {
        "vocab_size": vocab_size, "hidden_size": size, "num_hidden_layers": depth(tensors, f"{inner}encoder.layer."),
        "num_attention_heads": max(size // 64, 1),
        "intermediate_size": len(tensors[f"{inner}encoder.layer.0.intermediate.dense.weight"]),
        "max_position_embeddings": len(tensors[f"{inner}embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(tensors[f"{inner}embeddings.token_type_embeddings.weight"]),
    }  # fmt: skip


def _read_timm(raw: Json, embed_dim: int) -> VitConfig:
    name, sizes = raw["timm_model_name"], section(raw, "timm_model_kwargs")
    if not isinstance(name, str) or not _TIMM.fullmatch(name):
        raise unsupported("vision_cfg.timm_model_name", name, "vit_…_patchN_SIZE and vit_…_patchN_siglip_SIZE")
    siglip, pool, projection = "_siglip_" in name, raw.get("timm_pool", "avg"), raw.get("timm_proj", "linear")
    if pool not in (("map", "") if siglip else ("token", "tok", "")):
        raise unsupported("vision_cfg.timm_pool", pool, "map" if siglip else "token")
    if projection not in ("linear", "none"):
        raise unsupported("vision_cfg.timm_proj", projection, "linear or none")
    keys = ("embed_dim", "depth", "num_heads", "patch_size")
    if any(key not in sizes for key in keys):
        raise unsupported("vision_cfg.timm_model_kwargs", dict(sizes), f"{', '.join(keys)}, or tensors that show them")
    check_sizes(sizes, keys, "vision_cfg.timm_model_kwargs.")
    ratio = sizes.get("mlp_ratio", 4.0)
    if not isinstance(ratio, (int, float)) or not 0 < ratio <= _MAX_RATIO:
        raise unsupported("vision_cfg.timm_model_kwargs.mlp_ratio", ratio, f"a number up to {_MAX_RATIO}")
    own = dict(SIGLIP_VISION.fixed if siglip else {"class_token": True, "post_norm": "sequence", "pool": "class"})
    own |= {
        "hidden_size": sizes["embed_dim"], "num_layers": sizes["depth"], "num_heads": sizes["num_heads"],
        "intermediate_size": int(sizes["embed_dim"] * ratio), "norm_eps": 1e-6,
        "patch_size": sizes["patch_size"], "image_size": _pair(sizes.get("img_size", raw.get("image_size", 224))),
        "activation": sizes.get("act_layer", "gelu_tanh" if _TANH.fullmatch(name.partition(".")[0]) else "gelu"),
        "projection_size": embed_dim if projection == "linear" else None,
        "projection_bias": bool(raw.get("timm_proj_bias", False)),
    }  # fmt: skip
    return VitConfig.from_dict(own, "vision_cfg")


def _write_timm(config: VitConfig) -> dict[str, Any]:
    siglip = config.pool == "map"
    kwargs = {
        "img_size": config.image_size[0], "patch_size": config.patch_size, "embed_dim": config.hidden_size,
        "depth": config.num_layers, "num_heads": config.num_heads, "act_layer": config.activation,
        "mlp_ratio": mlp_ratio(config.intermediate_size, config.hidden_size),
    }  # fmt: skip
    return {
        "timm_model_name": "vit_base_patch16_siglip_224" if siglip else "vit_base_patch16_224",
        "timm_model_pretrained": False, "timm_pool": "map" if siglip else "token",
        "timm_proj": "linear" if config.projection_size else "none", "timm_proj_bias": config.projection_bias,
        "timm_model_kwargs": kwargs,
    }  # fmt: skip


def _read_bert(raw: Json, embed_dim: int, names: Any) -> PostNormTextConfig:
    own = section(raw, "hf_model_config")
    if any(key not in own for key in _BERT_KEYS) or own["type_vocab_size"] != 2:
        raise unsupported("text_cfg.hf_model_name", raw["hf_model_name"], "a BERT with two types of tokens")
    pooler = raw.get("hf_pooler_type", raw.get("pooler_type", "mean_pooler"))
    projection = raw.get("hf_proj_type", raw.get("proj", "mlp"))
    if pooler not in _POOLERS:
        raise unsupported("text_cfg.hf_pooler_type", pooler, ", ".join(filter(None, _POOLERS)))
    if projection not in _PROJECTIONS:
        raise unsupported("text_cfg.hf_proj_type", projection, "mlp or linear")
    if _PROJECTIONS[projection] == "none" and own["hidden_size"] != embed_dim:
        raise unsupported(
            "text_cfg.hf_proj_type", projection, f"mlp or linear, from {own['hidden_size']} to {embed_dim}"
        )
    dense = "tanh" if pooler == "cls_pooler" and "text.transformer.pooler.dense.weight" in names else "none"
    return bert.read_bert(
        own, pool=_POOLERS[pooler], pooled_dense=dense, projection=_PROJECTIONS[projection], projection_size=embed_dim
    )


def _write_bert(config: PostNormTextConfig, max_length: int | None) -> dict[str, Any]:
    own = {key: getattr(config, key) for key in ("pool", "pooled_dense", "projection", "projection_size")}
    dense = config.pooled_dense == "tanh"
    return {
        "hf_model_name": "bert", "hf_model_pretrained": False, "context_length": max_length or config.max_length,
        "hf_pooler_type": "mean_pooler" if config.pool == "mean" else "cls_pooler" if dense else
        "cls_last_hidden_state_pooler",
        "hf_proj_type": None if config.projection == "none" else config.projection,
        "hf_model_config": bert.write_bert(config, **own),
    }  # fmt: skip


def _checked(config: Any, again: Any, raw: dict[str, Any], part: str) -> dict[str, Any]:
    lost = differences(config, again)
    if lost:
        raise EyespotError("layout-unsupported", f"open_clip cannot express {part}.{f'; {part}.'.join(lost)}")
    return raw


def _whole(raw: Json, key: str) -> int:
    check_sizes({key: raw.get(key)}, (key,))
    return raw[key]


def _pair(size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise unsupported("image_size", size, "one number, or height and width")
    return pair
