"""The InternVL authors' own layout (OpenGVLab/InternVL, Chat 1.1 to 3.5): ``internvl_chat``.

Everything about pictures stands in config.json, the prompt's form by its name; what processor and template files lie
beside are not what the authors' code uses. Chat 1.1 and 1.2 have the pixel shuffle that puts blocks column by column
(``ps_version: v1``). Decoders: Llama's, Qwen2's, Qwen3's forms, and InternLM2.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import AspectTiling, Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import aspect_files, forms, internlm2, internvl_prompts, sidefiles
from eyespot.families.decoders import canonical, decoder_rules
from eyespot.families.family import MAX_SIDE, Context, Files, Json, differences, section, unsupported
from eyespot.families.intern_towers import AUTHORS_TOWER, authors_rules
from eyespot.families.internvl_model import (
    IMAGE_TOKEN,
    IMAGE_TOKEN_ID,
    VIDEO_TOKEN,
    block_side,
    joined,
    parts_of,
    written_media,
)  # fmt: skip
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

MODEL_TYPE = "internvl_chat"
_DECODERS = {
    "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
    "InternLM2ForCausalLM": "internlm2",
}  # fmt: skip
_ORDERS = {"v1": "columns", "v2": "rows"}
# Keys that the contract decides, and what the authors' class makes of their absence.
OF_CONTRACT: dict[str, Any] = {
    "dynamic_image_size": False, "use_thumbnail": False, "ps_version": "v1", "min_dynamic_patch": 1,
    "max_dynamic_patch": 6, "pad2square": False, "force_image_size": None, "template": None, "system_message": None,
}  # fmt: skip


def is_original(raw: Json) -> bool:
    """Whether a config.json is the authors' own."""
    return raw.get("model_type") == MODEL_TYPE


