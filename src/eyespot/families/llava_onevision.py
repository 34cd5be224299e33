"""LLaVA-OneVision (Li et al. 2024): LLaVA-NeXT for one picture, several, and videos.

What differs: 36 canvases of up to six by six tiles, with a bound on the map of their features (``anyres_max_9``). Of
several pictures in a conversation none is cut: each is padded to a square and followed by the newline. Frames of a
video are squeezed to one tile, their features scaled down to half, and the newline follows the last. Published with
SigLIP without its last block, and Qwen2. Numerics: `transformers` modeling_llava_onevision.py.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import llava, llava_next, sidefiles
from eyespot.families.family import Context, Family, Files, Json, section, unsupported
from eyespot.families.framing import counted_keys, counted_rule
from eyespot.families.llava_original import FRAMES
from eyespot.families.sidefiles import CLIP_MEAN, CLIP_STD, PROCESSORS, TILED_ALONE
from eyespot.families.towers import SIGLIP_VISION
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.vlm import VlmConfig

IMAGE_TOKEN_ID, VIDEO_TOKEN, VIDEO_TOKEN_ID = 151646, "<video>", 151647
_PINPOINTS = PROCESSORS[TILED_ALONE]["image_grid_pinpoints"]
_RATIO = "anyres_max_9"
_POOL = 2
_VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 14, "image_size": 384, "num_hidden_layers": 26,
    "num_attention_heads": 16, "vision_use_head": False,
}  # fmt: skip
_VIDEO = {  # what the published class does with keys that its file leaves out
    "size": {"height": 384, "width": 384}, "resample": 3, "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
}  # fmt: skip


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """As of LLaVA with other defaults, and with the newline."""
    config = llava.config_from_hf(_filled(raw), names, parts)
    if config.keep_class:
        strategy = raw.get("vision_feature_select_strategy", "full")
        raise unsupported("vision_feature_select_strategy", strategy, "default, for a tower with a class token")
    return config.replace(newline=True)


def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse; the canvases stand in this file as well as in the processor's, and the bound in this one."""
    tiling = context.image.tiling if context.image else None
    if tiling is not None and tiling.shrink_to is None:
        raise EyespotError("layout-unsupported", "LLaVA-OneVision bounds the map (contract.image.tiling.shrink_to)")
    video = context.video_token_id
    return llava.config_to_hf(config.replace(newline=False), context) | {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "model_type": "llava_onevision",
        "image_token_index": IMAGE_TOKEN_ID if context.image_token_id is None else context.image_token_id,
        "video_token_index": context.id_of(VIDEO_TOKEN, VIDEO_TOKEN_ID) if video is None else video,
        "image_grid_pinpoints": [list(canvas) for canvas in (tiling.canvases if tiling else _PINPOINTS)],
        "vision_aspect_ratio": f"anyres_max_{tiling.shrink_to}" if tiling else _RATIO,
    }  # fmt: skip


def contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
    """As of LLaVA-NeXT, with the bound, and the rules for several pictures and for videos."""
    raw, processor = _filled(files.get("config.json", {})), files.get("processor_config.json", {})
    contract = llava_next.contract_from_hf({**files, "config.json": raw}, config, tokenizer, TILED_ALONE)
    ratio = raw["vision_aspect_ratio"]
    bound, counted = _bound(ratio), processor.get("vision_aspect_ratio", ratio)
    if counted != ratio:
        raise unsupported("processor_config.json: vision_aspect_ratio", counted, f"that of config.json: {ratio}")
    image = contract.image
    image = image.replace(tiling=image.tiling.replace(shrink_to=bound))
    several = sidefiles.padded(image).replace(newline="once")
    token = processor.get("video_token") or files.get("tokenizer_config.json", {}).get("video_token") or VIDEO_TOKEN
    if not isinstance(token, str):
        raise unsupported("video_token", token, "text")
    contract = contract.replace(image=image, several=several)
    if tokenizer is not None:
        if tokenizer.id_of(token) is None:
            return contract
        check_image_token(token, raw["video_token_index"], tokenizer, config, "video_token_index")
    text = contract.text.replace(video_token=token, video_token_id=raw["video_token_index"])
    frames = counted_rule(sidefiles.video_processor(files), FRAMES, "ends_down", "steps")
    return contract.replace(text=text, video=_video_rule(files, config), frames=frames)


