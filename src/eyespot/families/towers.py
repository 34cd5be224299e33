"""Image and text towers in the two published forms, CLIP's and SigLIP's: config translation and key rules.

The forms share the names of their blocks. `transformers` wraps a tower in ``vision_model.`` or not, depending on its
version; that is a prefix, decided by the family's layouts.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from eyespot.errors import EyespotError
from eyespot.families.family import MAX_SIDE, Json, check_sizes, differences, unsupported
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import Rearrange, Reshape, Rule, Split, within

_ACTIVATIONS = {  # theirs: ours
    "quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu", "silu": "silu",
}  # fmt: skip

_BLOCK = [
    Rule("encoder.layers.{}.layer_norm1.{}", "blocks.{}.norm1.{}"),
    Rule("encoder.layers.{}.layer_norm2.{}", "blocks.{}.norm2.{}"),
    Rule("encoder.layers.{}.self_attn.q_proj.{}", "blocks.{}.attn.q_proj.{}"),
    Rule("encoder.layers.{}.self_attn.k_proj.{}", "blocks.{}.attn.k_proj.{}"),
    Rule("encoder.layers.{}.self_attn.v_proj.{}", "blocks.{}.attn.v_proj.{}"),
    Rule("encoder.layers.{}.self_attn.out_proj.{}", "blocks.{}.attn.o_proj.{}"),
    Rule("encoder.layers.{}.mlp.{}.{}", "blocks.{}.mlp.{}.{}"),
]

TEXT_RULES = [
    *_BLOCK,
    Rule("embeddings.token_embedding.weight", "token_embedding.weight"),
    Rule("embeddings.position_embedding.weight", "position_embedding"),
    Rule("final_layer_norm.{}", "final_norm.{}"),
]


def vision_rules(config: VitConfig, theirs: str = "", ours: str = "", linear: bool = False) -> list[Rule]:
    """Rules of an image tower of either form, below a prefix on each side.

    Their patch map is a convolution's kernel (E, c, p, p), which is a linear map of a raw patch (c, row, column), or
    where it is `linear` a map of (row, column, c).
    """
    p, c, e = config.patch_size, config.channels, config.hidden_size
    names = "embeddings.patch_embedding.weight", "stem.proj.weight"
    rules = [
        *_BLOCK,
        Rearrange(*names, "e (row column c) -> e (c row column)", (("row", p), ("column", p)))
        if linear
        else Reshape(*names, (-1, c, p, p), (-1, c * p * p)),
        Rule("embeddings.patch_embedding.bias", "stem.proj.bias"),
        Rule("embeddings.class_embedding", "class_embedding"),
        Rule("embeddings.position_embedding.weight", "position_embedding"),
        Rule("pre_layrnorm.{}", "pre_norm.{}"),
        Rule("post_layernorm.{}", "post_norm.{}"),
        Reshape("head.probe", "pool.probe", (1, 1, e), (e,)),
        Split("head.attention.in_proj_weight", "pool.attn.[].weight", ("q_proj", "k_proj", "v_proj")),
        Split("head.attention.in_proj_bias", "pool.attn.[].bias", ("q_proj", "k_proj", "v_proj")),
        Rule("head.attention.out_proj.{}", "pool.attn.o_proj.{}"),
        Rule("head.layernorm.{}", "pool.norm.{}"),
        Rule("head.mlp.{}.{}", "pool.mlp.{}.{}"),
    ]
    return within(rules, theirs, ours)


_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_SHARED = {  # theirs: ours
    "hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads", "layer_norm_eps": "norm_eps",
}  # fmt: skip


@dataclass(frozen=True)
class TowerForm:
    """One published form of an image tower.

    Attributes:
        model_type: of the tower alone, in config.json.
        defaults: of keys that a config may leave out.
        fixed: our fields that the form always has.
        head_key: the key that says whether there is an attention head, where there is such a key.
        processor: the image processor class that its checkpoints name.
        counts_patches: ``num_patches`` says how large the position table is, not ``image_size``.
        linear: see `vision_rules`.
        more: further keys that are read as they are, {theirs: ours}.
        read_own: our fields by keys that other forms do not have; write_own: those keys.
    """

    model_type: str
    architecture: str
    processor: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    head_key: str | None = None
    counts_patches: bool = False
    linear: bool = False
    more: Mapping[str, str] = field(default_factory=dict)
    read_own: Callable[[Json], dict[str, Any]] | None = None
    write_own: Callable[[VitConfig], dict[str, Any]] | None = None

    def read(self, raw: Json, projection_size: int | None = None) -> VitConfig:
        """Their config as ours."""
        raw = {**self.defaults, **raw}
        check_sizes(raw, _SIZES, "vision_config.")
        own = {ours: raw[theirs] for theirs, ours in {**_SHARED, **self.more}.items()} | dict(self.fixed)
        patch = _side(raw, "patch_size")
        size = _table_side(raw, patch) if self.counts_patches else _side(raw, "image_size")
        if patch > size:
            raise unsupported("vision_config.patch_size", patch, f"at most image_size ({size})")
        colours = {"num_channels": raw.get("num_channels", 3)}
        check_sizes(colours, colours, "vision_config.")
        own |= {"image_size": (size, size), "patch_size": patch, "channels": colours["num_channels"]}
        own |= {"activation": activation(raw), "projection_size": projection_size}
        if self.head_key and not raw.get(self.head_key, True):
            own["pool"] = "none"
        own |= self.read_own(raw) if self.read_own is not None else {}
        return VitConfig.from_dict(own, "vision_config")

    def write(self, config: VitConfig) -> dict[str, Any]:
        """Our config as theirs.

        Raises:
            EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
        """
        raw: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in {**_SHARED, **self.more}.items()}
        raw |= {
            "model_type": self.model_type, "patch_size": config.patch_size, "num_channels": config.channels,
            "hidden_act": written_activation(config.activation), "attention_dropout": 0.0,
        }  # fmt: skip
        if self.counts_patches:
            raw["num_patches"] = config.grid[0] * config.grid[1]
        else:
            raw["image_size"] = config.image_size[0]
        if self.head_key:
            raw[self.head_key] = config.pool != "none"
        raw |= self.write_own(config) if self.write_own is not None else {}
        lost = differences(config, self.read(raw, config.projection_size))
        if lost:
            message = f"{self.model_type} cannot express vision.{'; vision.'.join(lost)}"
            raise EyespotError("layout-unsupported", message)
        return raw


CLIP_VISION = TowerForm(
    "clip_vision_model", "CLIPVisionModel", "CLIPImageProcessor",
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "layer_norm_eps": 1e-5, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu"},
    {"patch_bias": False, "class_token": True, "pre_norm": True, "post_norm": "pooled", "pool": "class"},
)  # fmt: skip
SIGLIP_VISION = TowerForm(
    "siglip_vision_model", "SiglipVisionModel", "SiglipImageProcessor",
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "layer_norm_eps": 1e-6, "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh"},
    {"patch_bias": True, "post_norm": "sequence", "pool": "map"},
    head_key="vision_use_head",
)  # fmt: skip
SIGLIP2_VISION = TowerForm(
    "siglip2_vision_model", "Siglip2VisionModel", "Siglip2ImageProcessor",
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "layer_norm_eps": 1e-6, "num_patches": 256, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh"},
    {**SIGLIP_VISION.fixed, "interpolate_positions": True, "position_filter": "bilinear"},
    head_key="vision_use_head", counts_patches=True, linear=True,
)  # fmt: skip
FORMS = (CLIP_VISION, SIGLIP_VISION)

CLIP_TEXT = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}  # fmt: skip
_SIGLIP_TEXT = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}  # fmt: skip
_TEXT_SHARED = _SHARED | {"vocab_size": "vocab_size", "max_position_embeddings": "max_length"}


def form_of(config: VitConfig) -> TowerForm:
    """The published form of a tower.

    Raises:
        EyespotError: ``layout-unsupported`` naming what the nearest form cannot express.
    """
    form = CLIP_VISION if config.class_token else SIGLIP_VISION
    form.write(config)
    return form


def read_clip_text(raw: Json, projection_size: int) -> TextEncoderConfig:
    """CLIP's text tower: causal; pooled at the end token, by CLIP's first rule where that is id 2."""
    raw = {**CLIP_TEXT, **raw}
    check_sizes(raw, (*_SIZES, "vocab_size", "max_position_embeddings"), "text_config.")
    eos = raw["eos_token_id"]
    if not isinstance(eos, int):
        raise unsupported("text_config.eos_token_id", eos, "one id")
    own = {ours: raw[theirs] for theirs, ours in _TEXT_SHARED.items()}
    own |= {"activation": activation(raw), "causal": True, "pool": "argmax" if eos == 2 else "eos"}
    own |= {"eos_token_id": eos, "projection_size": projection_size, "projection_bias": False}
    return TextEncoderConfig.from_dict(own, "text_config")


def write_clip_text(config: TextEncoderConfig) -> dict[str, Any]:
    """The inverse of `read_clip_text`."""
    raw = _write_text(config, "clip_text_model") | {"projection_dim": config.projection_size}
    raw["eos_token_id"] = 2 if config.pool == "argmax" else config.eos_token_id
    return _checked(config, read_clip_text(raw, config.projection_size), raw)


def read_siglip_text(raw: Json) -> TextEncoderConfig:
    """SigLIP's text tower: both ways, pooled at the last position, a biased projection."""
    raw = {**_SIGLIP_TEXT, **raw}
    check_sizes(raw, (*_SIZES, "vocab_size", "max_position_embeddings"), "text_config.")
    own = {ours: raw[theirs] for theirs, ours in _TEXT_SHARED.items()}
    width = raw["hidden_size"] if raw.get("projection_size") is None else raw["projection_size"]
    own |= {"activation": activation(raw), "causal": False, "pool": "last"}
    return TextEncoderConfig.from_dict(own | {"projection_size": width, "projection_bias": True}, "text_config")


