"""Any image tower beside BERT, with a linear projection each (LiT: Zhai et al. 2022; how MedCLIP is published).

Unusual: what is projected is each tower's own pooled vector, of BERT after its pooler; the image tower may be CLIP's,
SigLIP's, ViT or DINOv2. Numerics: `transformers` modeling_vision_text_dual_encoder.py.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import bert, clip, dinov2, sidefiles, siglip, vit
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, section, unsupported
from eyespot.families.towers import CLIP_VISION, SIGLIP_VISION, vision_rules
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.post_norm_text import PostNormTextConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Rule, within

NAME = "vision-text-dual-encoder"


@dataclass(frozen=True)
class Tower:
    """An image tower as it stands in this layout: its config both ways, its names, and the family of it alone."""

    read: Callable[[Json, Collection[str]], VitConfig]
    write: Callable[[VitConfig], dict[str, Any]]
    rules: Callable[[VitConfig], list[Rule]]
    family: Family


_DINO = Tower(lambda raw, names: dinov2.read(raw), dinov2.write, dinov2.rules, dinov2.FAMILY)
# By model_type; the first that holds a config writes it.
TOWERS = {
    "clip_vision_model": Tower(lambda raw, _: CLIP_VISION.read(raw), CLIP_VISION.write, vision_rules, clip.FAMILY),
    "siglip_vision_model": Tower(
        lambda raw, _: SIGLIP_VISION.read(raw), SIGLIP_VISION.write, vision_rules, siglip.FAMILY
    ),
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "vit": Tower(
        lambda raw, names: vit.read(raw, "vision_model.pooler.dense.weight" in names), vit.write, vit.rules, vit.FAMILY
    ),
}
_OWN_TEXT = {"pool": "class", "pooled_dense": "tanh", "projection": "linear"}


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig:
    """Both towers by the types that their configs name."""
    pictures, text = section(raw, "vision_config"), section(raw, "text_config")
    width = {"projection_dim": raw.get("projection_dim", 512)}
    check_sizes(width, width)
    kind, scale = pictures.get("model_type", "vit"), raw.get("logit_scale_init_value", 2.6592)
    if kind not in TOWERS:
        raise unsupported("vision_config.model_type", kind, ", ".join(TOWERS))
    if text.get("model_type", "bert") != "bert":
        raise unsupported("text_config.model_type", text["model_type"], "bert")
    if not isinstance(scale, (int, float)):
        raise unsupported("logit_scale_init_value", scale, "a number")
    size = width["projection_dim"]
    return DualConfig(
        vision=TOWERS[kind].read({"model_type": kind, **pictures}, names).replace(projection_size=size),
        text=bert.read_bert(text, **_OWN_TEXT, projection_size=size),
        logit_scale=float(scale),
    )


def config_to_hf(config: DualConfig, context: Context) -> dict[str, Any]:
    """The inverse of `config_from_hf`."""
    width = config.vision.projection_size
    if not isinstance(config.text, PostNormTextConfig) or config.logit_bias is not None or not width:
        raise EyespotError("layout-unsupported", f"{NAME} has a BERT, two projections and no bias of its logits")
    tower = tower_of(config.vision)
    if config.vision.pool == "none" or (tower.family is vit.FAMILY and config.vision.pooled_dense == "none"):
        raise EyespotError("layout-unsupported", f"{NAME} has no {tower.family.name} tower without a pooler")
    return {
        "architectures": ["VisionTextDualEncoderModel"],
        "model_type": NAME,
        "projection_dim": width,
        "logit_scale_init_value": config.logit_scale,
        "text_config": bert.write_bert(config.text, **_OWN_TEXT, projection_size=width),
        "vision_config": tower.write(config.vision),
    }


def tower_of(config: VitConfig) -> Tower:
    """The published form of an image tower."""
    found = next((tower for tower in TOWERS.values() if tower.family.holds(config)), None)
    if found is None:
        raise EyespotError("layout-unsupported", f"{NAME} has no such image tower")
    return found


def keymap(config: DualConfig, wrapper: str = "") -> KeyMap:
    """Names of both towers; version 4 of `transformers` wrapped CLIP's and SigLIP's once more."""
    tower = tower_of(config.vision)
    wrapper = wrapper if tower.rules is vision_rules else ""
    return KeyMap([
        *within(tower.rules(config.vision), f"vision_model.{wrapper}", "vision_encoder."),
        *within(bert.RULES, "text_model.", "text_encoder."),
        Rule("visual_projection.weight", "vision_encoder.projection.weight"),
        Rule("text_projection.weight", "text_encoder.projection.weight"),
        Rule("logit_scale", "logit_scale"),
    ])  # fmt: skip


def contract_from_hf(files: Files, config: DualConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures as the image tower alone takes them, text up to the text tower's length."""
    image = tower_of(config.vision).family.contract_from_hf(files, config.vision, None).image
    bert.check_padding(tokenizer, config.text)
    text = sidefiles.text_rule(files, tokenizer, (), max_length=config.text.max_length)
    return Contract(image=image, text=text.replace(stop_tokens=()))


def contract_to_hf(contract: Contract, config: DualConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return tower_of(config.vision).family.contract_to_hf(contract, config.vision)


def tiny() -> dict[str, Any]:
    """Each image tower once."""
    text = PostNormTextConfig(
        vocab_size=100, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=12, pad_token_id=3,
        pooled_dense="tanh", projection_size=8,
    )  # fmt: skip
    towers = {"vit": "plain", "clip": "vision-only", "siglip": "vision-only", "dinov2": "registers"}
    found = {tower.family.name: tower.family.tiny() for tower in TOWERS.values()}
    return {
        f"{name}-bert": DualConfig(found[name][case].replace(projection_size=8), text) for name, case in towers.items()
    }


FAMILY = Family(
    name="vision_text_dual_encoder",
    model_types=(NAME,),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(keymap, config_to_hf),
        "hf-wrapped": Layout(lambda config: keymap(config, "vision_model."), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: isinstance(config, DualConfig) and isinstance(config.text, PostNormTextConfig),
)
