"""The LLaVA authors' own layout (haotian-liu/LLaVA, LLaVA-VL/LLaVA-NeXT): a flat config with `mm_…` keys.

It often holds no tower, only its name; knows no image token (its code splits the text at the word); and often carries
no template: 1.5 was trained with Vicuna's conversation. The same layout serves LLaVA 1.0 and 1.5, LLaVA-NeXT (tiles:
``anyres``) and LLaVA-OneVision (``anyres_max_9``), which is also how they are told apart. Lists of canvases are read
width first. Of a SigLIP tower the authors' code drops the last block and reads what is left, whatever the config says.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract, ImageRule, Tiling
from eyespot.errors import EyespotError
from eyespot.families import forms, sidefiles
from eyespot.families.decoders import HEAD, decoder_rules, tied
from eyespot.families.family import Context, Json, unsupported
from eyespot.families.framing import counted_rule
from eyespot.families.towers import FORMS, form_of, vision_rules
from eyespot.inputs.templates import CHATML, VICUNA, with_images
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

# model_type: of the decoder that the rest of the flat config describes, and the class that it is published with.
_DECODERS = {"llava_llama": "llama", "llava_mistral": "mistral", "llava_qwen": "qwen2"}
_CLASSES = {
    "llava_llama": "LlavaLlamaForCausalLM", "llava_mistral": "LlavaMistralForCausalLM",
    "llava_qwen": "LlavaQwenForCausalLM",
}  # fmt: skip

# Width, depth, patch and picture of the towers that the authors' code knows by name.
_PUBLISHED = {
    (1024, 24, 14, 336): "openai/clip-vit-large-patch14-336",
    (1024, 24, 14, 224): "openai/clip-vit-large-patch14",
    (1152, 26, 14, 384): "google/siglip-so400m-patch14-384",
    (1152, 27, 14, 384): "google/siglip-so400m-patch14-384",
}
_TOWER = "model.vision_tower.vision_tower.vision_model."
# How a video's frames are pooled and ended: the one way that is supported.
_VIDEO = {"mm_spatial_pool_mode": "bilinear", "mm_spatial_pool_stride": 2, "mm_newline_position": "one_token"}
_VIDEO_TOKEN = "<video>"
FRAMES = 32  # of a film, in training and evaluation (Li et al. 2024, section 4)


def is_original(raw: Json) -> bool:
    """Whether a config.json is the authors' own."""
    keys = ("mm_vision_tower", "mm_projector_type", "mm_hidden_size")
    return "text_config" not in raw and any(key in raw for key in keys)


def absent(raw: Json, names: Collection[str]) -> dict[str, str]:
    """The tower is named; its weights are held only where it was tuned, its config only where eyespot wrote it.

    A folder with the projector alone (`mm_projector.bin`) lacks the decoder as well, and does not say which.
    """
    if not is_original(raw):
        return {}
    parts = {} if raw.get("vision_config") else {"vision_encoder": raw.get("mm_vision_tower") or ""}
    return parts if "model.embed_tokens.weight" in names else {"decoder": "", **parts}


