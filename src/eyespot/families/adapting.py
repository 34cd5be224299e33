"""Adapters of a whole model: onto it from a folder in PEFT's format, and into one, under the names of a layout."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from torch import nn

from eyespot.errors import EyespotError, nearest
from eyespot.families.family import Family, Loaded
from eyespot.models.vlm import VisionLanguageModel
from eyespot.nn.adapters import LoraLinear, adapters, put
from eyespot.weights import hub, peft, seal
from eyespot.weights.keymap import KeyMap

Source = str | PathLike[str]


def base_and_adapter(path_or_id: Source, adapter: Source | None) -> tuple[Source, Source | None]:
    """A model and an adapter from what a user names: a model, both, or an adapter alone that names its model.

    Raises:
        EyespotError: ``checkpoint-missing`` where an adapter alone names no model, or one that cannot be had.
    """
    folder = hub.resolve(path_or_id if isinstance(path_or_id, str) else Path(path_or_id))
    if adapter is not None or not peft.holds_adapter(folder) or (folder / "config.json").is_file():
        return path_or_id, adapter
    base = peft.base_of(folder)
    remedy = "Load the model with adapter=PATH."
    if not base:
        raise EyespotError("checkpoint-missing", "an adapter that names no model", where=str(folder), remedy=remedy)
    try:
        hub.resolve(base)
    except EyespotError as error:
        message = f"an adapter for {base!r}: {error.message}"
        raise EyespotError(error.code, message, where=str(folder), remedy=remedy) from error
    return base, path_or_id


def checked(adapter: Source, loaded: Loaded, verify: bool) -> Path:
    """The adapter's folder, whole, and trained on input prepared as this model's is, where it says so.

    Raises:
        EyespotError: ``checkpoint-missing``, ``checkpoint-seal``, ``contract-mismatch`` naming the field.
    """
    folder = hub.resolve(adapter if isinstance(adapter, str) else Path(adapter))
    if not peft.holds_adapter(folder):
        raise EyespotError("checkpoint-missing", f"no {peft.CONFIG} here", where=str(folder))
    seal.check(folder, verify)
    stored = seal.stored_contract(folder)
    if stored is not None:
        try:
            stored.check_same(loaded.contract)
        except EyespotError as error:
            raise error.at(str(folder)) from None
    return folder


def put_adapters(loaded: Loaded, folder: Path, families: Sequence[Family]) -> None:
    """Put a folder's adapters onto the layers of a model, read under the layout that knows most of their names.

    Args:
        loaded: the model.
        folder: holds the adapter.
        families: whose layouts may have named the layers.

    Raises:
        EyespotError: ``adapter-format``, or ``adapter-mismatch`` naming layers that are absent or of another size.
    """
    layers = peft.read(folder)
    keymaps = [layout.keymap(loaded.config) for family in families for layout in family.layouts.values()]
    keymap = min(keymaps, key=lambda k: sum(k.found(f"{name}.weight") is None for name in layers))
    try:
        ours = peft.to_ours(layers, keymap)
        _put(loaded.module, ours)
    except EyespotError as error:
        raise error.at(str(folder)) from None


def write_adapters(folder: Path, loaded: Loaded, keymap: KeyMap) -> None:
    """Write a model's adapters to a folder that exists, under the names of a layout."""
    found = adapters(loaded.module)
    ours = {n: peft.LayerAdapter(x.lora_A.detach(), x.lora_B.detach(), x.config) for n, x in found.items()}
    linear = {n: x.out_features for n, x in loaded.module.named_modules() if isinstance(x, nn.Linear)}
    theirs = peft.to_theirs(ours, keymap, linear)
    names = (keymap.their_name(f"{name}.weight").removesuffix(".weight") for name in linear)
    others = [name for name in dict.fromkeys(names) if name not in theirs]
    task = "CAUSAL_LM" if isinstance(loaded.module, VisionLanguageModel) else None
    peft.write(folder, theirs, others, loaded.source, task)


def _put(module: nn.Module, layers: dict[str, peft.LayerAdapter]) -> None:
    modules = dict(module.named_modules())
    if adapters(module):
        remedy = "Merge it first, or load the model without it."
        raise EyespotError("not-supported", "the model has an adapter already", remedy=remedy)
    for name, layer in layers.items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            raise EyespotError("adapter-mismatch", f"{name} is no linear layer{nearest(name, modules)}")
        shape = (layer.b.shape[0], layer.a.shape[1])
        if shape != (linear.out_features, linear.in_features):
            own = (linear.out_features, linear.in_features)
            raise EyespotError("adapter-mismatch", f"{name} is {own}, the adapter is for {shape}")
    for name, layer in layers.items():
        put(module, name, LoraLinear(modules[name], layer.config, (layer.a, layer.b)))
