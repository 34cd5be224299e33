"""Mistral 7B (Jiang et al. 2023): a window on all layers; a config without the key means 4096, null means none."""

from eyespot.families.decoders import DecoderForm, text_family
from eyespot.models.decoder import DecoderConfig

FORM = DecoderForm(
    "mistral",
    "MistralForCausalLM",
    {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
    },
    window="all",
)

_TINY = DecoderConfig(
    vocab_size=200,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=64,
    max_position_embeddings=512,
)

FAMILY = text_family(FORM, {"window": _TINY.replace(sliding_window=5), "no-window": _TINY})