def config_from(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """The flat config, with the tower's own from where that comes from."""
    merge, ratio = raw.get("mm_patch_merge_type") or "flat", raw.get("image_aspect_ratio") or "square"
    if merge not in ("flat", "spatial_unpad"):
        raise unsupported("mm_patch_merge_type", merge, "flat, spatial_unpad")
    if raw.get("mm_resampler_type"):
        raise unsupported("mm_resampler_type", raw["mm_resampler_type"], "none")
    if ratio not in ("square", "pad") and (merge == "flat" or _bound(ratio) is None):
        raise unsupported("image_aspect_ratio", ratio, "square, pad; anyres, anyres_max_N with spatial_unpad")
    stored = raw.get("vision_config") or {}
    tower = parts.get("vision_encoder") or _tower_form(stored).read(stored)
    layer = raw.get("mm_vision_select_layer", -2)
    if not isinstance(layer, int) or layer not in range(-tower.num_layers - 1, tower.num_layers + 1):
        raise unsupported("mm_vision_select_layer", layer, f"one within {tower.num_layers} layers")
    if not stored and not tower.class_token:
        tower, layer = _shortened(tower, names)
    decoder = parts.get("decoder") or forms.named(_DECODERS[_kind(raw)], "model_type").read(raw)
    if "decoder" not in parts and names:
        decoder = decoder.replace(tie_word_embeddings=tied(raw, names, "lm_head.weight", False))
    return VlmConfig(
        decoder=decoder,
        vision=tower,
        connector=ConnectorConfig(raw.get("mm_projector_type") or "linear", tower.hidden_size, decoder.hidden_size),
        select_layers=(layer,),
        keep_class=raw.get("mm_vision_select_feature", "patch") == "cls_patch" and tower.class_token,
        newline=merge == "spatial_unpad",
    )


def config_to(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse; the tower's config stands beside the authors' keys, which their code passes over."""
    tower, connector, image = config.vision, config.connector, context.image
    if len(config.select_layers) != 1 or not connector.bias:
        raise EyespotError("layout-unsupported", "the authors' LLaVA taps one layer, and its connector has biases")
    form = forms.expressing(config.decoder)
    kind = next((kind for kind, name in _DECODERS.items() if name == form.model_type), None)
    if kind is None:
        raise EyespotError("layout-unsupported", f"the authors' LLaVA has no {form.model_type} decoder")
    ratio = "pad" if image is not None and image.resize == "pad" else "square"
    own: dict[str, Any] = {"mm_patch_merge_type": "spatial_unpad"} if config.newline else {}
    if image is not None and image.tiling is not None:
        bound = image.tiling.shrink_to
        ratio = "anyres" if bound is None else f"anyres_max_{bound}"
        own["image_grid_pinpoints"] = [list(pair) for pair in image.tiling.ordered("width_height").pinpoints]
        own |= _VIDEO if context.video_token_id is not None else {}
    published = _PUBLISHED.get((tower.hidden_size, tower.num_layers, tower.patch_size, tower.image_size[0]), "")
    return form.write(config.decoder, context) | {
        "architectures": [_CLASSES[kind]], "model_type": kind, "mm_vision_tower": published,
        "mm_projector_type": connector.kind, "mm_hidden_size": tower.hidden_size,
        "mm_vision_select_layer": config.select_layers[0],
        "mm_vision_select_feature": "cls_patch" if config.keep_class else "patch",
        "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "image_aspect_ratio": ratio, "vision_config": form_of(tower).write(tower), **own,
    }  # fmt: skip


def keymap(config: VlmConfig) -> KeyMap:
    """The authors' names; the projector is a sequence whose activations count (0, 2, …), or one map."""
    places = [""] if config.connector.kind == "linear" else [f"{2 * i}." for i in range(config.connector.depth)]
    return KeyMap([
        *vision_rules(config.vision, _TOWER, "vision_encoder."),
        *(Rule(f"model.mm_projector.{place}{{}}", f"connector.layers.{i}.{{}}") for i, place in enumerate(places)),
        Rule("model.image_newline", "image_newline"),
        *decoder_rules(),
        HEAD,
    ])  # fmt: skip


def contract_from(contract: Contract, raw: Json, tokenizer: Tokenizer | None) -> Contract:
    """What the flat config changes in the contract of the tower's own processor."""
    text, ratio = contract.text, raw.get("image_aspect_ratio") or "square"
    image, rules = contract.image, {}
    if ratio == "pad" and image.resize != "pad":
        image = sidefiles.padded(image)
    if ratio in ("square", "pad"):
        newline = "once" if raw.get("mm_patch_merge_type") == "spatial_unpad" else "none"
        rules["image"] = image.replace(newline=newline)
    else:
        rules = _tiled(image, ratio, raw)
    marks = ("<im_start>", "<im_end>") if raw.get("mm_use_im_start_end") else ("", "")
    template, token = text.template, text.image_token
    if template is None:
        template = CHATML if _kind(raw) == "llava_qwen" else VICUNA
        template = template.replace(token, token.join(marks))
    own: dict[str, Any] = {"template": template, "image_token_id": tokenizer.id_of(token) if tokenizer else None}
    if rules.get("video") is not None:
        own |= {"video_token": _VIDEO_TOKEN, "video_token_id": tokenizer.id_of(_VIDEO_TOKEN) if tokenizer else None}
        if _VIDEO_TOKEN not in template:  # a text template, to which pictures and videos are words
            own["template"] = with_images(template, token.join(marks), _VIDEO_TOKEN)
    return contract.replace(**rules, text=text.replace(**own))


def untiled(rule: ImageRule) -> ImageRule:
    """The rule of the tower's own processor, which is all that this layout has a file for."""
    return rule.replace(tiling=None, newline="none")


def _tiled(image: ImageRule, ratio: str, raw: Json) -> dict[str, Any]:
    """Rules for a picture in tiles; with a bound on them also for several pictures and for videos (OneVision)."""
    whole = image.replace(resize="exact", shortest_edge=None, crop=False)
    bound = _bound(ratio) or None
    tiling = Tiling(_pinpoints(raw.get("image_grid_pinpoints"), image.size), "width_height", bound)
    rules: dict[str, Any] = {"image": whole.replace(tiling=tiling)}
    if bound is not None:
        rules["several"] = sidefiles.padded(whole).replace(newline="once")
        if all(raw.get(key, value) == value for key, value in _VIDEO.items()) and "mm_spatial_pool_mode" in raw:
            rules["video"] = whole.replace(pool=_VIDEO["mm_spatial_pool_stride"], newline="once")
            rules["frames"] = counted_rule({}, FRAMES, "ends_down", "steps")
    return rules


def _bound(ratio: Any) -> int | None:
    """Tiles of ``anyres_max_N``, 0 for ``anyres``, None for anything else."""
    match = re.fullmatch(r"anyres(?:_max_([1-9]\d{0,3}))?", ratio) if isinstance(ratio, str) else None
    return int(match[1] or 0) if match else None


def _pinpoints(value: Any, tile: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Canvases as pixels in the order written: a list, a list as text, or text in tiles, ``(1x1),...,(6x6)``."""
    pairs = value
    if isinstance(value, str):
        found = re.findall(r"[\[(]\s*(\d{1,5})\s*([,x])\s*(\d{1,5})\s*[\])]", value)
        in_tiles = any(sign == "x" for _, sign, _ in found)
        pairs = [(int(a), int(b)) for a, _, b in found]
        if "..." in value and len(pairs) == 2:
            (first, low), (last, high) = pairs
            if max(last, high) > 64:
                raise unsupported("image_grid_pinpoints", value, "up to 64 tiles on each side")
            pairs = [(a, b) for a in range(first, last + 1) for b in range(low, high + 1)]
        if in_tiles:
            pairs = [(a * tile[0], b * tile[1]) for a, b in pairs]
    return sidefiles.canvases(pairs, tile)


def _kind(raw: Json) -> str:
    """The decoder's own model type: some published configs say only ``llava``, and the class beside it."""
    named = raw.get("architectures")
    named = named[0] if isinstance(named, list) and named else None
    by_class = next((kind for kind, name in _CLASSES.items() if name == named), None)
    return raw["model_type"] if raw.get("model_type") in _DECODERS else by_class or "llava_llama"


def _shortened(tower: VitConfig, names: Collection[str]) -> tuple[VitConfig, int]:
    """A SigLIP tower as the checkpoint holds it, and the layer in it that the authors' code reads.

    With its attention head it is whole; without, the last block is gone too.
    """
    within = f"{_TOWER}encoder.layers."
    held = {int(name.removeprefix(within).split(".")[0]) for name in names if name.startswith(within)}
    if held:
        head = any(name.startswith(f"{_TOWER}head.") for name in names)
        tower = tower.replace(num_layers=max(held) + 1, pool=tower.pool if head else "none")
    return tower, -1 if tower.pool == "none" else -2


def _tower_form(stored: Json) -> Any:
    for form in FORMS:
        if form.model_type == stored.get("model_type"):
            return form
    raise unsupported("vision_config.model_type", stored.get("model_type"), ", ".join(f.model_type for f in FORMS))