def config_from(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """Their config as ours."""
    for key in ("use_llm_lora", "use_backbone_lora"):
        if raw.get(key) and any(".lora_A." in name for name in names):
            raise unsupported(key, raw[key], "0: adapters that are merged")
    text = section(raw, "llm_config")
    kind = _decoder(text)
    decoder = internlm2.read(text) if kind == "internlm2" else forms.named(kind, "llm_config.model_type").read(text)
    tower = AUTHORS_TOWER.read(section(raw, "vision_config"))
    layer = raw.get("select_layer", -1)
    if not isinstance(layer, int) or layer not in range(-tower.num_layers - 1, tower.num_layers + 1):
        raise unsupported("select_layer", layer, f"one within {tower.num_layers} layers")
    heads = {"language_model.lm_head.weight", "language_model.output.weight"}
    tie = bool(names) and not heads & set(names) and "tie_word_embeddings" not in raw
    return joined(decoder.replace(tie_word_embeddings=tie), tower, block_side(raw, tower), layer)


def _decoder(text: Json) -> str:
    named = text.get("architectures") or []
    kind = _DECODERS.get(named[0]) if isinstance(named, list) and named else text.get("model_type")
    if not isinstance(kind, str) or kind not in _DECODERS.values():
        raise unsupported("llm_config.architectures", named or text.get("model_type"), ", ".join(_DECODERS))
    return kind


def config_to(config: VlmConfig, context: Context, fused: bool = False) -> dict[str, Any]:
    """The inverse; `fused`: the decoder under InternLM2's names.

    Raises:
        EyespotError: ``layout-unsupported`` naming what this form cannot express.
    """
    tower, connector = parts_of(config)
    if config.decoder.tie_word_embeddings:
        raise EyespotError("layout-unsupported", "the authors' InternVL never shares its head with the embedding table")
    form = internlm2.FORM if fused else forms.expressing(config.decoder)
    if form.architecture not in _DECODERS:
        raise EyespotError("layout-unsupported", f"the authors' InternVL has no {form.model_type} decoder")
    text = (internlm2 if fused else form).write(config.decoder, context)
    raw = {
        "architectures": ["InternVLChatModel"], "model_type": MODEL_TYPE, "downsample_ratio": 1 / connector.merge_size,
        "select_layer": config.select_layers[0], "tie_word_embeddings": False, "use_backbone_lora": 0,
        "use_llm_lora": 0, **_written_rule(context.image, tower.image_size[0]), **_written_prompt(context.template),
        "llm_config": {"architectures": [form.architecture], **text}, "vision_config": AUTHORS_TOWER.write(tower),
    }  # fmt: skip
    lost = differences(config.replace(decoder=canonical(config.decoder)), config_from(raw, (), {}))
    if lost:
        raise EyespotError("layout-unsupported", f"{MODEL_TYPE} cannot express {'; '.join(lost)}")
    return raw


def _written_rule(rule: ImageRule | None, side: int) -> dict[str, Any]:
    """What config.json says of pictures; a rule that it cannot say reads back as another and is refused then."""
    tiling = AspectTiling() if rule is None else rule.aspect_tiling
    bounds = tiling or AspectTiling(OF_CONTRACT["min_dynamic_patch"], OF_CONTRACT["max_dynamic_patch"], False)
    return {
        "dynamic_image_size": tiling is not None, "use_thumbnail": bounds.thumbnail,
        "min_dynamic_patch": bounds.least, "max_dynamic_patch": bounds.most,
        "ps_version": "v2" if rule is None or rule.block_order == "rows" else "v1",
        "pad2square": rule is not None and rule.resize == "pad",
        "force_image_size": side if rule is None else rule.size[0],
    }  # fmt: skip


def _written_prompt(template: str | None) -> dict[str, Any]:
    name, system = (None, None) if template is None else internvl_prompts.named(template)
    return {"template": name} | ({} if system is None else {"system_message": system})


def keymap(config: VlmConfig, fused: bool = False) -> KeyMap:
    """The authors' names; the connector is a sequence in which the activation counts."""
    head = Rule("language_model.lm_head.weight", "lm_head.weight")
    plain = [*decoder_rules("language_model."), head]
    return KeyMap([
        *authors_rules(config.vision, "vision_model.", "vision_encoder."),
        Rule("mlp1.0.{}", "connector.norm.{}"), Rule("mlp1.1.{}", "connector.layers.0.{}"),
        Rule("mlp1.3.{}", "connector.layers.1.{}"),
        *(internlm2.rules(config.decoder, "language_model.") if fused else plain),
    ])  # fmt: skip


def contract_from(files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
    """The rule of pictures and the prompt that config.json names; an answer ends where the authors' code ends it."""
    raw = {**OF_CONTRACT, **files["config.json"]}
    token_id = IMAGE_TOKEN_ID
    if tokenizer is not None:
        own = tokenizer.id_of(IMAGE_TOKEN)
        token_id = -1 if own is None else own
        check_image_token(IMAGE_TOKEN, token_id, tokenizer, config)
    text = sidefiles.text_rule(
        files, tokenizer, (), image_token=IMAGE_TOKEN, image_token_id=token_id, **written_media(IMAGE_TOKEN),
        video_token=VIDEO_TOKEN,
    )  # fmt: skip
    if raw["template"] is not None:
        template = internvl_prompts.prompt(raw["template"], raw["system_message"])
        text = text.replace(template=template, stop_tokens=_stops(files, raw["template"], tokenizer))
    image = _image_rule(raw, config)
    frame = image.replace(aspect_tiling=None, resize="exact", pad_color=(0, 0, 0))
    frames = aspect_files.frame_rule({})
    return Contract(image=image, text=text, coordinates="thousand", video=frame, frames=frames)


def _stops(files: Files, name: str, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """The prompt's own end behind those of generation_config.json; the decoder's config speaks of the decoder alone."""
    said = sidefiles.stop_tokens({"generation_config.json": files.get("generation_config.json", {})})
    own = tokenizer.id_of(internvl_prompts.end_token(name)) if tokenizer is not None else None
    return said if own is None or own in said else (*said, own)


def _image_rule(raw: Json, config: VlmConfig) -> ImageRule:
    if raw["ps_version"] not in _ORDERS:
        raise unsupported("ps_version", raw["ps_version"], ", ".join(_ORDERS))
    tower, connector = parts_of(config)
    side = tower.image_size[0] if raw["force_image_size"] is None else raw["force_image_size"]
    block = tower.patch_size * connector.merge_size
    if not isinstance(side, int) or isinstance(side, bool) or not block <= side <= MAX_SIDE or side % block:
        raise unsupported("force_image_size", side, f"a multiple of {block}, up to {MAX_SIDE:,}")
    bounds = [raw["min_dynamic_patch"], raw["max_dynamic_patch"]]
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in bounds):
        raise unsupported("max_dynamic_patch", bounds, "whole numbers of tiles")
    dynamic = bool(raw["dynamic_image_size"])
    padded = bool(raw["pad2square"]) and not dynamic  # tiles are squares
    mean = sidefiles.IMAGENET_MEAN
    return ImageRule.from_dict({
        "size": (side, side), "resize": "pad" if padded else "exact", "crop": False, "mean": mean,
        "std": sidefiles.IMAGENET_STD, "patch_size": tower.patch_size, "merge_size": connector.merge_size,
        "block_order": _ORDERS[raw["ps_version"]],
        "pad_color": [int(m * 255) for m in mean] if padded else (0, 0, 0),
        "aspect_tiling": AspectTiling(*bounds, bool(raw["use_thumbnail"])) if dynamic else None,
    }, "config.json")  # fmt: skip
