"""Configurations of published checkpoints, as their config.json states them; only what shapes depend on, or reading."""

from typing import Any


def _clip(width: int, layers: int, heads: int, patch: int, size: int, text: int, text_heads: int, space: int) -> Any:
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "patch_size": patch, "image_size": size, "projection_dim": space, "hidden_act": "quick_gelu",
    }  # fmt: skip
    words = {
        "hidden_size": text, "intermediate_size": 4 * text, "num_hidden_layers": 12, "num_attention_heads": text_heads,
        "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": space, "hidden_act": "quick_gelu",
    }  # fmt: skip
    return {"model_type": "clip", "projection_dim": space, "vision_config": vision, "text_config": words}


CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "image_size": 336, "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip
SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
}  # fmt: skip


def _decoder(kind: str, width: int, inner: int, layers: int, heads: int, kv: int, rows: int, **more: Any) -> Any:
    shared = {
        "model_type": kind, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": rows, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6 if kind.startswith("qwen") else 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    return shared | ({"rope_theta": 1e6} if kind != "llama" else {}) | more


VICUNA_7B = _decoder("llama", 4096, 11008, 32, 32, 32, 32064, max_position_embeddings=4096)
MISTRAL_7B = _decoder("mistral", 4096, 14336, 32, 32, 8, 32064, sliding_window=None)
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def _llava(kind: str, text: Any, **more: Any) -> Any:
    return {
        "model_type": kind, "text_config": text, "vision_config": CLIP_L, "image_token_index": 32000,
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "projector_hidden_act": "gelu",
        "tie_word_embeddings": False, **more,
    }  # fmt: skip


def _onevision(text: Any, tied: bool) -> Any:
    tower = SO400M | {"model_type": "siglip_vision_model", "num_hidden_layers": 26, "patch_size": 14, "image_size": 384}
    return {
        "model_type": "llava_onevision", "text_config": text, "vision_config": tower | {"vision_use_head": False},
        "image_token_index": 151646, "video_token_index": 151647, "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full", "projector_hidden_act": "gelu", "tie_word_embeddings": tied,
        "image_grid_pinpoints": [[384 * r, 384 * c] for r in range(1, 7) for c in range(1, 7)],
        "vision_aspect_ratio": "anyres_max_9",
    }  # fmt: skip


def _grid(kind: str, width: int, inner: int, layers: int, heads: int, kv: int, rows: int, tied: bool) -> Any:
    vision = {
        "qwen2_vl": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": width},
        "qwen2_5_vl": {
            "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420, "window_size": 112,
            "out_hidden_size": width, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
        },
    }[kind]  # fmt: skip
    text = _decoder(kind, width, inner, layers, heads, kv, rows)
    return text | {
        "tie_word_embeddings": tied, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "use_sliding_window": False, "sliding_window": 32768, "max_window_layers": layers,
        "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "vision_config": vision | {
            "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_chans": 3,
        },
    }  # fmt: skip


def _internvl(text: Any, image_token: int, **tower: Any) -> Any:
    vision = {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm", "layer_norm_eps": 1e-6,
        "image_size": [448, 448], "patch_size": [14, 14], "hidden_act": "gelu", "use_mean_pooling": True,
        "use_absolute_position_embeddings": True, "layer_scale_init_value": 0.1,
    }  # fmt: skip
    return {
        "model_type": "internvl", "text_config": text, "vision_config": vision | tower, "image_token_id": image_token,
        "image_seq_length": 256, "downsample_ratio": 0.5, "projector_hidden_act": "gelu", "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default", "tie_word_embeddings": False,
    }  # fmt: skip


