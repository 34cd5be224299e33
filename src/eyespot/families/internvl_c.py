"""InternVL 1.0's contrastive form (Chen et al. 2023): InternViT-6B with an attention pool, and a Llama that reads text.

Two published layouts. Hugging Face's of the whole second stage (InternVL-14B) calls itself ``internvl`` as later chat
models do and is told by its ``qllama_config``; it has the queries of InternVL-G. The authors' first file is a lone .pth
without a config, whose heads have 128 channels. Unusual: a caption is ``summarize:`` and the text, up to 80 tokens, its
end token the last, padded with token 0. Numerics: OpenGVLab/InternVL modeling_internvl.py, internvl_c.py.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.families import llama, sidefiles
from eyespot.families.decoders import canonical, decoder_rules
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, differences, section, unsupported
from eyespot.families.intern_towers import AUTHORS_TOWER, authors_rules, timm_rules
from eyespot.families.towers import depth
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.decoder_text import DecoderTextConfig, QueriesConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Rearrange, Reshape, Rule, within

NAME, THEIRS = "internvl_c", "internvl"
_DEFAULTS = {"clip_embed_dim": 768, "attn_pool_num_heads": 16, "num_query_token": 96, "cross_attention_frequency": 2}
_LENGTH, _PAD, _CHANNELS = 80, 0, 128
_TEXT = {"prefix": "summarize:", "ends": True, "max_length": _LENGTH}
_UNPOOLED = {"pool": "none", "pool_heads": VitConfig().pool_heads, "projection_size": None}


def describe(files: Files, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """A config for the authors' file without one, where these are its weights."""
    if not {"patch_embed.proj.weight", "clip_projector.norm1_q.weight", "transformer.norm.weight"} <= set(tensors):
        return None
    patch, table = tensors["patch_embed.proj.weight"].shape, tensors["transformer.embed_tokens.weight"].shape
    places = tensors["pos_embed"].shape[1] - 1
    return {
        "model_type": NAME, "clip_embed_dim": tensors["text_projection"].shape[-1],
        "vision_config": {
            "hidden_size": patch[0], "intermediate_size": len(tensors["blocks.0.mlp.fc1.bias"]),
            "num_hidden_layers": depth(tensors, "blocks."), "patch_size": patch[-1],
            "num_attention_heads": max(patch[0] // _CHANNELS, 1), "image_size": patch[-1] * round(places**0.5),
        },
        "qllama_config": {
            "vocab_size": table[0], "hidden_size": table[1], "num_attention_heads": max(table[1] // _CHANNELS, 1),
            "num_hidden_layers": depth(tensors, "transformer.layers."),
            "intermediate_size": len(tensors["transformer.layers.0.mlp.up_proj.weight"]),
        },
    }  # fmt: skip


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> DualConfig:
    """Both towers, and the queries of a whole second stage."""
    whole, raw = raw["model_type"] == THEIRS, {**_DEFAULTS, **raw}
    check_sizes(raw, _DEFAULTS)
    for key in ("use_backbone_lora", "use_qllama_lora"):
        if raw.get(key):
            raise unsupported(key, raw[key], "0: adapters that are merged")
    decoder = llama.FORM.read(section(raw, "qllama_config"))
    tower = AUTHORS_TOWER.read(section(raw, "vision_config"))
    width, heads = raw["clip_embed_dim"], raw["attn_pool_num_heads"]
    if tower.hidden_size % heads or (whole and decoder.hidden_size % heads):
        raise unsupported("attn_pool_num_heads", heads, f"divisors of {tower.hidden_size} and {decoder.hidden_size}")
    asked = raw["num_query_token"], raw["cross_attention_frequency"]
    return DualConfig(
        vision=tower.replace(pool="mean_query", pool_heads=heads, projection_size=width),
        text=DecoderTextConfig(decoder.replace(tie_word_embeddings=False), _LENGTH, _PAD, width),
        queries=QueriesConfig(*asked, heads, width, tower.hidden_size) if whole else None,
    )


def config_to_hf(config: DualConfig, context: Context, kind: str) -> dict[str, Any]:
    """The inverse, of the whole second stage or as `describe` does: no published config is of the first file."""
    text, tower, queries = config.text, config.vision, config.queries
    if not isinstance(text, DecoderTextConfig) or tower.pool != "mean_query":
        raise EyespotError("layout-unsupported", f"{NAME} pools a picture by its mean and reads text with a decoder")
    if (queries is None) != (kind == NAME):
        message = "the whole second stage has queries, the authors' first file has none (queries)"
        raise EyespotError("layout-unsupported", message)
    raw = {
        "model_type": kind, "clip_embed_dim": text.projection_size,
        "attn_pool_num_heads": tower.pool_heads, "qllama_config": llama.FORM.write(text.decoder, context),
        "vision_config": AUTHORS_TOWER.write(tower.replace(**_UNPOOLED)),
    }  # fmt: skip
    if queries is not None:
        raw |= {"architectures": ["InternVLModel"], "use_backbone_lora": 0, "use_qllama_lora": 0}
        raw |= {"num_query_token": queries.count, "cross_attention_frequency": queries.every}
    written = config.replace(text=text.replace(decoder=canonical(text.decoder)))
    if lost := differences(written, config_from_hf(raw, (), {})):
        raise EyespotError("layout-unsupported", f"{NAME} cannot express {'; '.join(lost)}")
    return raw


def keymap(config: DualConfig) -> KeyMap:
    """Names of the whole second stage; the decoder's layers hold what the queries look with."""
    size, look = config.text.decoder.hidden_size, "qllama.model.layers.{}.cross_attn."
    queries = [
        Rule(look + "norm1.weight", "looks.{}.norm.weight"), Rule(look + "norm2.weight", "looks.{}.seen_norm.weight"),
        Rule(look + "{}.weight", "looks.{}.{}.weight"), Reshape("query_tokens", "query", (1, -1, size), (-1, size)),
        Rule("qllama.lm_head.weight", "lm_head.weight"), Rule("itm_head.{}", "match.{}"), *_pool("clip_projector2."),
    ]  # fmt: skip
    tower = authors_rules(config.vision, "vision_model.", "vision_encoder.")
    return KeyMap([*tower, *within(queries, ours="queries."), *_text_and_shared("qllama.model.")])


def first_keymap(config: DualConfig) -> KeyMap:
    """Names of the authors' first file."""
    return KeyMap([*timm_rules(config.vision, ours="vision_encoder."), *_text_and_shared("transformer.")])


def _text_and_shared(decoder: str) -> list[Rule]:
    return [
        *within(decoder_rules(prefix=decoder), ours="text_encoder."),
        *within(_pool("clip_projector."), ours="vision_encoder."), Rule("logit_scale", "logit_scale"),
        Rearrange("text_projection", "text_encoder.projection.weight", "d o -> o d"),
    ]  # fmt: skip


def _pool(theirs: str) -> list[Rule]:
    return within([
        *(Rule(f"norm1_{x}.{{}}", f"pool.{x}_norm.{{}}") for x in "qkv"),
        *(Rule(f"cross_attn.{x}.weight", f"pool.{x}_proj.weight") for x in "qkv"),
        *(Rule(f"cross_attn.{x}_bias", f"pool.{x}_proj.bias") for x in "qkv"),
        Rule("cross_attn.proj.{}", "pool.o_proj.{}"),
    ], theirs)  # fmt: skip


def contract_from_hf(files: Files, config: DualConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures by the processor's file, without one by ImageNet's colours; captions as the authors' code makes them."""
    tower = config.vision
    image = sidefiles.imagenet_rule(files, patch_size=tower.patch_size, image_size=tower.image_size)
    text = sidefiles.text_rule(files, tokenizer, (), **_TEXT).replace(stop_tokens=())
    return Contract(image=image, text=text if tokenizer is None else text.replace(pad_token=tokenizer.token_of(_PAD)))


def contract_to_hf(contract: Contract, config: DualConfig) -> dict[str, Any]:
    """preprocessor_config.json."""
    return sidefiles.image_files(contract.image, "CLIPImageProcessor") if contract.image else {}


def tiny() -> dict[str, Any]:
    """The whole second stage, and the first file."""
    vision = VitConfig(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, image_size=(28, 28), patch_size=14,
        norm="rms", qkv_bias=False, qk_norm_eps=1e-6, class_token=True, layer_scale=True, interpolate_positions=True,
        pool="mean_query", pool_heads=16, projection_size=8,
    )  # fmt: skip
    decoder = llama.FAMILY.tiny()["plain"].decoder.replace(num_layers=3, num_kv_heads=4)
    text = DecoderTextConfig(decoder, _LENGTH, _PAD, projection_size=8)
    return {
        "whole": DualConfig(vision, text, queries=QueriesConfig(5, 2, 16, 8, 32)),
        "first": DualConfig(vision, text),
    }


FAMILY = Family(
    name=NAME,
    model_types=(NAME, THEIRS),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(keymap, partial(config_to_hf, kind=THEIRS)),
        "first": Layout(first_keymap, partial(config_to_hf, kind=NAME)),
    },
    recognise=lambda raw: ("hf",) if raw["model_type"] == THEIRS else ("first",),
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=lambda config: isinstance(config, DualConfig) and isinstance(config.text, DecoderTextConfig),
    describe=describe,
)
