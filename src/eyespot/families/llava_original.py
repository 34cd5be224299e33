"""The LLaVA authors' own layout (haotian-liu/LLaVA, 1.0 and 1.5): a flat config with `mm_…` keys.

It often holds no tower, only its name; knows no image token (its code splits the text at the word); and carries no
template: 1.5 was trained with Vicuna's conversation. LLaVA 1.6 (anyres) is another model and is refused.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import forms, sidefiles
from eyespot.families.decoders import HEAD, decoder_rules
from eyespot.families.family import Context, Json, unsupported
from eyespot.families.towers import FORMS, form_of, vision_rules
from eyespot.inputs.templates import VICUNA
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

# model_type: of the decoder that the rest of the flat config describes.
_DECODERS = {"llava_llama": "llama", "llava": "llama", "llava_mistral": "mistral", "llava_qwen": "qwen2"}

# Width, depth, patch and picture of the towers that the authors' code knows by name.
_PUBLISHED = {
    (1024, 24, 14, 336): "openai/clip-vit-large-patch14-336",
    (1024, 24, 14, 224): "openai/clip-vit-large-patch14",
}


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
    if raw.get("mm_patch_merge_type", "flat") != "flat":
        raise unsupported("mm_patch_merge_type", raw["mm_patch_merge_type"], "flat (LLaVA 1.0 and 1.5)")
    if raw.get("image_aspect_ratio", "square") not in ("square", "pad", None):
        raise unsupported("image_aspect_ratio", raw["image_aspect_ratio"], "square, pad (LLaVA 1.0 and 1.5)")
    stored = raw.get("vision_config") or {}
    tower = parts.get("vision_encoder") or _tower_form(stored).read(stored)
    decoder = parts.get("decoder") or forms.named(_DECODERS[raw["model_type"]], "model_type").read(raw)
    if "decoder" not in parts and names:
        decoder = decoder.replace(tie_word_embeddings="lm_head.weight" not in names)
    return VlmConfig(
        decoder=decoder,
        vision=tower,
        connector=ConnectorConfig(raw.get("mm_projector_type") or "linear", tower.hidden_size, decoder.hidden_size),
        select_layers=(raw.get("mm_vision_select_layer", -2),),
        keep_class=raw.get("mm_vision_select_feature", "patch") == "cls_patch" and tower.class_token,
    )


def config_to(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse; the tower's config stands beside the authors' keys, which their code passes over."""
    tower, connector = config.vision, config.connector
    if len(config.select_layers) != 1 or not connector.bias:
        raise EyespotError("layout-unsupported", "the authors' LLaVA taps one layer, and its connector has biases")
    form = forms.expressing(config.decoder)
    kind = next((kind for kind, name in _DECODERS.items() if name == form.model_type), None)
    if kind is None:
        raise EyespotError("layout-unsupported", f"the authors' LLaVA has no {form.model_type} decoder")
    pad = context.image is not None and context.image.resize == "pad"
    published = _PUBLISHED.get((tower.hidden_size, tower.num_layers, tower.patch_size, tower.image_size[0]), "")
    return form.write(config.decoder, context) | {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": kind, "mm_vision_tower": published,
        "mm_projector_type": connector.kind, "mm_hidden_size": tower.hidden_size,
        "mm_vision_select_layer": config.select_layers[0],
        "mm_vision_select_feature": "cls_patch" if config.keep_class else "patch",
        "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad" if pad else "square", "vision_config": form_of(tower).write(tower),
    }  # fmt: skip


def keymap(config: VlmConfig) -> KeyMap:
    """The authors' names; the projector is a sequence whose activations count (0, 2, …), or one map."""
    places = [""] if config.connector.kind == "linear" else [f"{2 * i}." for i in range(config.connector.depth)]
    return KeyMap([
        *vision_rules(config.vision, "model.vision_tower.vision_tower.vision_model.", "vision_encoder."),
        *(Rule(f"model.mm_projector.{place}{{}}", f"connector.layers.{i}.{{}}") for i, place in enumerate(places)),
        *decoder_rules(),
        HEAD,
    ])  # fmt: skip


def contract_from(contract: Contract, raw: Json, tokenizer: Tokenizer | None) -> Contract:
    """What the flat config changes in the contract of the tower's own processor."""
    image, text = contract.image, contract.text
    if raw.get("image_aspect_ratio") == "pad" and image.resize != "pad":
        image = sidefiles.padded(image)
    marks = ("<im_start>", "<im_end>") if raw.get("mm_use_im_start_end") else ("", "")
    template = text.template or VICUNA.replace(text.image_token, text.image_token.join(marks))
    token_id = tokenizer.id_of(text.image_token) if tokenizer else None
    return contract.replace(image=image, text=text.replace(template=template, image_token_id=token_id))


def _tower_form(stored: Json) -> Any:
    for form in FORMS:
        if form.model_type == stored.get("model_type"):
            return form
    raise unsupported("vision_config.model_type", stored.get("model_type"), ", ".join(f.model_type for f in FORMS))
