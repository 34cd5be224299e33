"""SigLIP (Zhai et al. 2023) and SigLIP 2 at fixed resolution: two towers, a sigmoid for each pair; also one tower.

SigLIP 2 (Tschannen et al. 2025) of one picture size is published under the same ``model_type``: the same towers, with
Gemma's tokenizer, and for the largest a text tower that is narrower than the space it projects to.

Unusual: pictures are squeezed to a square, an attention head with a fused input projection pools them, the text tower
sees its padding and pools the last position, so texts are always padded to the full length.
Numerics: `transformers` modeling_siglip.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Json, Layout, section
from eyespot.families.towers import (
    SIGLIP_VISION,
    TEXT_RULES,
    read_siglip_text,
    start_of_siglip,
    vision_rules,
    write_siglip_text,
)
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Reshape, Rule, within

# By the tokenizer's class. SigLIP 2 was trained on lower case, which Gemma's own tokenizer does not make.
_CLEANED = {"SiglipTokenizer": "siglip", "GemmaTokenizer": "lower", "Siglip2Tokenizer": "lower"}


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig | VitConfig:
    """Both towers, or the image tower alone (`siglip_vision_model`)."""
    if raw["model_type"] == SIGLIP_VISION.model_type:
        return SIGLIP_VISION.read(raw)
    vision = SIGLIP_VISION.read(section(raw, "vision_config"))
    return DualConfig(vision, read_siglip_text(section(raw, "text_config")), **start_of_siglip())


def config_to_hf(config: DualConfig | VitConfig, context: Context) -> dict[str, Any]:
    """The inverse of `config_from_hf`."""
    if isinstance(config, VitConfig):
        return {"architectures": ["SiglipVisionModel"], **SIGLIP_VISION.write(config)}
    ends = {"bos_token_id": context.bos, "eos_token_id": next(iter(context.stops), None), "pad_token_id": context.pad}
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "text_config": write_siglip_text(config.text) | ends,
        "vision_config": SIGLIP_VISION.write(config.vision),
    }


def keymap(config: DualConfig | VitConfig, wrapper: str = "vision_model.", linear: bool = False) -> KeyMap:
    """Names as both towers have them; a tower alone may lack the wrapper. `linear` as of `vision_rules`."""
    if isinstance(config, VitConfig):
        return KeyMap(vision_rules(config, wrapper, linear=linear))
    return KeyMap([
        *vision_rules(config.vision, "vision_model.", "vision_encoder.", linear),
        *within(TEXT_RULES, "text_model.", "text_encoder."),
        Rule("text_model.head.{}", "text_encoder.projection.{}"),
        Reshape("logit_scale", "logit_scale", (1,), ()),
        Reshape("logit_bias", "logit_bias", (1,), ()),
    ])  # fmt: skip


def contract_from_hf(
    files: Files, config: DualConfig | VitConfig, tokenizer: Tokenizer | None, kind: str = SIGLIP_VISION.processor
) -> Contract:
    """Pictures squeezed to the tower's square, or as the processor `kind` does; text cleaned, and padded to its tower's
    length.
    """
    tower = tower_of(config)
    image = sidefiles.image_rule(files, kind, patch_size=tower.patch_size, image_size=tower.image_size)
    if isinstance(config, VitConfig):
        return Contract(image=image)
    settings = tokenizer.config if tokenizer is not None else files.get("tokenizer_config.json", {})
    named = str(settings.get("tokenizer_class") or "SiglipTokenizer").removesuffix("Fast")
    text = sidefiles.text_rule(
        files, tokenizer, (), max_length=config.text.max_length, pad_to_max=True, clean=_CLEANED.get(named, "none")
    )
    return Contract(image=image, text=text.replace(stop_tokens=()))


def contract_to_hf(contract: Contract, config: DualConfig | VitConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, SIGLIP_VISION.processor) if contract.image else {}


def tiny() -> dict[str, Any]:
    """Both towers, SigLIP 2's narrow text tower, and the image tower alone with and without its attention head."""
    vision = VitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(28, 28), patch_size=14,
        norm_eps=1e-6, activation="gelu_tanh", **SIGLIP_VISION.fixed,
    )  # fmt: skip
    text = TextEncoderConfig(
        vocab_size=100, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=12, norm_eps=1e-6,
        activation="gelu_tanh", causal=False, pool="last", projection_size=16, projection_bias=True,
    )  # fmt: skip
    return {
        "plain": DualConfig(vision, text, **start_of_siglip()),
        "narrow-text": DualConfig(vision, text.replace(hidden_size=8), **start_of_siglip()),
        "vision-only": vision,
        "vision-headless": vision.replace(pool="none"),
    }


def tower_of(config: DualConfig | VitConfig) -> VitConfig:
    """The image tower."""
    return config if isinstance(config, VitConfig) else config.vision


def is_siglip(config: Any) -> bool:
    """Whether a config is a SigLIP's of either kind."""
    if isinstance(config, VitConfig):
        return not config.class_token
    return isinstance(config, DualConfig) and config.logit_bias is not None


FAMILY = Family(
    name="siglip",
    model_types=("siglip", "siglip_vision_model"),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(keymap, config_to_hf),
        "hf-bare": Layout(lambda config: keymap(config, wrapper=""), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda c: is_siglip(c) and tower_of(c).position_filter == "bicubic",
)
