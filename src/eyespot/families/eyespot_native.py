"""Our own layout: config.json holds our config as it is, the weights have our names. It expresses every model.

For what no published family can hold, such as a convolutional stem. The contract stands in eyespot.json.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from eyespot.contracts.config import Config
from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families.family import Context, Family, Files, Json, Layout, ModelConfig, build, section, unsupported
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.weights.keymap import KeyMap, Rule

KINDS: dict[str, type[Config]] = {"vlm": VlmConfig, "dual": DualConfig, "vision": VitConfig}
VERSION = 1
MAX_SIZE = 10**8


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> Any:
    """The config that stands under ``config``."""
    if not isinstance(raw.get("version", VERSION), int) or raw.get("version", VERSION) > VERSION:
        raise unsupported("version", raw["version"], f"up to {VERSION}; a later eyespot wrote this")
    if not isinstance(raw.get("kind"), str) or raw["kind"] not in KINDS:
        raise unsupported("kind", raw.get("kind"), ", ".join(KINDS))
    config = KINDS[raw["kind"]].from_dict(section(raw, "config"), "config.json: config")
    _check(config)
    return config


def _check(config: Config, where: str = "") -> None:
    """Sizes from which a module can be built."""
    for key, value, default in ((f.name, getattr(config, f.name), f.default) for f in fields(config)):
        if isinstance(value, Config):
            _check(value, f"{where}{key}.")
        elif value not in (None, default) and (
            key.startswith("num_") or key.endswith("_size") or key in ("channels", "head_dim")
        ):
            if not all(1 <= size <= MAX_SIZE for size in (value if isinstance(value, tuple) else (value,))):
                raise unsupported(f"{where}{key}", value, f"from 1 to {MAX_SIZE:,}")
        elif key == "select_layers" and not value:
            raise unsupported(f"{where}{key}", value, "at least one layer")


def config_to_hf(config: ModelConfig, context: Context) -> dict[str, Any]:
    """Our config under ``config``."""
    kind = next(name for name, own in KINDS.items() if isinstance(config, own))
    return {"model_type": "eyespot", "version": VERSION, "kind": kind, "config": config.to_dict()}


def keymap(config: ModelConfig) -> KeyMap:
    """Every tensor under its own name."""
    return KeyMap(Rule(name, name) for name in build(config, "meta").state_dict())


def contract_from_hf(files: Files, config: ModelConfig, tokenizer: Tokenizer | None) -> Contract:
    """The contract of eyespot.json."""
    stored = files.get("eyespot.json", {}).get("contract")
    if stored is None:
        raise EyespotError("checkpoint-missing", "eyespot.json, which holds the contract, is absent or holds none")
    return Contract.from_dict(stored, "eyespot.json: contract")


def tiny() -> dict[str, Any]:
    """A model with a convolutional stem and an odd connector."""
    vision = VitConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, image_size=(16, 16), patch_size=4,
        stem="conv", stem_channels=(8,),
    )  # fmt: skip
    decoder = DecoderConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=64, qk_norm=True,
        tie_word_embeddings=True,
    )  # fmt: skip
    connector = ConnectorConfig("mlp3x_gelu", 32, 32)
    return {"conv-stem": VlmConfig(decoder, vision, connector, select_layers=(-1, -2))}


FAMILY = Family(
    name="eyespot",
    model_types=("eyespot",),
    config_from_hf=config_from_hf,
    layouts={"eyespot": Layout(keymap, config_to_hf)},
    contract_from_hf=contract_from_hf,
    contract_to_hf=lambda contract, config: {},
    tiny=tiny,
    holds=lambda config: False,
)
