"""LLaVA-NeXT, which is LLaVA 1.6 (Liu et al. 2024): LLaVA that cuts a picture into tiles of its tower's size.

What differs: the processor fits the picture onto one of several canvases, cuts it, and puts the whole picture first;
the model joins the tiles' features to one map, cuts the border off and ends each row with a learned `image_newline`.
How that goes is in `inputs.anyres` and `models.tiles`; here are names. Published with CLIP; Vicuna, Mistral, Yi.
Numerics: `transformers` modeling_llava_next.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import llava
from eyespot.families.family import Context, Family, Files, Json, unsupported
from eyespot.families.sidefiles import PROCESSORS, TILED, canvases, image_processor, with_image_processor
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

_PINPOINTS = PROCESSORS[TILED]["image_grid_pinpoints"]


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """As of LLaVA, with the newline; each tile is patches alone, as tokens beside a grid have no place on the map."""
    config = llava.config_from_hf(raw, names, parts)
    if config.keep_class:
        strategy = raw.get("vision_feature_select_strategy")
        raise unsupported("vision_feature_select_strategy", strategy, "default, for a tower with a class token")
    if not names:  # of a fresh model the outer key alone decides, unlike LLaVA's
        tie = bool(raw.get("tie_word_embeddings"))
        config = config.replace(decoder=config.decoder.replace(tie_word_embeddings=tie))
    return config.replace(newline=True)


def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse; the canvases stand in this file as well as in the processor's."""
    tiling = context.image.tiling if context.image else None
    if tiling is not None and tiling.shrink_to is not None:
        raise EyespotError("layout-unsupported", "LLaVA-NeXT scales no map down (contract.image.tiling.shrink_to)")
    return llava.config_to_hf(config.replace(newline=False), context) | {
        "architectures": ["LlavaNextForConditionalGeneration"], "model_type": "llava_next",
        "image_grid_pinpoints": [list(canvas) for canvas in (tiling.canvases if tiling else _PINPOINTS)],
    }  # fmt: skip


def keymap(config: VlmConfig, outer: str, wrapper: str, decoder: str, head: str) -> KeyMap:
    """LLaVA's, and the newline beside the projector."""
    newline = Rule(f"{outer}image_newline", "image_newline")
    return llava.keymap(config, outer, wrapper, decoder, head) | KeyMap([newline])


def contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None, kind: str = TILED) -> Contract:
    """As of LLaVA, with tiles. `transformers` reads the canvases of both files, each for one half of the work.

    `kind` is the image processor's class.
    """
    side = config.vision.image_size[0]
    named = files.get("config.json", {}).get("image_grid_pinpoints") or PROCESSORS[kind]["image_grid_pinpoints"]
    if not image_processor(files):  # a bare model: its config alone says how pictures are cut
        files = with_image_processor(files, {"size": side, "crop_size": side, "image_grid_pinpoints": named})
    contract = llava.contract_from_hf(files, config, tokenizer, kind)
    image = contract.image
    if image.size != (side, side):
        raise unsupported("crop_size", image.size[0], f"the tower's image_size ({side})")
    if canvases(named, image.size) != image.tiling.canvases:
        message = f"those of the image processor: {[list(c) for c in image.tiling.canvases]}"
        raise unsupported("config.json: image_grid_pinpoints", named, message)
    return contract


def contract_to_hf(contract: Contract, config: VlmConfig) -> dict[str, Any]:
    """Processor files of both ages of `transformers`."""
    files = llava.contract_to_hf(contract, config, TILED)
    return files | {"processor_config.json": files["processor_config.json"] | {"processor_class": "LlavaNextProcessor"}}


def tiny() -> dict[str, Any]:
    """Both towers, several taps, four decoders."""
    return {name: config.replace(newline=True, keep_class=False) for name, config in llava.tiny().items()}


FAMILY = Family(
    name="llava_next",
    model_types=("llava_next",),
    config_from_hf=config_from_hf,
    layouts=llava.hf_layouts(keymap, config_to_hf),
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: isinstance(config, VlmConfig) and config.newline,
    modules="hf-c",
)
