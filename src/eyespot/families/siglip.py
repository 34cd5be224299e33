"""SigLIP (Zhai et al. 2023) and SigLIP 2 at fixed resolution: two towers, a sigmoid for each pair; also one tower.

SigLIP 2 (Tschannen et al. 2025) of one picture size is published under the same ``model_type``: the same towers, with
Gemma's tokenizer, and for the largest a text tower that is narrower than the space it projects to.

Unusual: pictures are squeezed to a square, an attention head with a fused input projection pools them, the text tower
sees its padding and pools the last position, so texts are always padded to the full length.
Numerics: `transformers` modeling_siglip.py.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Json, Layout, section
from eyespot.families.towers import (
    SIGLIP_VISION,
    TEXT_RULES,
    TowerForm,
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


@dataclass(frozen=True)
class SiglipForm:
    """One published form; the two differ in the image tower alone, and in names."""

    name: str  # of the pair in config.json
    vision: TowerForm

    def config_from_hf(self, raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig | VitConfig:
        """Both towers, or the image tower alone."""
        if raw["model_type"] == self.vision.model_type:
            return self.vision.read(raw)
        vision = self.vision.read(section(raw, "vision_config"))
        return DualConfig(vision, read_siglip_text(section(raw, "text_config")), **start_of_siglip())

    def config_to_hf(self, config: DualConfig | VitConfig, context: Context) -> dict[str, Any]:
        """The inverse of `config_from_hf`."""
        if isinstance(config, VitConfig):
            return {"architectures": [self.vision.architecture], **self.vision.write(config)}
        stop = next(iter(context.stops), None)
        ends = {"bos_token_id": context.bos, "eos_token_id": stop, "pad_token_id": context.pad}
        return {
            "architectures": [f"{self.name.capitalize()}Model"],
            "model_type": self.name,
            "text_config": write_siglip_text(config.text, f"{self.name}_text_model") | ends,
            "vision_config": self.vision.write(config.vision),
        }

    def keymap(self, config: DualConfig | VitConfig, wrapper: str = "vision_model.") -> KeyMap:
        """Names as both towers have them; a tower alone may lack the wrapper."""
        if isinstance(config, VitConfig):
            return KeyMap(vision_rules(config, wrapper, linear=self.vision.linear))
        return KeyMap([
            *vision_rules(config.vision, "vision_model.", "vision_encoder.", self.vision.linear),
            *within(TEXT_RULES, "text_model.", "text_encoder."),
            Rule("text_model.head.{}", "text_encoder.projection.{}"),
            Reshape("logit_scale", "logit_scale", (1,), ()),
            Reshape("logit_bias", "logit_bias", (1,), ()),
        ])  # fmt: skip

    def contract_from_hf(self, files: Files, config: DualConfig | VitConfig, tokenizer: Tokenizer | None) -> Contract:
        """Pictures as the tower's processor makes them; text cleaned, and padded to its tower's length."""
        tower = config if isinstance(config, VitConfig) else config.vision
        image = sidefiles.image_rule(
            files, self.vision.processor, patch_size=tower.patch_size, image_size=tower.image_size
        )
        if isinstance(config, VitConfig):
            return Contract(image=image)
        settings = tokenizer.config if tokenizer is not None else files.get("tokenizer_config.json", {})
        named = str(settings.get("tokenizer_class") or "SiglipTokenizer").removesuffix("Fast")
        text = sidefiles.text_rule(
            files, tokenizer, (), max_length=config.text.max_length, pad_to_max=True, clean=_CLEANED.get(named, "none")
        )
        return Contract(image=image, text=text.replace(stop_tokens=()))

    def contract_to_hf(self, contract: Contract, config: DualConfig | VitConfig) -> dict[str, Any]:
        """preprocessor_config.json."""
        return sidefiles.image_files(contract.image, self.vision.processor) if contract.image else {}

    def holds(self, config: Any) -> bool:
        """Whether a config is of this form."""
        pictures = config
        if isinstance(config, DualConfig) and config.logit_bias is not None:
            pictures = config.vision if isinstance(config.text, TextEncoderConfig) else None
        if not isinstance(pictures, VitConfig) or pictures.class_token:
            return False
        return pictures.position_filter == self.vision.fixed.get("position_filter", "bicubic")

    def family(self, tiny: Callable[[], dict[str, Any]]) -> Family:
        """The family of this form."""
        return Family(
            name=self.name,
            model_types=(self.name, self.vision.model_type),
            config_from_hf=self.config_from_hf,
            layouts={
                "hf": Layout(self.keymap, self.config_to_hf),
                "hf-bare": Layout(lambda config: self.keymap(config, wrapper=""), self.config_to_hf),
            },
            contract_from_hf=self.contract_from_hf,
            contract_to_hf=self.contract_to_hf,
            tiny=tiny,
            holds=self.holds,
        )


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


FAMILY = SiglipForm("siglip", SIGLIP_VISION).family(tiny)
