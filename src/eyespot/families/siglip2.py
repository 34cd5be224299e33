"""SigLIP 2 in native aspect (NaFlex; Tschannen et al. 2025): SigLIP whose pictures keep their aspect.

What differs from `siglip`: a picture is as large as a number of patches allows, so grids differ; the position table is
resized to each (bilinear, antialiased); and the patch map takes a patch as (row, column, channel). SigLIP 2 of one
picture size is published as `siglip`. Numerics: `transformers` modeling_siglip2.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.families import sidefiles, siglip
from eyespot.families.family import Context, Family, Files, Json, Layout, section
from eyespot.families.towers import SIGLIP2_VISION, read_siglip_text, start_of_siglip, write_siglip_text
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig | VitConfig:
    """Both towers, or the image tower alone (`siglip2_vision_model`)."""
    if raw["model_type"] == SIGLIP2_VISION.model_type:
        return SIGLIP2_VISION.read(raw)
    vision = SIGLIP2_VISION.read(section(raw, "vision_config"))
    return DualConfig(vision, read_siglip_text(section(raw, "text_config")), **start_of_siglip())


def config_to_hf(config: DualConfig | VitConfig, context: Context) -> dict[str, Any]:
    """The inverse of `config_from_hf`."""
    if isinstance(config, VitConfig):
        return {"architectures": [SIGLIP2_VISION.architecture], **SIGLIP2_VISION.write(config)}
    ends = {"bos_token_id": context.bos, "eos_token_id": next(iter(context.stops), None), "pad_token_id": context.pad}
    return {
        "architectures": ["Siglip2Model"],
        "model_type": "siglip2",
        "text_config": write_siglip_text(config.text, "siglip2_text_model") | ends,
        "vision_config": SIGLIP2_VISION.write(config.vision),
    }


def keymap(config: DualConfig | VitConfig, wrapper: str = "vision_model.") -> KeyMap:
    """SigLIP's names; the patch map has the axes of a patch in another order."""
    return siglip.keymap(config, wrapper, linear=True)


def contract_from_hf(files: Files, config: DualConfig | VitConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures of a number of patches; text as of SigLIP 2."""
    return siglip.contract_from_hf(files, config, tokenizer, SIGLIP2_VISION.processor)


def contract_to_hf(contract: Contract, config: DualConfig | VitConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, SIGLIP2_VISION.processor) if contract.image else {}


def tiny() -> dict[str, Any]:
    """SigLIP's, with a table of 3 × 3 patches that no picture need have."""
    own = {"interpolate_positions": True, "position_filter": "bilinear", "image_size": (12, 12), "patch_size": 4}
    return {
        name: config.replace(**own)
        if isinstance(config, VitConfig)
        else config.replace(vision=config.vision.replace(**own))
        for name, config in siglip.tiny().items()
    }


FAMILY = Family(
    name="siglip2",
    model_types=("siglip2", "siglip2_vision_model"),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(keymap, config_to_hf),
        "hf-bare": Layout(lambda config: keymap(config, wrapper=""), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda c: siglip.is_siglip(c) and siglip.tower_of(c).position_filter == "bilinear",
)
