"""Decoder-only text models of the Llama kind: config translation, key rules and the family made from one table row.

What differs between Llama, Mistral, Qwen2 and Qwen3 is which biases exist, whether q and k are normed, how a sliding
window is written down, and the defaults that `transformers` 5.23 gives to keys that a config leaves out.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Json, Layout, check_sizes, differences, section, unsupported
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.decoder import DecoderConfig
from eyespot.models.vlm import VlmConfig
from eyespot.nn.rope import RopeConfig
from eyespot.weights.keymap import KeyMap, Rule, within

NO_CONTEXT = Context()
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

_PLAIN = {  # theirs: ours, where nothing but the name differs
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads", "rms_norm_eps": "rms_norm_eps",
    "max_position_embeddings": "max_position_embeddings", "tie_word_embeddings": "tie_word_embeddings",
}  # fmt: skip

RULES = [
    Rule("model.embed_tokens.weight", "decoder.embed_tokens.weight"),
    Rule("model.norm.weight", "decoder.norm.weight"),
    Rule("model.layers.{}.input_layernorm.weight", "decoder.layers.{}.input_norm.weight"),
    Rule("model.layers.{}.post_attention_layernorm.weight", "decoder.layers.{}.post_attention_norm.weight"),
    Rule("model.layers.{}.self_attn.{}.{}", "decoder.layers.{}.attn.{}.{}"),
    Rule("model.layers.{}.mlp.{}.{}", "decoder.layers.{}.mlp.{}.{}"),
]
HEAD = Rule("lm_head.weight", "lm_head.weight")


@dataclass(frozen=True)
class DecoderForm:
    """One published form of the decoder.

    Attributes:
        model_type: in config.json.
        architecture: the class name that config.json states.
        defaults: values of keys that a config may leave out.
        qkv_bias: always, or where ``attention_bias`` says so (then the output projection too), or never.
        mlp_bias: whether the key ``mlp_bias`` exists.
        qk_norm: RMS norm of each head's q and k.
        window: no sliding window, one for all layers, or one for the layers that the config lists.
        sections: of the rotary frequencies among position axes where the config names none; empty: one axis.
        interleaved: the axes take turns among the frequencies.
    """

    model_type: str
    architecture: str
    defaults: Mapping[str, Any]
    qkv_bias: Literal["always", "key", "never"] = "never"
    mlp_bias: bool = False
    qk_norm: bool = False
    window: Literal["none", "all", "layers"] = "none"
    sections: tuple[int, ...] = ()
    interleaved: bool = False

    def read(self, raw: Json) -> DecoderConfig:
        """Their config as ours.

        Raises:
            EyespotError: ``family-config`` naming a key that asks for something unknown.
        """
        raw = {**self.defaults, **raw}
        _refuse_unknown(raw)
        check_sizes(raw, [*_SIZES, *(key for key in ("num_key_value_heads", "head_dim") if raw.get(key) is not None)])
        heads = raw["num_attention_heads"]
        window, layers = self._read_window(raw)
        own = {ours: raw[theirs] for theirs, ours in _PLAIN.items()}
        own |= {
            "num_kv_heads": heads if raw.get("num_key_value_heads") is None else raw["num_key_value_heads"],
            "head_dim": raw.get("head_dim"),
            "rope": read_rope(raw, self.sections, self.interleaved),
            "qkv_bias": self.qkv_bias == "always" or (self.qkv_bias == "key" and bool(raw.get("attention_bias"))),
            "o_bias": self.qkv_bias == "key" and bool(raw.get("attention_bias")),
            "mlp_bias": self.mlp_bias and bool(raw.get("mlp_bias")),
            "qk_norm": self.qk_norm,
            "sliding_window": window,
            "window_layers": layers,
        }
        return canonical(DecoderConfig.from_dict(own, "config.json"))

    def write(self, config: DecoderConfig, context: Context = NO_CONTEXT) -> dict[str, Any]:
        """Our config as theirs.

        Raises:
            EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
        """
        raw = {theirs: getattr(config, ours) for theirs, ours in _PLAIN.items()}
        raw |= {
            "model_type": self.model_type, "num_key_value_heads": config.num_kv_heads, "hidden_act": "silu",
            "head_dim": config.channels, "attention_dropout": 0.0, "use_cache": True,
            **write_rope(config.rope, self.interleaved), "bos_token_id": context.bos, "pad_token_id": context.pad,
            "eos_token_id": sidefiles.one_or_many(context.stops),
        }  # fmt: skip
        if self.qkv_bias == "key":
            raw["attention_bias"] = config.qkv_bias
        if self.mlp_bias:
            raw["mlp_bias"] = config.mlp_bias
        raw |= self._write_window(config)
        lost = differences(canonical(config), self.read(raw))
        if lost:
            message = f"{self.model_type} cannot express decoder.{'; decoder.'.join(lost)}"
            raise EyespotError("layout-unsupported", message)
        return raw

    def _read_window(self, raw: Json) -> tuple[int | None, tuple[int, ...]]:
        count, window = raw["num_hidden_layers"], raw.get("sliding_window")
        if self.window == "none" or window is None:
            return None, ()
        if self.window == "all":
            return window, ()
        if not raw.get("use_sliding_window"):
            return None, ()
        kinds = raw.get("layer_types") or [
            "sliding_attention" if i >= raw["max_window_layers"] else "full_attention" for i in range(count)
        ]
        strange = set(kinds) - {"sliding_attention", "full_attention"}
        if strange or len(kinds) != count:
            known = "full_attention or sliding_attention for each layer"
            raise unsupported("layer_types", sorted(strange) or kinds, known)
        layers = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
        return (window if layers else None), layers

    def _write_window(self, config: DecoderConfig) -> dict[str, Any]:
        if self.window == "none":
            return {}
        if self.window == "all":
            return {"sliding_window": config.sliding_window}
        windowed = [config.window(i) is not None for i in range(config.num_layers)]
        return {
            "use_sliding_window": any(windowed), "sliding_window": config.sliding_window,
            "max_window_layers": windowed.index(True) if any(windowed) else config.num_layers,
            "layer_types": ["sliding_attention" if w else "full_attention" for w in windowed],
        }  # fmt: skip


def canonical(config: DecoderConfig) -> DecoderConfig:
    """The one spelling among configs that build the same model."""
    windows = [config.window(i) for i in range(config.num_layers)]
    layers = () if None not in windows or not any(windows) else tuple(i for i, w in enumerate(windows) if w)
    return config.replace(
        head_dim=None if config.channels == config.hidden_size // config.num_heads else config.head_dim,
        sliding_window=config.sliding_window if any(windows) else None,
        window_layers=layers,
    )


def read_rope(raw: Json, sections: tuple[int, ...] = (), interleaved: bool = False) -> RopeConfig:
    """Rotary settings in the spelling of v5 (`rope_parameters`) or v4 (`rope_theta`, `rope_scaling`).

    Args:
        raw: the decoder's config.
        sections: of the frequencies among position axes, unless the config names its own; empty for one axis.
        interleaved: the axes take turns, as the form always has it; the config may say so, and nothing else.
    """
    own = dict(section(raw, "rope_scaling") or section(raw, "rope_parameters"))
    kind = own.pop("rope_type", own.pop("type", "default"))
    own.pop("type", None)
    if sections:  # "mrope" is an older word for the default frequencies, shared among axes
        kind = "default" if kind == "mrope" else kind
        sections = tuple(own.pop("mrope_section", None) or sections)
        if bool(said := own.pop("mrope_interleaved", interleaved)) != interleaved:
            raise unsupported("rope_parameters.mrope_interleaved", said, str(interleaved).lower())
    fields: dict[str, Any] = {"theta": own.pop("rope_theta", raw.get("rope_theta", 10000.0)), "type": kind}
    known = ("default", "linear", "llama3", *(() if sections else ("dynamic",)))
    if kind not in known:
        raise unsupported("rope_parameters.rope_type", kind, ", ".join(known))
    if own.pop("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported("rope_parameters.partial_rotary_factor", "≠ 1")
    if kind == "llama3":
        own.setdefault("original_max_position_embeddings", raw["max_position_embeddings"])
    if kind == "dynamic":  # whose base grows behind the config's own length
        own["original_max_position_embeddings"] = raw["max_position_embeddings"]
    fields |= {key: own[key] for key in _SCALING.get(kind, ()) if key in own}
    fields |= {"sections": sections, "interleaved": interleaved}
    return RopeConfig.from_dict(fields, "config.json: rope_parameters")


_SCALING = {
    "linear": ("factor",), "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}  # fmt: skip


def write_rope(rope: RopeConfig, interleaved: bool = False) -> dict[str, Any]:
    """Both spellings, so that a reader of either finds the values; they agree. `interleaved` as of `read_rope`."""
    scaling = {key: getattr(rope, key) for key in _SCALING.get(rope.type, ())}
    if rope.type == "dynamic":
        del scaling["original_max_position_embeddings"]  # is max_position_embeddings
    scaling |= {"mrope_section": list(rope.sections)} if rope.sections else {}
    scaling |= {"mrope_interleaved": True} if interleaved else {}
    raw: dict[str, Any] = {"rope_parameters": {"rope_type": rope.type, "rope_theta": rope.theta, **scaling}}
    raw["rope_theta"] = rope.theta
    if scaling:
        raw["rope_scaling"] = {"rope_type": rope.type, **scaling}
    return raw


def tied(raw: Json, names: Collection[str], head: str, default: bool) -> bool:
    """Whether the head is the embedding table: the file decides; without a head, unless the config denies it.

    A file without a head whose config says ``tie_word_embeddings: false`` lacks a tensor, and strict loading says so.
    """
    if head in names:
        return False
    return bool(raw.get("tie_word_embeddings", True)) or default


def text_family(form: DecoderForm, tiny: Mapping[str, DecoderConfig]) -> Family:
    """The family of text models of one form."""

    def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
        decoder = form.read(raw)
        if names:
            tie = tied(raw, names, "lm_head.weight", form.defaults.get("tie_word_embeddings", False))
            decoder = decoder.replace(tie_word_embeddings=tie)
        return VlmConfig(decoder)

    def config_to_hf(config: VlmConfig, context: Context) -> dict[str, Any]:
        if config.vision is not None:
            raise EyespotError("layout-unsupported", f"{form.model_type} has no place for a vision encoder")
        return {"architectures": [form.architecture], **form.write(config.decoder, context)}

    whole = KeyMap([*RULES, HEAD])
    bare = KeyMap([*(Rule(r.theirs.removeprefix("model."), r.ours) for r in RULES), HEAD])
    return Family(
        name=form.model_type,
        model_types=(form.model_type,),
        config_from_hf=config_from_hf,
        layouts={
            "hf": Layout(lambda config: whole, config_to_hf),
            # What the base class without a head writes.
            "hf-base": Layout(lambda config: bare, config_to_hf),
        },
        contract_from_hf=_contract_from_hf,
        contract_to_hf=lambda contract, config: sidefiles.template_files(contract.text.template),
        tiny=lambda: {name: VlmConfig(decoder) for name, decoder in tiny.items()},
        holds=lambda config: isinstance(config, VlmConfig) and config.vision is None,
    )


def decoder_rules(theirs: str = "", prefix: str = "model.") -> list[Rule]:
    """The decoder's rules below a prefix of theirs, with another word than ``model.`` where a layout has one."""
    return within((Rule(prefix + r.theirs.removeprefix("model."), r.ours) for r in RULES), theirs)


def _contract_from_hf(files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
    return Contract(text=sidefiles.text_rule(files, tokenizer, ("chat_template.jinja", "tokenizer_config.json")))


def _refuse_unknown(raw: Json) -> None:
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise unsupported("hidden_act", raw["hidden_act"], "silu")
    if raw.get("quantization_config"):
        raise unsupported("quantization_config", "…", "weights in floating point")
    if raw.get("partial_rotary_factor", 1.0) not in (None, 1.0):
        raise unsupported("partial_rotary_factor", raw["partial_rotary_factor"], "1.0")
