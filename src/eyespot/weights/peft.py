"""Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`, under a checkpoint's layer names.

A key map speaks of weights; an adapter is a factored weight. Where a layout fuses what are several layers here, the
adapter is cut or joined with the rule that cuts or joins the weight, and the product is checked against that rule: what
cannot be expressed exactly is refused by name. Format: huggingface/peft, `tuners/lora` and `utils/save_and_load.py`.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError
from eyespot.nn.adapters import LoraConfig
from eyespot.weights.files import Tensors, read_json, replace_with, write_json
from eyespot.weights.keymap import KeyMap, Reshape, Rule

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
# Keys that change what an adapter computes or add tensors of another kind; read only where they are off.
_OFF = (
    "fan_in_fan_out", "use_dora", "lora_bias", "modules_to_save", "target_parameters", "trainable_token_indices",
    "layer_replication", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config",
    "velora_config", "monteclora_config", "megatron_config",
)  # fmt: skip
_TENSOR = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_MOST_REPEATS = 4  # in a pattern that a file gives: names are short, and so must be the search


@dataclass(frozen=True, eq=False)
class LayerAdapter:
    """The adapter of one layer, away from it."""

    a: Float[Tensor, "r D"]
    b: Float[Tensor, "E r"]
    config: LoraConfig

    def product(self) -> Float[Tensor, "E D"]:
        """``B A`` without its scale."""
        return self.b.float() @ self.a.float()


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, alone or beside a model."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """The model that an adapter names as its base; empty where it names none."""
    named = read_json(Path(folder) / CONFIG).get("base_model_name_or_path")
    return named if isinstance(named, str) else ""


def read(folder: Path) -> dict[str, LayerAdapter]:
    """The adapters of a folder by their layers' names there, in the dtype that they are stored in.

    Raises:
        EyespotError: ``adapter-format`` naming the key or tensor that is not read, ``checkpoint-missing`` without
            weights, ``checkpoint-corrupt``.
    """
    folder = Path(folder)
    raw = read_json(folder / CONFIG)
    where = str(folder / CONFIG)
    _check(raw, where)
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise EyespotError("checkpoint-missing", f"{CONFIG} without {WEIGHTS[0]}", where=str(folder))
    pairs: dict[str, dict[str, Tensor]] = {}
    tensors = Tensors([file])
    for name in tensors:
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise EyespotError("adapter-format", f"{name} is no part of a LoRA on a linear layer", where=str(file))
        pairs.setdefault(match[1].removeprefix(PREFIX), {})[match[2]] = tensors[name]
    layers = {name: _layer(name, pair, raw, str(file)) for name, pair in pairs.items()}
    if not layers:
        raise EyespotError("adapter-format", "no adapters in this file", where=str(file))
    return layers


def write(folder: Path, layers: Mapping[str, LayerAdapter], others: Sequence[str], base: str, task: str | None) -> None:
    """Write adapters to a folder that exists.

    Args:
        folder: where to.
        layers: by the names that the base's layers have where the adapter will be used.
        others: names of the base's layers without an adapter, so that the config names those with one and no other.
        base: path or id of the model that the adapter belongs to.
        task: PEFT's task type, such as ``CAUSAL_LM``.
    """
    ranks, alphas = (Counter(getattr(x.config, key) for x in layers.values()) for key in ("rank", "alpha"))
    rank, alpha = ranks.most_common(1)[0][0], alphas.most_common(1)[0][0]
    first = next(iter(layers.values())).config
    if any((x.config.dropout, x.config.rslora) != (first.dropout, first.rslora) for x in layers.values()):
        raise EyespotError("adapter-format", "the layers differ in dropout or rslora, which one file cannot say")
    config = {
        "peft_type": "LORA", "task_type": task, "base_model_name_or_path": base or None, "inference_mode": True,
        "r": rank, "lora_alpha": _plain(alpha), "lora_dropout": first.dropout, "use_rslora": first.rslora,
        "target_modules": _targets(layers, others), "bias": "none", "fan_in_fan_out": False, "use_dora": False,
        "init_lora_weights": True, "modules_to_save": None, "exclude_modules": None,
        "rank_pattern": {_exactly(n): x.config.rank for n, x in layers.items() if x.config.rank != rank},
        "alpha_pattern": {_exactly(n): _plain(x.config.alpha) for n, x in layers.items() if x.config.alpha != alpha},
    }  # fmt: skip
    own = {}
    for name, layer in layers.items():
        for letter, tensor in (("A", layer.a), ("B", layer.b)):
            own[f"{PREFIX}{name}.lora_{letter}.weight"] = tensor.detach().to("cpu").contiguous().clone()
    write_json(folder / CONFIG, config)
    replace_with(folder / WEIGHTS[0], lambda file: save_file(own, file, metadata={"format": "pt"}))


def to_ours(layers: Mapping[str, LayerAdapter], keymap: KeyMap) -> dict[str, LayerAdapter]:
    """A layout's adapters under our layer names; a fused layer's adapter becomes one for each piece.

    Raises:
        EyespotError: ``adapter-mismatch`` naming layers that the layout does not know, ``adapter-format`` naming one
            whose adapter cannot be cut.
    """
    found = {name: keymap.found(f"{name}.weight") for name in layers}
    unknown = [name for name, place in found.items() if place is None]
    if unknown:
        shown = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        raise EyespotError("adapter-mismatch", f"this model has no layer {shown}")
    result = {}
    for name, (rule, ours) in ((name, place) for name, place in found.items() if place is not None):
        layer = layers[name]
        if type(rule) is Rule:
            result[_module(ours[0], name)] = layer
            continue
        pieces = _pieces(rule, layer, name)
        result |= {_module(o, name): LayerAdapter(layer.a, b, layer.config) for o, b in zip(ours, pieces, strict=True)}
    return result


def to_theirs(layers: Mapping[str, LayerAdapter], keymap: KeyMap, rows: Mapping[str, int]) -> dict[str, LayerAdapter]:
    """Our adapters under a layout's layer names; those of layers that it fuses are joined, exactly.

    Args:
        layers: by our layer names.
        keymap: of the layout.
        rows: how many outputs each of our layers has.

    Raises:
        EyespotError: ``adapter-format`` naming a layer that is no linear layer in this layout.
    """
    result: dict[str, LayerAdapter] = {}
    for name, layer in layers.items():
        found = keymap.holding(f"{name}.weight")
        if found is None:
            raise EyespotError("adapter-format", f"this layout has no layer {name}")
        rule, theirs, ours = found
        module = _module(theirs, name)
        if type(rule) is Rule:
            result[module] = layer
        elif module not in result:
            names = [_module(o, name) for o in ours]
            result[module] = _joined(rule, names, {n: layers[n] for n in names if n in layers}, rows)
    return result


def _joined(
    rule: Rule, names: Sequence[str], layers: Mapping[str, LayerAdapter], rows: Mapping[str, int]
) -> LayerAdapter:
    """One adapter for several layers that a layout keeps as one: with a common A where they have it, else stacked."""
    first = next(iter(layers.values()))
    if any(x.config.replace(rank=1) != first.config.replace(rank=1) or x.config.scale != first.config.scale
           for x in layers.values()):  # fmt: skip
        raise EyespotError("adapter-format", f"{', '.join(layers)} are one layer in this layout, their scales differ")
    if len(layers) == len(names) and all(torch.equal(x.a, first.a) for x in layers.values()):
        a, columns = first.a, {name: (x.b,) for name, x in layers.items()}
    else:
        a = torch.cat([x.a for x in layers.values()])
        zeros = {(n, m): torch.zeros(rows[n], x.config.rank, dtype=x.b.dtype) for n in names for m, x in layers.items()}
        columns = {n: [x.b.cpu() if n == m else zeros[n, m] for m, x in layers.items()] for n in names}
        a = a.cpu()
    blocks = [torch.cat(tuple(columns[n]), dim=1) for n in names]
    rank = a.shape[0]
    config = first.config.replace(
        rank=rank, alpha=first.config.scale * (math.sqrt(rank) if first.config.rslora else rank)
    )
    whole = LayerAdapter(a, rule.merge(blocks), config)
    _pieces(rule, whole, names[0])
    return whole


def _pieces(rule: Rule, layer: LayerAdapter, name: str) -> list[Tensor]:
    """B cut as the weight would be, if its product with A then is the weight's update cut the same way."""
    pieces, whole = list(rule.split(layer.b)), list(rule.split(layer.product()))
    fits = not isinstance(rule, Reshape) and all(
        p.shape == (len(w), len(layer.a)) and torch.allclose(p.float() @ layer.a.float(), w, atol=1e-5)
        for p, w in zip(pieces, whole, strict=True)
    )
    if not fits:
        raise EyespotError("adapter-format", f"{name} is no linear layer, or another one, in this layout")
    return pieces


