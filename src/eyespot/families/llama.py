"""Llama (Touvron et al. 2023) and what shares its form, such as Vicuna. Numerics: `transformers` modeling_llama.py."""

from eyespot.families.decoders import DecoderForm, text_family
from eyespot.models.decoder import DecoderConfig
from eyespot.nn.rope import RopeConfig

FORM = DecoderForm(
    "llama",
    "LlamaForCausalLM",
    {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    qkv_bias="key",
    mlp_bias=True,
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

FAMILY = text_family(
    FORM,
    {
        "plain": _TINY,
        "biased": _TINY.replace(qkv_bias=True, o_bias=True, mlp_bias=True, tie_word_embeddings=True),
        "llama3-rope": _TINY.replace(head_dim=16, rope=RopeConfig(5e5, "llama3", 8.0, 1.0, 4.0, 64)),
    },
)
