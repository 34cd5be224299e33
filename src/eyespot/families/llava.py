"""LLaVA 1.0 and 1.5 (Liu et al. 2023): a CLIP or SigLIP tower tapped before its last block, two linear maps, a decoder.

Hugging Face wrote this family in four ways (§ layouts below); the authors' own layout often holds no tower and knows no
image token. Layers behind the tap are kept. Numerics: `transformers` modeling_llava.py; haotian-liu/LLaVA for the rest.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import forms, llama, llava_original, mistral, qwen2, qwen3, sidefiles
from eyespot.families.clip import tiny as tiny_clip
from eyespot.families.decoders import decoder_rules
from eyespot.families.family import Context, Family, Files, Json, Layout, section, unsupported
from eyespot.families.siglip import tiny as tiny_siglip
from eyespot.families.towers import CLIP_VISION, FORMS, form_of, vision_rules
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

_DEFAULT_VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """Hugging Face's nested config, or the authors' flat one."""
    if llava_original.is_original(raw):
        return llava_original.config_from(raw, names, parts)
    text = section(raw, "text_config")
    decoder = forms.named(text.get("model_type", "llama"), "text_config.model_type").read(text)
    vision = section(raw, "vision_config") or _DEFAULT_VISION
    kind = vision.get("model_type", CLIP_VISION.model_type)
    form = next((f for f in FORMS if f.model_type == kind), None)
    if form is None:
        raise unsupported("vision_config.model_type", kind, ", ".join(f.model_type for f in FORMS))
    tower = form.read(vision)
    if raw.get("projector_hidden_act", "gelu") != "gelu":
        raise unsupported("projector_hidden_act", raw["projector_hidden_act"], "gelu")
    strategy = raw.get("vision_feature_select_strategy", "default")
    if strategy not in ("default", "full"):
        raise unsupported("vision_feature_select_strategy", strategy, "default or full")
    if strategy == "default" and not tower.class_token:
        raise unsupported("vision_feature_select_strategy", strategy, "full, as this tower has no class token to drop")
    layers = raw.get("vision_feature_layer", -2)
    layers = tuple(layers) if isinstance(layers, list) else (layers,)
    known = range(-tower.num_layers - 1, tower.num_layers + 1)
    if not layers or not all(isinstance(layer, int) and layer in known for layer in layers):
        raise unsupported("vision_feature_layer", raw["vision_feature_layer"], f"within {tower.num_layers} layers")
    tie = bool(raw.get("tie_word_embeddings")) or decoder.tie_word_embeddings
    if names:
        tie = not _has_head(names) and (tie or not {"tie_word_embeddings"} & (raw.keys() | text.keys()))
    bias = raw.get("multimodal_projector_bias", True)
    return VlmConfig(
        decoder=decoder.replace(tie_word_embeddings=tie),
        vision=tower,
        connector=ConnectorConfig("mlp2x_gelu", tower.hidden_size * len(layers), decoder.hidden_size, bias),
        select_layers=layers,
        keep_class=strategy == "full" and tower.class_token,
    )


def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
    """Hugging Face's nested config; its projector is always two biased or unbiased maps with GELU."""
    tower, connector = _parts_of(config)
    if connector.kind != "mlp2x_gelu":
        raise EyespotError("layout-unsupported", f"Hugging Face's LLaVA has no connector of kind {connector.kind!r}")
    if config.newline:
        raise EyespotError("layout-unsupported", "Hugging Face's LLaVA has no embedding that ends rows (image_newline)")
    layers = config.select_layers
    full = config.keep_class or not tower.class_token
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "image_token_index": context.image_token_id,
        "image_seq_length": tower.grid[0] * tower.grid[1] + config.keep_class,
        "projector_hidden_act": "gelu", "multimodal_projector_bias": connector.bias,
        "vision_feature_layer": layers[0] if len(layers) == 1 else list(layers),
        "vision_feature_select_strategy": "full" if full else "default",
        "tie_word_embeddings": config.decoder.tie_word_embeddings,
        "text_config": forms.expressing(config.decoder).write(config.decoder, context),
        "vision_config": form_of(tower).write(tower),
    }  # fmt: skip


def keymap(config: VlmConfig, outer: str, wrapper: str, decoder: str, head: str) -> KeyMap:
    """One of Hugging Face's four: a prefix of everything, the tower's wrapper, the decoder's and the head's place."""
    return KeyMap([
        *vision_rules(config.vision, f"{outer}vision_tower.{wrapper}", "vision_encoder."),
        Rule(f"{outer}multi_modal_projector.linear_1.{{}}", "connector.layers.0.{}"),
        Rule(f"{outer}multi_modal_projector.linear_2.{{}}", "connector.layers.1.{}"),
        *decoder_rules(prefix=decoder),
        Rule(head, "lm_head.weight"),
    ])  # fmt: skip


def contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None, kind: str | None = None) -> Contract:
    """Image rule of the processor's files; how many places a picture takes follows from the model's own config.

    `kind` is the image processor's class where no file names one; None: the tower's own.
    """
    raw, processor = files.get("config.json", {}), files.get("processor_config.json", {})
    tower = config.vision
    image = sidefiles.image_rule(
        files, kind or form_of(tower).processor, patch_size=tower.patch_size, image_size=tower.image_size,
        extra_tokens=int(config.keep_class),
    )  # fmt: skip
    token = processor.get("image_token") or files.get("tokenizer_config.json", {}).get("image_token") or "<image>"
    order = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")
    if not isinstance(token, str):
        raise unsupported("image_token", token, "text")
    token_id = raw.get("image_token_index", raw.get("image_token_id", 32000))
    if tokenizer is not None and not llava_original.is_original(raw):
        check_image_token(token, token_id, tokenizer, config)
    text = sidefiles.text_rule(files, tokenizer, order, image_token=token, image_token_id=token_id)
    contract = Contract(image=image, text=text)
    return llava_original.contract_from(contract, raw, tokenizer) if llava_original.is_original(raw) else contract


def contract_to_hf(contract: Contract, config: VlmConfig, kind: str | None = None) -> dict[str, Any]:
    """Processor files of both ages of `transformers`; `kind` as of `contract_from_hf`."""
    image = contract.image if kind else llava_original.untiled(contract.image)
    files = sidefiles.image_files(image, kind or form_of(config.vision).processor)
    full = config.keep_class or not config.vision.class_token
    files["processor_config.json"] = {
        "processor_class": "LlavaProcessor", "image_token": contract.text.image_token,
        "patch_size": config.vision.patch_size, "num_additional_image_tokens": int(config.vision.class_token),
        "vision_feature_select_strategy": "full" if full else "default",
    }  # fmt: skip
    return files | sidefiles.template_files(contract.text.template)


def _parts_of(config: VlmConfig) -> tuple[Any, ConnectorConfig]:
    if not isinstance(config.vision, VitConfig) or config.connector is None:
        message = "LLaVA needs a vision encoder for pictures of one size, and a connector; this model has none"
        raise EyespotError("layout-unsupported", message)
    return config.vision, config.connector


def _has_head(names: Collection[str]) -> bool:
    return "lm_head.weight" in names or "language_model.lm_head.weight" in names


def tiny() -> dict[str, Any]:
    """Both towers, several taps, four decoders."""
    clip, siglip = tiny_clip()["vision-only"], tiny_siglip()["vision-only"]
    texts = {f.name: f.tiny() for f in (llama.FAMILY, mistral.FAMILY, qwen2.FAMILY, qwen3.FAMILY)}

    def joined(text: VlmConfig, tower: Any, layers: tuple[int, ...] = (-2,), **fields: Any) -> VlmConfig:
        connector = ConnectorConfig("mlp2x_gelu", tower.hidden_size * len(layers), text.decoder.hidden_size)
        return VlmConfig(text.decoder, tower, connector, layers, **fields)

    return {
        "clip-llama": joined(texts["llama"]["plain"], clip),
        "clip-mistral": joined(texts["mistral"]["window"], clip, (-2, -1), keep_class=True),
        "clip-qwen2": joined(texts["qwen2"]["tied"], clip),
        "siglip-qwen3": joined(texts["qwen3"]["plain"], siglip),
    }


def hf_layouts(keymap: Callable[..., KeyMap], config_to_hf: Callable[..., dict[str, Any]]) -> dict[str, Layout]:
    """Hugging Face's four sets of names, for `keymap` with the places that it takes."""

    def layout(*places: str) -> Layout:
        return Layout(lambda config: keymap(config, *places), config_to_hf)

    # Classic Hub files; what v5 writes for a fresh model; names in memory of 4.52 to 4.57; of v5.
    return {
        "hf": layout("", "vision_model.", "language_model.model.", "language_model.lm_head.weight"),
        "hf-a2": layout("", "", "language_model.model.", "language_model.lm_head.weight"),
        "hf-b": layout("model.", "vision_model.", "model.language_model.", "lm_head.weight"),
        "hf-c": layout("model.", "", "model.language_model.", "lm_head.weight"),
    }


_HF = hf_layouts(keymap, config_to_hf)
FAMILY = Family(
    name="llava",
    model_types=("llava", "llava_llama", "llava_mistral", "llava_qwen"),
    config_from_hf=config_from_hf,
    layouts=_HF | {"original": Layout(llava_original.keymap, llava_original.config_to, adds_image_token=True)},
    recognise=lambda raw: ("original",) if llava_original.is_original(raw) else tuple(_HF),
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: isinstance(config, VlmConfig) and isinstance(config.vision, VitConfig),
    absent=llava_original.absent,
    modules="hf-c",
)
