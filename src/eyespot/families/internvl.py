"""InternVL (Chen et al. 2023 to 2025), in Hugging Face's layout (2.5 to 3.5) and the authors': InternViT, a decoder.

A picture is cut into tiles by aspect ratio, and of each tile's patches the four of a block become one token. The image
rule cuts patches in such blocks, hence the shuffle is a reshape in the connector. A video is read frame by frame, each
introduced by its number. Decoders are Qwen2's, Qwen3's and, for InternLM2 converted, Llama's.
Numerics: `transformers` modeling_internvl.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import aspect_files, forms, internvl_original, llama, qwen2, qwen3, sidefiles
from eyespot.families.decoders import canonical, decoder_rules
from eyespot.families.family import Context, Family, Files, Json, Layout, differences, section, unsupported
from eyespot.families.intern_towers import HF_TOWER, hf_rules
from eyespot.families.internvl_model import (
    END,
    IMAGE_TOKEN,
    IMAGE_TOKEN_ID,
    START,
    VIDEO_TOKEN,
    block_side,
    joined,
    parts_of,
    written_media,
)  # fmt: skip
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

_TEMPLATES = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """Their config as ours, in either layout."""
    if internvl_original.is_original(raw):
        return internvl_original.config_from(raw, names, parts)
    text = section(raw, "text_config")
    decoder = forms.named(text.get("model_type", "qwen2"), "text_config.model_type").read(text)
    tower = HF_TOWER.read(section(raw, "vision_config"))
    for key, known in (("projector_hidden_act", "gelu"), ("vision_feature_select_strategy", "default")):
        if raw.get(key, known) != known:
            raise unsupported(key, raw[key], known)
    layer, said = raw.get("vision_feature_layer", -1), "tie_word_embeddings" in raw
    if not isinstance(layer, int) or layer not in range(-tower.num_layers - 1, tower.num_layers + 1):
        raise unsupported("vision_feature_layer", layer, f"one within {tower.num_layers} layers")
    tie = bool(raw.get("tie_word_embeddings", True))  # the outer key alone, and by default
    if names:
        head = {"lm_head.weight", "language_model.lm_head.weight"} & set(names)
        tie = not head and (tie or not said)
    return joined(decoder.replace(tie_word_embeddings=tie), tower, block_side(raw, tower), layer)


def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse.

    Raises:
        EyespotError: ``layout-unsupported`` naming what this form cannot express.
    """
    tower, connector = parts_of(config)
    image = context.image
    size = image.size[0] if image is not None else tower.image_size[0]
    raw = {
        "architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl",
        "image_token_id": IMAGE_TOKEN_ID if context.image_token_id is None else context.image_token_id,
        "image_seq_length": (size // tower.patch_size // connector.merge_size) ** 2,
        "downsample_ratio": 1 / connector.merge_size, "projector_hidden_act": "gelu",
        "vision_feature_layer": config.select_layers[0], "vision_feature_select_strategy": "default",
        "tie_word_embeddings": config.decoder.tie_word_embeddings,
        "text_config": forms.expressing(config.decoder).write(config.decoder, context),
        "vision_config": HF_TOWER.write(tower),
    }  # fmt: skip
    lost = differences(config.replace(decoder=canonical(config.decoder)), config_from_hf(raw, (), {}))
    if lost:
        raise EyespotError("layout-unsupported", f"internvl cannot express {'; '.join(lost)}")
    return raw


def keymap(config: VlmConfig, outer: str, decoder: str, head: str) -> KeyMap:
    """Names below a prefix of everything, with the places of the decoder and of the head."""
    return KeyMap([
        *hf_rules(config.vision, f"{outer}vision_tower.", "vision_encoder."),
        Rule(f"{outer}multi_modal_projector.layer_norm.{{}}", "connector.norm.{}"),
        Rule(f"{outer}multi_modal_projector.linear_1.{{}}", "connector.layers.0.{}"),
        Rule(f"{outer}multi_modal_projector.linear_2.{{}}", "connector.layers.1.{}"),
        *decoder_rules(prefix=decoder), Rule(head, "lm_head.weight"),
    ])  # fmt: skip


def contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
    """Rules of the processor's files; how media are written is fixed but for the names of their tokens."""
    if internvl_original.is_original(files.get("config.json", {})):
        return internvl_original.contract_from(files, config, tokenizer)
    token_id = files.get("config.json", {}).get("image_token_id", IMAGE_TOKEN_ID)
    token, start, end, video_token = (
        _named(files, key, published)
        for key, published in (
            ("context_image_token", IMAGE_TOKEN), ("start_image_token", START), ("end_image_token", END),
            ("video_token", VIDEO_TOKEN),
        )
    )  # fmt: skip
    if tokenizer is not None:
        check_image_token(token, token_id, tokenizer, config)
    text = sidefiles.text_rule(
        files, tokenizer, _TEMPLATES, image_token=token, image_token_id=token_id,
        video_token=video_token,
        **written_media(token, start, end),
    )  # fmt: skip
    image = aspect_files.image_rule(files, config)
    aspect_files.check_sequence(files, image)
    video, frames = aspect_files.video_rule(files, config), aspect_files.frame_rule(files)
    return Contract(image=image, text=text, coordinates="thousand", video=video, frames=frames)


def _named(files: Files, key: str, published: str) -> str:
    """A token that the tokenizer's config names, in the spellings of several versions."""
    raw = files.get("tokenizer_config.json", {})
    extra = raw.get("extra_special_tokens")
    found = raw.get(key) or (extra.get(key) if isinstance(extra, Mapping) else None) or published
    found = found.get("content") if isinstance(found, Mapping) else found
    if not isinstance(found, str) or not found:
        raise unsupported(f"tokenizer_config.json: {key}", found, "text")
    return found


def contract_to_hf(contract: Contract, config: VlmConfig) -> dict[str, Any]:
    """Processor files that both ages of `transformers` read."""
    if contract.image is None:
        raise EyespotError("layout-unsupported", "InternVL takes pictures (contract.image)")
    return aspect_files.files_of(contract.image, contract.video, contract.frames) | sidefiles.template_files(
        contract.text.template
    )


def tiny() -> dict[str, Any]:
    """Both towers, three decoders, tied and not."""
    small = VitConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, image_size=(56, 56), patch_size=14,
        class_token=True, interpolate_positions=True, layer_scale=True,
    )  # fmt: skip
    large = small.replace(norm="rms", qkv_bias=False, qk_norm_eps=1e-6)
    texts = {f.name: f.tiny() for f in (llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY)}
    return {
        "small-qwen2": joined(texts["qwen2"]["tied"].decoder, small, 2),
        "large-qwen3": joined(texts["qwen3"]["plain"].decoder, large, 2),
        "small-llama": joined(texts["llama"]["plain"].decoder, small, 4, -2),
    }