def write_siglip_text(config: TextEncoderConfig, model_type: str) -> dict[str, Any]:
    """The inverse of `read_siglip_text`."""
    raw = _write_text(config, model_type) | {"projection_size": config.projection_size}
    return _checked(config.replace(eos_token_id=TextEncoderConfig().eos_token_id), read_siglip_text(raw), raw)


def activation(raw: Json) -> str:
    """Their name of an activation as ours."""
    if not isinstance(raw["hidden_act"], str) or raw["hidden_act"] not in _ACTIVATIONS:
        raise unsupported("hidden_act", raw["hidden_act"], ", ".join(_ACTIVATIONS))
    return _ACTIVATIONS[raw["hidden_act"]]


def depth(names: Collection[str], stack: str) -> int:
    """How many blocks a file holds below a prefix, which a number follows."""
    return len({name.removeprefix(stack).partition(".")[0] for name in names if name.startswith(stack)})


def mlp_ratio(inner: int, size: int) -> float | int:
    """The ratio of a feed-forward's width to the tower's that makes `inner` again where it is read and rounded down."""
    ratio = inner / size
    return int(ratio) if ratio == int(ratio) else ratio if int(size * ratio) == inner else (inner + 0.5) / size


def written_activation(name: str) -> str:
    """Our name of an activation as theirs."""
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)