def contract_to_hf(contract: Contract, config: VlmConfig) -> dict[str, Any]:
    """Processor files that every version of `transformers` reads."""
    tower, text, tiling = config.vision, contract.text, contract.image.tiling
    files = llava.contract_to_hf(contract, config, TILED_ALONE)
    own = files["processor_config.json"]
    del own["patch_size"], own["num_additional_image_tokens"]
    own |= {
        "processor_class": "LlavaOnevisionProcessor", "num_image_tokens": tower.grid[0] * tower.grid[1],
        "vision_aspect_ratio": f"anyres_max_{tiling.shrink_to}" if tiling else _RATIO,
    }  # fmt: skip
    own["num_image_tokens"] += tower.class_token  # from which they subtract it again
    if contract.video is not None:
        own["video_token"] = text.video_token
        frames = sidefiles.image_files(contract.video, SIGLIP_VISION.processor)["preprocessor_config.json"]
        del frames["image_processor_type"]
        frames |= counted_keys(contract.frames)
        files["video_preprocessor_config.json"] = frames | {"video_processor_type": "LlavaOnevisionVideoProcessor"}
    return files


def tiny() -> dict[str, Any]:
    """Both towers, with sides that the published canvases divide by."""
    own, found = {"image_size": (32, 32), "patch_size": 8}, llava.tiny()
    return {
        name: found[name].replace(newline=True, select_layers=layers, vision=found[name].vision.replace(**own))
        for name, layers in (("siglip-qwen3", (-1,)), ("clip-qwen2", (-2,)))
    }


def _filled(raw: Json) -> dict[str, Any]:
    """A config with the defaults that differ from LLaVA's."""
    return {
        "image_token_index": raw.get("image_token_id", IMAGE_TOKEN_ID),
        "video_token_index": raw.get("video_token_id", VIDEO_TOKEN_ID), "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full", "vision_aspect_ratio": _RATIO, **raw,
        "vision_config": {"model_type": SIGLIP_VISION.model_type, **(section(raw, "vision_config") or _VISION)},
        "text_config": {"model_type": "qwen2", **section(raw, "text_config")},
    }  # fmt: skip


def _bound(ratio: Any) -> int:
    """Tiles of ``anyres_max_N``."""
    match = re.fullmatch(r"anyres_max_([1-9]\d{0,3})", ratio) if isinstance(ratio, str) else None
    if match is None:
        raise unsupported("vision_aspect_ratio", ratio, "anyres_max_N with N from 1 to 9,999")
    return int(match[1])


def _video_rule(files: Files, config: VlmConfig) -> ImageRule:
    """Frames squeezed to one tile; where the checkpoint has no file for them, the picture's own settings count."""
    tower, kind = config.vision, SIGLIP_VISION.processor
    raw = sidefiles.video_processor(files)
    raw = {**_VIDEO, **(raw or {"size": tower.image_size[0]}), "image_processor_type": kind, "do_pad": False}
    rule = sidefiles.image_rule(
        {"preprocessor_config.json": raw}, kind, patch_size=tower.patch_size, image_size=tower.image_size
    )
    if rule.size != tower.image_size:
        raise unsupported("video processor: size", raw["size"], f"the tower's image_size ({tower.image_size[0]})")
    return rule.replace(pool=_POOL, newline="once")


FAMILY = Family(
    name="llava_onevision",
    model_types=("llava_onevision",),
    config_from_hf=config_from_hf,
    layouts=llava.hf_layouts(llava_next.keymap, config_to_hf),
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=llava_next.FAMILY.holds,
    modules="hf-c",
)