_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 14, "image_size": 518}
# Name: the class in `transformers`, config.json.
CONFIGS: dict[str, tuple[str, Any]] = {
    "clip-vit-base-patch32": ("CLIPModel", _clip(768, 12, 12, 32, 224, 512, 8, 512)),
    "clip-vit-large-patch14-336": ("CLIPModel", _clip(1024, 24, 16, 14, 336, 768, 12, 768)),
    "siglip-so400m-patch14-384": ("SiglipModel", {
        "model_type": "siglip", "vision_config": SO400M | {"patch_size": 14, "image_size": 384},
        "text_config": SO400M | {"vocab_size": 32000, "max_position_embeddings": 64, "projection_size": 1152},
    }),
    "siglip2-so400m-patch16-naflex": ("Siglip2Model", {
        "model_type": "siglip2", "vision_config": SO400M | {"patch_size": 16, "num_patches": 256},
        "text_config": SO400M | {"vocab_size": 256000, "max_position_embeddings": 64, "projection_size": 1152},
    }),
    "dinov2-base": ("Dinov2Model", _BASE | {"model_type": "dinov2", "mlp_ratio": 4}),
    "dinov2-with-registers-base": ("Dinov2WithRegistersModel", _BASE | {
        "model_type": "dinov2_with_registers", "mlp_ratio": 4, "num_register_tokens": 4,
    }),
    "vit-base-patch16-224": ("ViTModel", _BASE | {"model_type": "vit", "patch_size": 16, "image_size": 224}),
    "llava-1.5-7b-hf": ("LlavaForConditionalGeneration", _llava("llava", VICUNA_7B)),
    "llava-v1.6-mistral-7b-hf": (
        "LlavaNextForConditionalGeneration", _llava("llava_next", MISTRAL_7B, image_grid_pinpoints=PINPOINTS),
    ),
    "llava-onevision-qwen2-0.5b": (
        "LlavaOnevisionForConditionalGeneration", _onevision(_decoder("qwen2", 896, 4864, 24, 14, 2, 152000), True),
    ),
    "llava-onevision-qwen2-7b": (
        "LlavaOnevisionForConditionalGeneration", _onevision(_decoder("qwen2", 3584, 18944, 28, 28, 4, 152128), False),
    ),
    "Qwen2-VL-2B": ("Qwen2VLForConditionalGeneration", _grid("qwen2_vl", 1536, 8960, 28, 12, 2, 151936, True)),
    "Qwen2-VL-7B": ("Qwen2VLForConditionalGeneration", _grid("qwen2_vl", 3584, 18944, 28, 28, 4, 152064, False)),
    "Qwen2.5-VL-3B": ("Qwen2_5_VLForConditionalGeneration", _grid("qwen2_5_vl", 2048, 11008, 36, 16, 2, 151936, True)),
    "Qwen2.5-VL-7B": ("Qwen2_5_VLForConditionalGeneration", _grid("qwen2_5_vl", 3584, 18944, 28, 28, 4, 152064, False)),
    "InternVL3-8B-hf": (
        "InternVLForConditionalGeneration", _internvl(_decoder("qwen2", 3584, 18944, 28, 28, 4, 151674), 151667),
    ),
    "InternVL3_5-8B-hf": (
        "InternVLForConditionalGeneration",
        _internvl(_decoder("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128), 151671),
    ),
    "Qwen3-8B": ("Qwen3ForCausalLM", _decoder("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128)),
    "Qwen2-7B": ("Qwen2ForCausalLM", _decoder("qwen2", 3584, 18944, 28, 28, 4, 152064)),
    "Mistral-7B": ("MistralForCausalLM", MISTRAL_7B | {"vocab_size": 32000}),
    "vicuna-7b": ("LlamaForCausalLM", VICUNA_7B | {"vocab_size": 32000}),
}  # fmt: skip
# Parameters in all, as counted on the published models.
PARAMETERS = {
    "clip-vit-large-patch14-336": 427_944_193,
    "siglip-so400m-patch14-384": 877_960_498,
    "llava-1.5-7b-hf": 7_063_427_072,
    "llava-onevision-qwen2-7b": 8_030_807_584,
}