def _write_text(config: TextEncoderConfig, model_type: str) -> dict[str, Any]:
    raw: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in _TEXT_SHARED.items()}
    raw |= {"model_type": model_type, "hidden_act": written_activation(config.activation), "attention_dropout": 0.0}
    return raw


def _checked(config: TextEncoderConfig, again: TextEncoderConfig, raw: dict[str, Any]) -> dict[str, Any]:
    lost = differences(config, again)
    if lost:
        raise EyespotError("layout-unsupported", f"{raw['model_type']} cannot express text.{'; text.'.join(lost)}")
    return raw


def _side(raw: Json, key: str) -> int:
    value = raw[key]
    sides = value if isinstance(value, (list, tuple)) else [value]
    side = sides[0] if sides else None
    if not isinstance(side, int) or not 1 <= side <= MAX_SIDE or any(other != side for other in sides):
        raise unsupported(f"vision_config.{key}", value, "a square of whole pixels")
    return side


def _table_side(raw: Json, patch: int) -> int:
    """Pixels of a side that gives a square table of ``num_patches`` rows."""
    check_sizes(raw, ("num_patches",), "vision_config.")
    side = math.isqrt(raw["num_patches"])
    if side**2 != raw["num_patches"] or side * patch > MAX_SIDE:
        raise unsupported("vision_config.num_patches", raw["num_patches"], f"a square, up to {MAX_SIDE:,} pixels wide")
    return side * patch


def start_of_siglip() -> dict[str, float]:
    """The paper's starting temperature and bias."""
    return {"logit_scale": math.log(10.0), "logit_bias": -10.0}