def _module(weight: str, name: str) -> str:
    """The layer that a weight belongs to."""
    if not weight.endswith(".weight"):
        raise EyespotError("adapter-format", f"{name} is no linear layer in this layout ({weight})")
    return weight.removesuffix(".weight")


def _check(raw: Mapping[str, Any], where: str) -> None:
    """Refuse what would be computed otherwise than it was trained."""

    def refuse(key: str, expected: str) -> None:
        raise EyespotError("adapter-format", f"{key} = {raw.get(key)!r} is not read; expected {expected}", where=where)

    if raw.get("peft_type") != "LORA":
        refuse("peft_type", "LORA")
    for key in _OFF:
        if raw.get(key):
            refuse(key, "none")
    if raw.get("bias", "none") != "none":
        refuse("bias", "none")
    start = raw.get("init_lora_weights", True)
    if isinstance(start, str) and start not in ("gaussian", "orthogonal", "eva"):  # the others change the base
        refuse("init_lora_weights", "a start that leaves the base as it was")
    for key in ("rank_pattern", "alpha_pattern"):
        found = raw.get(key) or {}
        if not isinstance(found, Mapping) or any(_wild(pattern) for pattern in found):
            refuse(key, "an object of short patterns")


def _wild(pattern: str) -> bool:
    """Whether a pattern of a file may take forever."""
    try:
        re.compile(pattern)
    except re.error:
        return True
    return bool(re.search(r"\)[*+{?]", pattern)) or len(re.findall(r"[*+{]", pattern)) > _MOST_REPEATS


