"""Qwen3 (Yang et al. 2025): no biases, RMS norms of each head's q and k, heads wider than hidden_size / num_heads."""

from eyespot.families.decoders import DecoderForm, text_family
from eyespot.models.decoder import DecoderConfig

FORM = DecoderForm(
    "qwen3",
    "Qwen3ForCausalLM",
    {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    qkv_bias="key",
    qk_norm=True,
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
    head_dim=16,
    qk_norm=True,
)

FAMILY = text_family(
    FORM, {"plain": _TINY, "tied": _TINY.replace(tie_word_embeddings=True, qkv_bias=True, o_bias=True)}
)
