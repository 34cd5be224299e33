"""InternLM2 (Cai et al. 2024), the decoder of many InternVLs: Llama's form under other names, q, k and v fused.

Unusual: the rows of the fused projection come group by group, some query heads, then their key head and value head;
one key, ``bias``, stands for all biases of the attention. Upstream: OpenGVLab/InternVL modeling_internlm2.py.
"""

from typing import Any

from eyespot.families import llama
from eyespot.families.decoders import NO_CONTEXT, DecoderForm
from eyespot.families.family import Context, Json
from eyespot.models.decoder import DecoderConfig
from eyespot.weights.keymap import GroupSplit, Rule, within

FORM = DecoderForm(
    "internlm2",
    "InternLM2ForCausalLM",
    {**llama.FORM.defaults, "vocab_size": 103168},
    qkv_bias="key",
)


def read(raw: Json) -> DecoderConfig:
    """Their config as ours."""
    return FORM.read({**raw, "attention_bias": raw.get("bias", True)})


def write(config: DecoderConfig, context: Context = NO_CONTEXT) -> dict[str, Any]:
    """The inverse; their class reads only the older spelling of rotary settings.

    Raises:
        EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
    """
    raw = FORM.write(config, context)
    raw["bias"] = raw.pop("attention_bias")
    del raw["rope_parameters"]
    raw["rope_scaling"] = None
    if config.rope.type != "default":
        raw["rope_scaling"] = {"type": config.rope.type, "factor": float(config.rope.factor)}
    return raw


def rules(config: DecoderConfig, theirs: str = "", head: str = "lm_head.weight") -> list[Rule]:
    """Their names below a prefix; `head` is our name of the head."""
    rows = (config.num_heads // config.num_kv_heads * config.channels, config.channels, config.channels)
    layer, ours = "model.layers.{}.", "decoder.layers.{}."
    return within([
        Rule("model.tok_embeddings.weight", "decoder.embed_tokens.weight"),
        Rule("model.norm.weight", "decoder.norm.weight"),
        Rule(layer + "attention_norm.weight", ours + "input_norm.weight"),
        Rule(layer + "ffn_norm.weight", ours + "post_attention_norm.weight"),
        GroupSplit(
            layer + "attention.wqkv.{}", ours + "attn.[].{}", ("q_proj", "k_proj", "v_proj"), rows,
            config.num_kv_heads,
        ),
        Rule(layer + "attention.wo.{}", ours + "attn.o_proj.{}"),
        Rule(layer + "feed_forward.w1.weight", ours + "mlp.gate_proj.weight"),
        Rule(layer + "feed_forward.w3.weight", ours + "mlp.up_proj.weight"),
        Rule(layer + "feed_forward.w2.weight", ours + "mlp.down_proj.weight"),
        Rule("output.weight", head),
    ], theirs)  # fmt: skip
