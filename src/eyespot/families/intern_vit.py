"""InternViT alone (Chen et al. 2023), 300M and 6B, in the authors' layout: the tower that InternVL's models share.

Unusual: no norm behind the last block; the pooled vector is the class token as it comes. Numerics: OpenGVLab/InternVL
modeling_intern_vit.py.
"""

from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Layout
from eyespot.families.intern_towers import AUTHORS_TOWER, authors_rules
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap


def config_to_hf(config: VitConfig, context: Context) -> dict[str, Any]:
    """The authors' config."""
    return AUTHORS_TOWER.write(config.replace(pool="none"))


def contract_from_hf(files: Files, config: VitConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures by the checkpoint's processor, without one by ImageNet's colours."""
    sizes = {"patch_size": config.patch_size, "image_size": config.image_size}
    return Contract(image=sidefiles.imagenet_rule(files, **sizes))


def contract_to_hf(contract: Contract, config: VitConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, AUTHORS_TOWER.processor) if contract.image else {}


def tiny() -> dict[str, Any]:
    """Both published kinds."""
    small = VitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(28, 28), patch_size=14,
        class_token=True, layer_scale=True, interpolate_positions=True, pool="class",
    )  # fmt: skip
    return {"300m": small, "6b": small.replace(norm="rms", qkv_bias=False, qk_norm_eps=1e-6)}


FAMILY = Family(
    name="intern_vit",
    model_types=(AUTHORS_TOWER.model_type,),
    config_from_hf=lambda raw, names, parts: AUTHORS_TOWER.read(raw).replace(pool="class"),
    layouts={"hf": Layout(lambda config: KeyMap(authors_rules(config)), config_to_hf)},
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: isinstance(config, VitConfig) and config.layer_scale and config.post_norm == "none",
)
