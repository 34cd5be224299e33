"""CLIP (Radford et al. 2021): two towers and a softmax over the batch. Also its image tower alone.

Unusual: `pre_layrnorm` before block 0, a patch map without bias, quick GELU, and two rules for the text's pooled token
(end token id 2 stands for "the largest id"). Numerics: `transformers` modeling_clip.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, section, unsupported
from eyespot.families.towers import CLIP_TEXT, CLIP_VISION, TEXT_RULES, read_clip_text, vision_rules, write_clip_text
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Rule, within


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig | VitConfig:
    """Both towers, or the image tower alone (`clip_vision_model`), with its projection where the file has one."""
    if raw["model_type"] == CLIP_VISION.model_type:
        width = _width(raw) if "visual_projection.weight" in names else None
        return CLIP_VISION.read(raw, width)
    width, scale = _width(raw), raw.get("logit_scale_init_value", 2.6592)
    if not isinstance(scale, (int, float)):
        raise unsupported("logit_scale_init_value", scale, "a number")
    return DualConfig(
        vision=CLIP_VISION.read(_tower(raw, "vision_config", CLIP_VISION.defaults), width),
        text=read_clip_text(_tower(raw, "text_config", CLIP_TEXT), width),
        logit_scale=float(scale),
    )


def config_to_hf(config: DualConfig | VitConfig, context: Context) -> dict[str, Any]:
    """The inverse of `config_from_hf`."""
    if isinstance(config, VitConfig):
        kind = "CLIPVisionModelWithProjection" if config.projection_size else "CLIPVisionModel"
        return {"architectures": [kind], **CLIP_VISION.write(config), "projection_dim": config.projection_size or 512}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.text.projection_size,
        "logit_scale_init_value": config.logit_scale,
        "text_config": write_clip_text(config.text) | {"bos_token_id": context.bos, "pad_token_id": context.pad},
        "vision_config": CLIP_VISION.write(config.vision) | {"projection_dim": config.vision.projection_size},
    }


def keymap(config: DualConfig | VitConfig, wrapper: str = "vision_model.") -> KeyMap:
    """Names as both towers and the tower with a projection have them; a tower alone may lack the wrapper."""
    if isinstance(config, VitConfig):
        return KeyMap([*vision_rules(config, wrapper), Rule("visual_projection.weight", "projection.weight")])
    return KeyMap([
        *vision_rules(config.vision, "vision_model.", "vision_encoder."),
        *within(TEXT_RULES, "text_model.", "text_encoder."),
        Rule("visual_projection.weight", "vision_encoder.projection.weight"),
        Rule("text_projection.weight", "text_encoder.projection.weight"),
        Rule("logit_scale", "logit_scale"),
    ])  # fmt: skip


def contract_from_hf(files: Files, config: DualConfig | VitConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures by the checkpoint's processor, text by its tokenizer, up to the tower's length."""
    tower = config if isinstance(config, VitConfig) else config.vision
    image = sidefiles.image_rule(files, CLIP_VISION.processor, patch_size=tower.patch_size, image_size=tower.image_size)
    if isinstance(config, VitConfig):
        return Contract(image=image)
    text = sidefiles.text_rule(files, tokenizer, (), max_length=config.text.max_length)
    return Contract(image=image, text=text.replace(stop_tokens=()))


def contract_to_hf(contract: Contract, config: DualConfig | VitConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, CLIP_VISION.processor) if contract.image else {}


def _tower(raw: Json, key: str, defaults: Json) -> Json:
    """One tower's config; a legacy ``…_config_dict`` beside it wins, its gaps filled with defaults."""
    own = section(raw, key)
    return own if raw.get(f"{key}_dict") is None else {**own, **defaults, **section(raw, f"{key}_dict")}


def _width(raw: Json) -> int:
    """Of the space that both towers project to."""
    width = {"projection_dim": raw.get("projection_dim", 512)}
    check_sizes(width, width)
    return width["projection_dim"]


def holds(config: Any) -> bool:
    """Whether a config is of this form."""
    if isinstance(config, DualConfig):
        return config.logit_bias is None and isinstance(config.text, TextEncoderConfig)
    return isinstance(config, VitConfig) and config.pre_norm


def tiny() -> dict[str, Any]:
    """Both pooling rules, and the image tower alone with and without projection."""
    vision = VitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(28, 28), patch_size=14,
        norm_eps=1e-5, activation="quick_gelu", projection_size=8, **CLIP_VISION.fixed,
    )  # fmt: skip
    text = TextEncoderConfig(
        vocab_size=100, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=12,
        eos_token_id=99, projection_size=8,
    )  # fmt: skip
    return {
        "plain": DualConfig(vision, text),
        "legacy-eos": DualConfig(vision, text.replace(pool="argmax", eos_token_id=2)),
        "vision-projected": vision,
        "vision-only": vision.replace(projection_size=None),
    }


FAMILY = Family(
    name="clip",
    model_types=("clip", "clip_vision_model"),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(keymap, config_to_hf),
        "hf-bare": Layout(lambda config: keymap(config, wrapper=""), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=holds,
)