def _layer(name: str, pair: Mapping[str, Tensor], raw: Mapping[str, Any], where: str) -> LayerAdapter:
    a, b = pair.get("A"), pair.get("B")
    if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        shapes = {letter: tuple(tensor.shape) for letter, tensor in pair.items()}
        raise EyespotError("adapter-format", f"{name} needs A (r, in) and B (out, r), got {shapes}", where=where)
    if not a.is_floating_point() or not b.is_floating_point():
        raise EyespotError("adapter-format", f"{name} is not floating point ({a.dtype})", where=where)
    given = {
        "rank": _of(name, raw, "rank_pattern", "r", 8), "alpha": _of(name, raw, "alpha_pattern", "lora_alpha", 8),
        "dropout": raw.get("lora_dropout") or 0.0, "rslora": bool(raw.get("use_rslora")), "modules": re.escape(name),
    }  # fmt: skip
    config = LoraConfig.from_dict(given, CONFIG)
    if config.rank != a.shape[0]:
        message = f"{name} has rank {a.shape[0]}, {CONFIG} says {config.rank}"
        raise EyespotError("adapter-format", message, where=where)
    return LayerAdapter(a, b, config)


def _of(name: str, raw: Mapping[str, Any], patterns: str, key: str, default: Any) -> Any:
    """A layer's own value, or that of all."""
    for pattern, value in (raw.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return raw.get(key, default)


def _targets(layers: Mapping[str, LayerAdapter], others: Sequence[str]) -> list[str]:
    """The layers as PEFT finds them: by their last words where these mean no other layer, else by their whole names."""
    words = {name.rpartition(".")[2] for name in layers}
    alone = not any(other.rpartition(".")[2] in words for other in others)
    return sorted(words) if alone else sorted(layers)


def _exactly(name: str) -> str:
    return f"^{re.escape(name)}"


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
