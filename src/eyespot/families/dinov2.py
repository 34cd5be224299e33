"""DINOv2 (Oquab et al. 2023), also with registers (Darcet et al. 2024): one image tower, trained without text.

Unusual: layer scale, in the largest model SwiGLU whose width follows from ``mlp_ratio``, pictures of any size over one
position table (with registers the resize is antialiased), and a mask token that only training reads.
Numerics: `transformers` modeling_dinov2.py, modeling_dinov2_with_registers.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import sidefiles, vit
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, unsupported
from eyespot.families.towers import TowerForm
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Reshape, Rule, Split

_FIXED = {"class_token": True, "post_norm": "sequence", "pool": "class", "layer_scale": True}
_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 4, "layer_norm_eps": 1e-6,
    "image_size": 224, "hidden_act": "gelu", "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
_MORE = {"qkv_bias": "qkv_bias", "use_swiglu_ffn": "gated"}
PLAIN = TowerForm(
    "dinov2", "Dinov2Model", "BitImageProcessor", _DEFAULTS | {"patch_size": 14, "use_mask_token": True},
    {**_FIXED, "interpolate_positions": True, "position_filter": "bicubic"},
    more=_MORE | {"use_mask_token": "mask_token"},
)  # fmt: skip
WITH_REGISTERS = TowerForm(
    "dinov2_with_registers", "Dinov2WithRegistersModel", "BitImageProcessor",
    _DEFAULTS | {"patch_size": 16, "num_register_tokens": 4},
    {**_FIXED, "interpolate_positions": True, "position_filter": "bicubic_smooth", "mask_token": True},
    more=_MORE | {"num_register_tokens": "registers"},
)  # fmt: skip
_MAX_RATIO, _MAX_REGISTERS = 64, 1024


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VitConfig:
    """The tower alone."""
    vit.encoder_only(raw, names)
    return read(raw)


def read(raw: Json) -> VitConfig:
    """Their config as ours."""
    form = WITH_REGISTERS if raw["model_type"] == WITH_REGISTERS.model_type else PLAIN
    raw = {**form.defaults, **raw}
    check_sizes(raw, ("hidden_size", "mlp_ratio"), "vision_config.")
    for key in ("use_swiglu_ffn", "use_mask_token"):
        if not isinstance(raw.get(key, True), bool):
            raise unsupported(key, raw[key], "true or false")
    registers = raw["num_register_tokens"] if form is WITH_REGISTERS else 1
    if not isinstance(registers, int) or not 1 <= registers <= _MAX_REGISTERS:
        raise unsupported("num_register_tokens", registers, f"from 1 to {_MAX_REGISTERS:,}")
    inner = inner_size(raw["hidden_size"], raw["mlp_ratio"], raw["use_swiglu_ffn"])
    return form.read(raw | {"intermediate_size": inner})


def write(config: VitConfig) -> dict[str, Any]:
    """The inverse of `read`."""
    form = WITH_REGISTERS if config.position_filter == "bicubic_smooth" else PLAIN
    raw, size, inner = form.write(config), config.hidden_size, config.intermediate_size
    ratio = next((r for r in range(1, _MAX_RATIO) if inner_size(size, r, config.gated) == inner), None)
    if ratio is None:
        message = f"{form.model_type} has no mlp_ratio that makes an inner width of {inner} from {size}"
        raise EyespotError("layout-unsupported", message)
    raw["attention_probs_dropout_prob"] = raw["hidden_dropout_prob"] = raw.pop("attention_dropout")
    del raw["intermediate_size"]
    return raw | {"mlp_ratio": ratio}


def config_to_hf(config: VitConfig, context: Context) -> dict[str, Any]:
    """config.json of the tower alone."""
    raw = write(config)
    form = WITH_REGISTERS if raw["model_type"] == WITH_REGISTERS.model_type else PLAIN
    return {"architectures": [form.architecture], **raw}


def inner_size(size: int, ratio: int, gated: bool) -> int:
    """Width of the feed-forward: gated, two thirds of the plain one, up to a multiple of 8."""
    return (int(size * ratio * 2 / 3) + 7) // 8 * 8 if gated else size * ratio


def rules(config: VitConfig, older: bool = True) -> list[Rule]:
    """The tower's names."""
    layer, e = "encoder.layer.{}", config.hidden_size
    gated = [
        Split(f"{layer}.mlp.weights_in.{{}}", "blocks.{}.mlp.[].{}", ("gate_proj", "up_proj")),
        Rule(f"{layer}.mlp.weights_out.{{}}", "blocks.{}.mlp.down_proj.{}"),
    ]
    return [
        *vit.stem_rules(config),
        Reshape("embeddings.mask_token", "mask_token", (1, e), (e,)),
        Reshape("embeddings.register_tokens", "registers", (1, -1, e), (-1, e)),
        *vit.attention_rules(layer, older),
        *(Rule(f"{layer}.norm{i}.{{}}", f"blocks.{{}}.norm{i}.{{}}") for i in (1, 2)),
        *(Rule(f"{layer}.layer_scale{i}.lambda1", f"blocks.{{}}.scale{i}") for i in (1, 2)),
        *(gated if config.gated and older else [Rule(f"{layer}.mlp.{{}}.{{}}", "blocks.{}.mlp.{}.{}")]),
    ]


def contract_from_hf(files: Files, config: VitConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures by the checkpoint's processor; without one, with the colours that all of these are trained with."""
    size, patch = config.image_size, config.patch_size
    if not sidefiles.image_processor(files):
        own = {"image_mean": sidefiles.IMAGENET_MEAN, "image_std": sidefiles.IMAGENET_STD}
        own |= {"size": {"shortest_edge": min(size)}, "crop_size": {"height": size[0], "width": size[1]}}
        files = sidefiles.with_image_processor(files, own)
    return Contract(image=sidefiles.image_rule(files, PLAIN.processor, patch_size=patch, image_size=size))


def contract_to_hf(contract: Contract, config: VitConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, PLAIN.processor) if contract.image else {}


def tiny() -> dict[str, Any]:
    """Both feed-forwards, with and without registers."""
    config = VitConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=64, image_size=(28, 28), patch_size=14,
        mask_token=True, **PLAIN.fixed,
    )  # fmt: skip
    smooth = config.replace(position_filter="bicubic_smooth")
    return {
        "plain": config,
        "swiglu": config.replace(gated=True, intermediate_size=48, mask_token=False, qkv_bias=False),
        "registers": smooth.replace(registers=2),
        "registers-swiglu": smooth.replace(registers=4, gated=True, intermediate_size=48),
    }


FAMILY = Family(
    name="dinov2",
    model_types=(PLAIN.model_type, WITH_REGISTERS.model_type),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(lambda config: KeyMap(rules(config)), config_to_hf),
        "hf-memory": Layout(lambda config: KeyMap(rules(config, older=False)), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    modules="hf-memory",
    holds=lambda config: isinstance(config, VitConfig) and config.layer_scale,
)
