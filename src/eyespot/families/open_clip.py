"""open_clip (Ilharco et al. 2021) and OpenAI's own CLIP files: two towers of many makes, among them BiomedCLIP.

Unusual: no ``config.json``. An ``open_clip_config.json`` describes the model; OpenAI's files are weights alone, whose
shapes tell the rest, with 64 channels a head and quick GELU. Projections are transposed, q, k and v fused.
Numerics: open_clip model.py; OpenAI's clip/model.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.families import bert, clip, sidefiles, siglip
from eyespot.families import open_clip_towers as towers
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, section, unsupported
from eyespot.families.towers import depth
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.post_norm_text import PostNormTextConfig
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Rule, within

NAME, CONFIG = "open_clip", "open_clip_config.json"
_IGNORED = (
    "input_resolution",
    "context_length",
    "vocab_size",
)  # of OpenAI's files: numbers that follow from the shapes
_CLEANED = {"canonicalize": "canonicalize", "lower": "lower", "whitespace": "none"}
_RESIZE = {"shortest": "shortest_edge", "squash": "exact"}


def describe(files: Files, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The config of a checkpoint of this family, where these files are one."""
    if CONFIG in files:
        model = section(files[CONFIG], "model_cfg") or files[CONFIG]
        return {"model_type": NAME, **files[CONFIG], "model_cfg": towers.completed(model, tensors)}
    if not {"visual.conv1.weight", "text_projection", "positional_embedding", "ln_final.weight"} <= set(tensors):
        return None
    if "visual.class_embedding" not in tensors:
        raise unsupported("visual.conv1.weight", "a ResNet", "a vision transformer")
    width, patch = (tensors["visual.conv1.weight"].shape[i] for i in (0, -1))
    size, places = len(tensors["ln_final.weight"]), len(tensors["visual.positional_embedding"]) - 1
    return {"model_type": NAME, "weights": "openai", "model_cfg": {
        "embed_dim": tensors["text_projection"].shape[-1], "quick_gelu": True,
        "vision_cfg": {
            "image_size": patch * round(places**0.5), "width": width,
            "layers": depth(tensors, "visual.transformer.resblocks."), "patch_size": patch,
            "head_width": min(64, width),
        },
        "text_cfg": {
            "context_length": len(tensors["positional_embedding"]),
            "vocab_size": len(tensors["token_embedding.weight"]), "width": size,
            "heads": max(size // 64, 1), "layers": depth(tensors, "transformer.resblocks."),
        },
    }}  # fmt: skip


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig:
    """Both towers of ``model_cfg``."""
    model = section(raw, "model_cfg")
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if key not in model:
            raise unsupported(f"model_cfg.{key}", None, "a model of pictures and texts")
    check_sizes(model, ("embed_dim",), "model_cfg.")
    if model.get("nonscalar_logit_scale"):
        raise unsupported("model_cfg.nonscalar_logit_scale", True, "false")
    scale, bias = model.get("init_logit_scale", 2.6592), model.get("init_logit_bias")
    if not isinstance(scale, (int, float)) or not isinstance(bias, (int, float, type(None))):
        raise unsupported("model_cfg.init_logit_scale, init_logit_bias", (scale, bias), "numbers")
    return DualConfig(
        vision=towers.read_vision(model),
        text=towers.read_text(model, names),
        logit_scale=float(scale),
        logit_bias=None if bias is None else float(bias),
    )


def config_to_hf(config: DualConfig, context: Context) -> dict[str, Any]:
    """open_clip_config.json: the inverse of `config_from_hf`, and how pictures are prepared."""
    quick = {getattr(part, "activation", "") for part in (config.vision, config.text)} == {"quick_gelu"}
    model: dict[str, Any] = {"embed_dim": config.text.projection_size, "init_logit_scale": config.logit_scale}
    if config.logit_bias is not None:
        model["init_logit_bias"] = config.logit_bias
    if quick:
        model["quick_gelu"] = True
    if config.vision.output_size != config.text.projection_size:
        widths = f"{config.vision.output_size} and {config.text.projection_size}"
        raise EyespotError("layout-unsupported", f"the towers give vectors of different widths, {widths}")
    model["vision_cfg"] = towers.write_vision(config.vision, quick)
    model["text_cfg"] = towers.write_text(config.text, quick, context.max_length)
    if isinstance(config.text, TextEncoderConfig) and config.text.pool == "last":
        model["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize"}
    raw = {"model_type": NAME, "model_cfg": model}
    return raw | ({"preprocess_cfg": _preprocess(context.image)} if context.image else {})


def keymap(config: DualConfig, place: str = "") -> KeyMap:
    """Names with the text tower at the root, or in a module of its own."""
    return KeyMap(
        [
            *within(towers.vision_rules(config.vision), "visual.", "vision_encoder."),
            *within(towers.text_rules(config.text), place, "text_encoder."),
            Rule("logit_scale", "logit_scale"),
            Rule("logit_bias", "logit_bias"),
        ],
        _IGNORED,
    )


def contract_from_hf(files: Files, config: DualConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures as ``preprocess_cfg`` says; text up to the context's length, cleaned and padded as its tower needs."""
    raw = files.get("config.json", {})
    text = section(section(raw, "model_cfg"), "text_cfg")
    own: dict[str, Any] = {"max_length": config.text.max_length}
    if isinstance(config.text, PostNormTextConfig):
        bert.check_padding(tokenizer, config.text)
        length = {"context_length": text.get("context_length", 77 if text else config.text.max_length)}
        check_sizes(length, length, "text_cfg.")
        own["max_length"] = min(length["context_length"], config.text.max_length)
    elif config.text.pool == "last":
        clean = section(text, "tokenizer_kwargs").get("clean", "whitespace" if text else "canonicalize")
        if clean not in _CLEANED:
            raise unsupported("text_cfg.tokenizer_kwargs.clean", clean, ", ".join(_CLEANED))
        own |= {"pad_to_max": True, "clean": _CLEANED[clean]}
    rule = sidefiles.text_rule({}, tokenizer, (), **own).replace(stop_tokens=())
    return Contract(image=_image_rule(section(raw, "preprocess_cfg"), config.vision), text=rule)


def _image_rule(raw: Json, tower: VitConfig) -> ImageRule:
    mode, filter_ = raw.get("resize_mode") or "shortest", raw.get("interpolation") or "bicubic"
    if mode not in _RESIZE:
        raise unsupported("preprocess_cfg.resize_mode", mode, ", ".join(_RESIZE))
    if filter_ not in ("bicubic", "bilinear", "random"):
        raise unsupported("preprocess_cfg.interpolation", filter_, "bicubic, bilinear")
    if mode == "shortest" and len(set(tower.image_size)) > 1:
        raise unsupported("image_size", tower.image_size, "a square where the shortest edge is resized")
    return ImageRule.from_dict({
        "size": tower.image_size, "resize": _RESIZE[mode], "crop": mode == "shortest",
        "resample": "bilinear" if filter_ == "bilinear" else "bicubic", "patch_size": tower.patch_size,
        "mean": raw.get("mean") or sidefiles.CLIP_MEAN, "std": raw.get("std") or sidefiles.CLIP_STD,
    }, "preprocess_cfg")  # fmt: skip


def _preprocess(rule: ImageRule) -> dict[str, Any]:
    mode = next((theirs for theirs, ours in _RESIZE.items() if ours == rule.resize), None)
    if mode is None or rule.resample not in ("bicubic", "bilinear"):
        found = f"{rule.resize!r} with {rule.resample}"
        raise EyespotError("layout-unsupported", f"open_clip cannot resize by {found} (contract.image)")
    return {"mean": list(rule.mean), "std": list(rule.std), "interpolation": rule.resample, "resize_mode": mode}


def tiny() -> dict[str, Any]:
    """CLIP in both forms of GELU, SigLIP over timm, and BiomedCLIP's pair."""
    pair, other = clip.tiny()["legacy-eos"], siglip.tiny()["plain"]
    vision = pair.vision.replace(num_heads=2)
    own = {"class_token": True, "post_norm": "sequence", "pool": "class", "pre_norm": False, "patch_bias": True}
    text = PostNormTextConfig(
        vocab_size=100, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=12, pad_token_id=3,
        projection="mlp", projection_size=8,
    )  # fmt: skip
    return {
        "clip": pair,
        "clip-gelu": DualConfig(vision.replace(activation="gelu"), pair.text.replace(activation="gelu")),
        "siglip": other,
        "timm-bert": DualConfig(vision.replace(activation="gelu", norm_eps=1e-6, **own), text),
        "timm-bert-mean": DualConfig(
            vision.replace(activation="gelu", norm_eps=1e-6, **own), text.replace(pool="mean", projection="linear")
        ),
    }


_FILES = {"config_name": CONFIG, "weights": "open_clip_model"}
FAMILY = Family(
    name=NAME,
    model_types=(NAME,),
    config_from_hf=config_from_hf,
    layouts={
        "open_clip": Layout(keymap, config_to_hf, **_FILES),
        "open_clip-text": Layout(lambda config: keymap(config, "text."), config_to_hf, **_FILES),
        # OpenAI's files keep their matrices in half precision and the rest in full.
        "openai": Layout(keymap, config_to_hf, **_FILES, dtype=torch.float32),
    },
    recognise=lambda raw: ("openai",) if raw.get("weights") == "openai" else ("open_clip", "open_clip-text"),
    contract_from_hf=contract_from_hf,
    contract_to_hf=lambda contract, config: {},
    tiny=tiny,
    holds=lambda config: (
        isinstance(config, DualConfig) and isinstance(config.text, (TextEncoderConfig, PostNormTextConfig))
    ),
    describe=describe,
)
