"""ViT (Dosovitskiy et al. 2021): one image tower. Also what is published in its form, such as the first DINO.

Unusual: eps 1e-12; a final norm on all tokens; the pooled vector is the class token, through a dense layer with tanh
(the pooler) where the checkpoint has one. Numerics: `transformers` modeling_vit.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.family import Context, Family, Files, Json, Layout, unsupported
from eyespot.families.towers import TowerForm
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.encoders.vit import VitConfig
from eyespot.weights.keymap import KeyMap, Reshape, Rule

VIT = TowerForm(
    "vit", "ViTModel", "ViTImageProcessor",
    {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "layer_norm_eps": 1e-12, "image_size": 224, "patch_size": 16, "hidden_act": "gelu", "qkv_bias": True},
    {"class_token": True, "post_norm": "sequence", "pool": "class"},
    more={"qkv_bias": "qkv_bias"},
)  # fmt: skip


def config_from_hf(raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VitConfig:
    """The tower; the file's tensors say whether it has a pooler."""
    encoder_only(raw, names)
    return read(raw, any(name.endswith("pooler.dense.weight") for name in names))


def read(raw: Json, pooler: bool) -> VitConfig:
    """Their config as ours."""
    config = VIT.read(raw)
    if not pooler:
        return config
    size, activation = raw.get("pooler_output_size"), raw.get("pooler_act", "tanh")
    if size not in (None, config.hidden_size) or activation != "tanh":
        found = f"{size} with {activation}"
        raise unsupported("pooler_output_size, pooler_act", found, f"{config.hidden_size} with tanh")
    return config.replace(pooled_dense="tanh")


def write(config: VitConfig) -> dict[str, Any]:
    """The inverse of `read`."""
    raw = VIT.write(config.replace(pooled_dense="none"))
    raw["attention_probs_dropout_prob"] = raw["hidden_dropout_prob"] = raw.pop("attention_dropout")
    return raw


def config_to_hf(config: VitConfig, context: Context) -> dict[str, Any]:
    """config.json of the tower alone."""
    return {"architectures": [VIT.architecture], **write(config)}


def encoder_only(raw: Json, names: Collection[str]) -> None:
    """Refuse a classifier: a picture's vector is what is read, and a head that is dropped would be lost on the way out.

    Raises:
        EyespotError: ``family-config`` with the way to the encoder.
    """
    if "classifier.weight" in names:
        kind = (raw.get("architectures") or ["a classifier"])[0]
        message = f"this checkpoint is a classifier ({kind}); its encoder alone is supported"
        remedy = "Write the encoder out: in transformers, AutoModel.from_pretrained(PATH).save_pretrained(NEW)."
        raise EyespotError("family-config", message, remedy=remedy)


def stem_rules(config: VitConfig) -> list[Rule]:
    """Names outside the blocks, as ViT and DINOv2 have them."""
    p, c, e = config.patch_size, config.channels, config.hidden_size
    patches = "embeddings.patch_embeddings.projection"
    return [
        Reshape(f"{patches}.weight", "stem.proj.weight", (-1, c, p, p), (-1, c * p * p)),
        Rule(f"{patches}.bias", "stem.proj.bias"),
        Reshape("embeddings.cls_token", "class_embedding", (1, 1, e), (e,)),
        Reshape("embeddings.position_embeddings", "position_embedding", (1, -1, e), (-1, e)),
        Rule("layernorm.{}", "post_norm.{}"),
    ]


def attention_rules(layer: str, older: bool) -> list[Rule]:
    """Attention of one block, by the names of files or those that version 5 of `transformers` has in memory."""
    names = ("attention.query", "attention.key", "attention.value", "output.dense")
    theirs = names if older else ("q_proj", "k_proj", "v_proj", "o_proj")
    ours = ("q_proj", "k_proj", "v_proj", "o_proj")
    return [
        Rule(f"{layer}.attention.{a}.{{}}", f"blocks.{{}}.attn.{b}.{{}}") for a, b in zip(theirs, ours, strict=True)
    ]


def rules(config: VitConfig, older: bool = True) -> list[Rule]:
    """The tower's names."""
    layer = "encoder.layer.{}" if older else "layers.{}"
    inner = ("intermediate.dense", "output.dense") if older else ("mlp.fc1", "mlp.fc2")
    return [
        *stem_rules(config),
        *attention_rules(layer, older),
        Rule(f"{layer}.layernorm_before.{{}}", "blocks.{}.norm1.{}"),
        Rule(f"{layer}.layernorm_after.{{}}", "blocks.{}.norm2.{}"),
        Rule(f"{layer}.{inner[0]}.{{}}", "blocks.{}.mlp.fc1.{}"),
        Rule(f"{layer}.{inner[1]}.{{}}", "blocks.{}.mlp.fc2.{}"),
        Rule("pooler.dense.{}", "dense.{}"),
    ]


def contract_from_hf(files: Files, config: VitConfig, tokenizer: Tokenizer | None) -> Contract:
    """Pictures by the checkpoint's processor."""
    size, patch = config.image_size, config.patch_size
    return Contract(image=sidefiles.image_rule(files, VIT.processor, patch_size=patch, image_size=size))


def contract_to_hf(contract: Contract, config: VitConfig) -> dict[str, Any]:
    """preprocessor_config.json; of the class that crops where the rule does."""
    kind = VIT.processor if contract.image and contract.image.resize == "exact" else "BitImageProcessor"
    return sidefiles.image_files(contract.image, kind) if contract.image else {}


def tiny() -> dict[str, Any]:
    """With and without the pooler."""
    config = VitConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, image_size=(28, 28), patch_size=14,
        norm_eps=1e-12, pooled_dense="tanh", **VIT.fixed,
    )  # fmt: skip
    return {"plain": config, "no-pooler": config.replace(pooled_dense="none", qkv_bias=False)}


FAMILY = Family(
    name="vit",
    model_types=("vit",),
    config_from_hf=config_from_hf,
    layouts={
        "hf": Layout(lambda config: KeyMap(rules(config)), config_to_hf),
        "hf-memory": Layout(lambda config: KeyMap(rules(config, older=False)), config_to_hf),
    },
    contract_from_hf=contract_from_hf,
    contract_to_hf=contract_to_hf,
    tiny=tiny,
    modules="hf-memory",
    holds=lambda config: isinstance(config, VitConfig) and config.class_token and config.post_norm == "sequence",
)
