"""Qwen2 and Qwen2.5 (Yang et al. 2024): q, k and v are biased, o is not; the upper layers may have a window."""

from eyespot.families.decoders import DecoderForm, text_family
from eyespot.models.decoder import DecoderConfig

FORM = DecoderForm(
    "qwen2",
    "Qwen2ForCausalLM",
    {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    qkv_bias="always",
    window="layers",
)

_TINY = DecoderConfig(
    vocab_size=200,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=64,
    max_position_embeddings=512,
    qkv_bias=True,
)

FAMILY = text_family(
    FORM,
    {"tied": _TINY.replace(tie_word_embeddings=True), "window": _TINY.replace(sliding_window=5, window_layers=(1,))},
)
