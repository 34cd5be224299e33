"""BERT as a text tower: config translation and key rules. Contrastive families put it beside an image tower."""

from typing import Any

from eyespot.errors import EyespotError
from eyespot.families.family import Json, check_sizes, differences, unsupported
from eyespot.families.towers import activation, written_activation
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.encoders.post_norm_text import PostNormTextConfig
from eyespot.weights.keymap import Rule

_SHARED = {  # theirs: ours
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads", "intermediate_size": "intermediate_size", "layer_norm_eps": "norm_eps",
    "max_position_embeddings": "max_length", "type_vocab_size": "token_types", "pad_token_id": "pad_token_id",
}  # fmt: skip
_DEFAULTS = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2,
    "pad_token_id": 0, "hidden_act": "gelu",
}  # fmt: skip
_SIZES = tuple(key for key in _SHARED if key not in ("layer_norm_eps", "pad_token_id"))
_PLAIN = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}

RULES = [
    Rule("embeddings.word_embeddings.weight", "token_embedding.weight"),
    Rule("embeddings.position_embeddings.weight", "position_embedding"),
    Rule("embeddings.token_type_embeddings.weight", "type_embedding.weight"),
    Rule("embeddings.LayerNorm.{}", "embedding_norm.{}"),
    Rule("encoder.layer.{}.attention.self.query.{}", "blocks.{}.attn.q_proj.{}"),
    Rule("encoder.layer.{}.attention.self.key.{}", "blocks.{}.attn.k_proj.{}"),
    Rule("encoder.layer.{}.attention.self.value.{}", "blocks.{}.attn.v_proj.{}"),
    Rule("encoder.layer.{}.attention.output.dense.{}", "blocks.{}.attn.o_proj.{}"),
    Rule("encoder.layer.{}.attention.output.LayerNorm.{}", "blocks.{}.norm1.{}"),
    Rule("encoder.layer.{}.intermediate.dense.{}", "blocks.{}.mlp.fc1.{}"),
    Rule("encoder.layer.{}.output.dense.{}", "blocks.{}.mlp.fc2.{}"),
    Rule("encoder.layer.{}.output.LayerNorm.{}", "blocks.{}.norm2.{}"),
    Rule("pooler.dense.{}", "dense.{}"),
]


def read_bert(raw: Json, **own: Any) -> PostNormTextConfig:
    """Their config as ours; `own` are the fields that stand elsewhere (pooling, projection)."""
    raw = {**_DEFAULTS, **raw}
    check_sizes(raw, _SIZES, "text_config.")
    for key, plain in _PLAIN.items():
        if raw.get(key, plain) != plain:
            raise unsupported(f"text_config.{key}", raw[key], repr(plain))
    pad = raw["pad_token_id"]
    if not isinstance(pad, int) or not 0 <= pad < raw["vocab_size"]:
        raise unsupported("text_config.pad_token_id", pad, f"an id below {raw['vocab_size']:,}")
    shared = {ours: raw[theirs] for theirs, ours in _SHARED.items()}
    return PostNormTextConfig.from_dict(shared | {"activation": activation(raw), **own}, "text_config")


def write_bert(config: PostNormTextConfig, **own: Any) -> dict[str, Any]:
    """The inverse of `read_bert`, with the same `own`.

    Raises:
        EyespotError: ``layout-unsupported`` naming what cannot be expressed.
    """
    raw: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in _SHARED.items()}
    raw |= {"model_type": "bert", "hidden_act": written_activation(config.activation)}
    lost = differences(config, read_bert(raw, **own))
    if lost:
        raise EyespotError("layout-unsupported", f"this layout cannot express text.{'; text.'.join(lost)}")
    return raw


def check_padding(tokenizer: Tokenizer | None, config: PostNormTextConfig) -> None:
    """Refuse a tokenizer that pads with another token than the one that the tower does not look at.

    Raises:
        EyespotError: ``tokenizer-token`` with both ids.
    """
    own = tokenizer.id_of(tokenizer.pad_token) if tokenizer is not None else config.pad_token_id
    if own != config.pad_token_id:
        message = f"the tokenizer pads with {own}, the text tower takes {config.pad_token_id} for padding"
        raise EyespotError("tokenizer-token", message)
