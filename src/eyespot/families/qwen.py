"""Qwen, the first of that name, and Qwen-VL (Bai et al. 2023), which is the same with a part that sees.

Fused and biased q, k and v; the feed-forward's two maps have half the stated width each (``intermediate_size``).

Beyond the trained length (`seq_length`) the base of the rotation grows and attention is sharpened, in evaluation only.
Not in `transformers`: its checkpoints carry the authors' code, which is not run here and not copied on export.
Numerics: modeling_qwen.py of the checkpoints.

A picture is 256 tokens between tags; in the authors' ids the bytes of its path stand there, here only what fills them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import qwen_visual, sidefiles
from eyespot.families.decoders import canonical
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, differences, section, unsupported
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.decoder import DecoderConfig
from eyespot.models.vlm import VlmConfig
from eyespot.nn.rope import RopeConfig
from eyespot.weights.keymap import KeyMap, Rule, Split

_DEFAULTS = {
    "vocab_size": 151936, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "layer_norm_epsilon": 1e-6, "max_position_embeddings": 8192, "kv_channels": 128, "rotary_pct": 1.0,
    "rotary_emb_base": 10000, "use_dynamic_ntk": True, "use_logn_attn": True, "intermediate_size": 22016,
    "no_bias": True, "tie_word_embeddings": False, "seq_length": 2048,
}  # fmt: skip
_PLAIN = {  # theirs: ours, where nothing but the name differs
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads", "layer_norm_epsilon": "rms_norm_eps",
    "max_position_embeddings": "max_position_embeddings", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip
_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "kv_channels", "intermediate_size",
    "seq_length",
)  # fmt: skip
# By generation_config.json's `chat_format`: how the authors' code writes a conversation. In a chat each message numbers
# its pictures, those before a base model's text bear no number.
_WRITE = """\
{%- macro write(content) -%}
{%- if content is string -%}
{{ content }}
{%- else -%}
{%- set seen = namespace(pictures=0) -%}
{%- for part in content -%}
{%- if part.type == 'text' -%}
{{ part.text }}
{%- else -%}
{%- set seen.pictures = seen.pictures + 1 -%}
{{ BEFORE + '<img>' + (image_token or '') + '</img>' + BEHIND }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
_CHATML = """\
{%- if messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ write(message.content) + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ write(message.content) + '<|im_end|>' }}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_RAW = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{% generation %}{{ write(message.content) + '<|endoftext|>' }}{% endgeneration %}
{%- else -%}
{{ write(message.content) }}
{%- endif -%}
{%- endfor -%}
"""
_NUMBERED = "'Picture ' + seen.pictures | string + ':'"
_TEMPLATES = {
    "chatml": _WRITE.replace("BEFORE", _NUMBERED).replace("BEHIND", "'\\n'") + _CHATML,
    "raw": _WRITE.replace("BEFORE + ", "").replace(" + BEHIND", "") + _RAW,
}

RULES = [
    Rule("transformer.wte.weight", "decoder.embed_tokens.weight"),
    Rule("transformer.ln_f.weight", "decoder.norm.weight"),
    Rule("transformer.h.{}.ln_1.weight", "decoder.layers.{}.input_norm.weight"),
    Rule("transformer.h.{}.ln_2.weight", "decoder.layers.{}.post_attention_norm.weight"),
    Split("transformer.h.{}.attn.c_attn.{}", "decoder.layers.{}.attn.[].{}", ("q_proj", "k_proj", "v_proj")),
    Rule("transformer.h.{}.attn.c_proj.{}", "decoder.layers.{}.attn.o_proj.{}"),
    Rule("transformer.h.{}.mlp.w1.{}", "decoder.layers.{}.mlp.up_proj.{}"),
    Rule("transformer.h.{}.mlp.w2.{}", "decoder.layers.{}.mlp.gate_proj.{}"),
    Rule("transformer.h.{}.mlp.c_proj.{}", "decoder.layers.{}.mlp.down_proj.{}"),
    Rule("lm_head.weight", "lm_head.weight"),
]
_IGNORED = (r"transformer\.h\.\d+\.attn\.masked_bias",)


def read_decoder(raw: Json) -> DecoderConfig:
    """Their config as ours.

    Raises:
        EyespotError: ``family-config`` naming a key that asks for something unknown.
    """
    raw = {**_DEFAULTS, **raw}
    if raw.get("quantization_config"):
        raise unsupported("quantization_config", "…", "weights in floating point")
    check_sizes(raw, _SIZES)
    heads, width = raw["num_attention_heads"], raw["hidden_size"]
    if width % heads or raw["kv_channels"] != width // heads:
        raise unsupported("kv_channels", raw["kv_channels"], "hidden_size divided by num_attention_heads")
    if raw["intermediate_size"] % 2:
        raise unsupported("intermediate_size", raw["intermediate_size"], "an even number")
    if raw["rotary_pct"] != 1.0:
        raise unsupported("rotary_pct", raw["rotary_pct"], "1.0")
    trained = raw["seq_length"]
    grows = {"type": "dynamic_ntk", "original_max_position_embeddings": trained} if raw["use_dynamic_ntk"] else {}
    own = {ours: raw[theirs] for theirs, ours in _PLAIN.items()}
    own |= {
        "num_kv_heads": heads, "intermediate_size": raw["intermediate_size"] // 2, "qkv_bias": True,
        "o_bias": not raw["no_bias"], "mlp_bias": not raw["no_bias"],
        "rope": {"theta": raw["rotary_emb_base"], **grows},
        "log_n_length": trained if raw["use_logn_attn"] else None,
    }  # fmt: skip
    return DecoderConfig.from_dict(own, "config.json")


def write_decoder(config: DecoderConfig) -> dict[str, Any]:
    """Our config as theirs.

    Raises:
        EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
    """
    grows = config.rope.type == "dynamic_ntk"
    trained = config.rope.original_max_position_embeddings if grows else config.log_n_length
    raw = {theirs: getattr(config, ours) for theirs, ours in _PLAIN.items()} | {
        "intermediate_size": 2 * config.intermediate_size, "kv_channels": config.channels, "no_bias": not config.o_bias,
        "rotary_emb_base": config.rope.theta, "rotary_pct": 1.0, "seq_length": trained or _DEFAULTS["seq_length"],
        "use_dynamic_ntk": grows, "use_logn_attn": config.log_n_length is not None, "attn_dropout_prob": 0.0,
        "emb_dropout_prob": 0.0, "scale_attn_weights": True, "use_cache": True,
    }  # fmt: skip
    lost = differences(canonical(config), read_decoder(raw))
    if lost:
        raise EyespotError("layout-unsupported", f"qwen cannot express decoder.{'; decoder.'.join(lost)}")
    return raw


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
    """Their config as ours; without ``visual`` it is a model of text."""
    decoder = read_decoder(raw)
    if "lm_head.weight" in names:
        decoder = decoder.replace(tie_word_embeddings=False)
    visual = section(raw, "visual")
    if not visual:
        return VlmConfig(decoder)
    return VlmConfig(decoder, *qwen_visual.read(visual, decoder.hidden_size), select_layers=(-1,))


def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
    """The inverse of `config_from_hf`."""
    raw = {"architectures": ["QWenLMHeadModel"], "model_type": "qwen", **write_decoder(config.decoder)}
    if config.vision is None:
        return raw
    return raw | {"visual": qwen_visual.write(config, context)}


def keymap(config: VlmConfig) -> KeyMap:
    """Tensor names."""
    return KeyMap([*(qwen_visual.rules(config) if config.vision is not None else ()), *RULES], _IGNORED)


def contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
    """The template that a file holds, else the one that the authors' code writes under this ``chat_format``."""
    order = ("chat_template.jinja", "tokenizer_config.json")
    form = files.get("generation_config.json", {}).get("chat_format")
    own = _TEMPLATES.get(form) if isinstance(form, str) else None
    found = sidefiles.template(files, order)
    template = own if found is None else found
    if config.vision is None:
        return Contract(text=sidefiles.text_rule(files, tokenizer, order, template=template))
    visual = section(files.get("config.json", {}), "visual")
    start, token = visual.get("image_start_id", qwen_visual.START), qwen_visual.IMAGE_TOKEN
    ids = {tag: start + i for i, tag in enumerate(qwen_visual.TAGS)}
    written = ids if found is None and own is not None else (token,)  # by the template
    for tag in written if tokenizer is not None else ():
        check_image_token(tag, ids[tag], tokenizer, config)
    text = sidefiles.text_rule(files, tokenizer, order, template=template, image_token=token, image_token_id=ids[token])
    return Contract(image=qwen_visual.image_rule(visual, config), text=text, coordinates="tags")


def contract_to_hf(contract: Contract, config: VlmConfig) -> dict[str, Any]:
    """A file with the template, which the authors' code does not read."""
    return sidefiles.template_files(contract.text.template)


def tiny() -> dict[str, VlmConfig]:
    """With and without what acts beyond the trained length."""
    decoder = DecoderConfig(
        vocab_size=200, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=4, intermediate_size=24, qkv_bias=True,
        max_position_embeddings=512,
    )  # fmt: skip
    grows = RopeConfig(type="dynamic_ntk", original_max_position_embeddings=16)
    text = decoder.replace(rope=grows, log_n_length=16)
    visual = {"heads": 2, "image_size": 32, "layers": 2, "mlp_ratio": 2.5, "output_dim": 128, "patch_size": 2,
              "width": 16, "n_queries": 4}  # fmt: skip
    wide = text.replace(hidden_size=128)
    return {
        "visual": VlmConfig(wide, *qwen_visual.read(visual, wide.hidden_size), select_layers=(-1,)),
        "text": VlmConfig(text),
        "text-plain": VlmConfig(decoder.replace(o_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    }


def _holds(config: Any) -> bool:
    sees = isinstance(config, VlmConfig) and config.connector is not None and config.connector.kind == "resampler"
    return isinstance(config, VlmConfig) and (config.vision is None or sees)


FAMILY = Family(
    name="qwen",
    model_types=("qwen",),
    config_from_hf=config_from_hf,
    layouts={"hf": Layout(keymap, config_to_hf)},
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    holds=_holds,
)