def _original(fused: bool) -> Layout:
    """The authors' layout, with the decoder under Llama's names or, fused, under InternLM2's."""
    return Layout(
        lambda config: internvl_original.keymap(config, fused),
        lambda config, context: internvl_original.config_to(config, context, fused),
        contract_to_hf=lambda contract, config: {}, of_contract=internvl_original.OF_CONTRACT,
    )  # fmt: skip


_HF = {
    # Hub files and what v5 writes; names in memory since 4.52.
    "hf": Layout(
        lambda config: keymap(config, "", "language_model.model.", "language_model.lm_head.weight"), config_to_hf
    ),
    "hf-c": Layout(lambda config: keymap(config, "model.", "model.language_model.", "lm_head.weight"), config_to_hf),
}
_ORIGINAL = {"original": _original(fused=False), "original-internlm2": _original(fused=True)}
FAMILY = Family(
    name="internvl",
    model_types=("internvl", internvl_original.MODEL_TYPE),
    config_from_hf=config_from_hf,
    layouts=_HF | _ORIGINAL,
    recognise=lambda raw: tuple(_ORIGINAL if internvl_original.is_original(raw) else _HF),
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: (
        isinstance(config, VlmConfig)
        and isinstance(config.vision, VitConfig)
        and config.connector is not None
        and config.connector.norm_joined
    ),
)
