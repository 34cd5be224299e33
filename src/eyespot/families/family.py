"""What a model family is: a description. The loader and the writer know no family by name.

A family file gives config translation both ways, one reversible key map for each layout that its checkpoints come
in, and what its processor files mean. Unknown keys of a config are kept beside the model for the way back.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import nn

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families.vocabulary import check_rows, rows_of
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig, DualEncoder
from eyespot.models.encoders.vit import VisionEncoder, VitConfig
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.weights.keymap import KeyMap

ModelConfig = VlmConfig | DualConfig | VitConfig
Json = Mapping[str, Any]
Files = Mapping[str, Any]  # a checkpoint's small files by name: JSON objects as dicts, templates as text

# Several times the deepest model and the largest input that exist: numbers of a file must not fill the memory.
MAX_LAYERS = 1000
MAX_SIDE = 1 << 13  # pixels

_MODULES: dict[type, Callable[..., nn.Module]] = {
    VlmConfig: VisionLanguageModel, DualConfig: DualEncoder, VitConfig: VisionEncoder,
}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """What config files repeat from the tokenizer and the contract."""

    bos: int | None = None
    pad: int | None = None
    stops: tuple[int, ...] = ()
    image_token_id: int | None = None
    image: ImageRule | None = None
    tokenizer: Tokenizer | None = None
    video_token_id: int | None = None
    max_length: int | None = None
    template: str | None = None

    def id_of(self, token: str, published: int) -> int:
        """The id of a token that a config names, as published where there is no tokenizer that knows it."""
        own = self.tokenizer.id_of(token) if self.tokenizer is not None else None
        return published if own is None else own


@dataclass(frozen=True)
class Layout:
    """One way to lay a family's checkpoint out.

    Attributes:
        keymap: tensor names, given the model's config.
        config_to_hf: config.json of a fresh export, without the weights' dtype.
        adds_image_token: its checkpoints know no image token; one is added on reading and left out on writing.
        config_name: the file that holds its config.
        weights: its weights' file without the ending.
        dtype: what its weights are read in where nothing is asked, for files that mix types.
        contract_to_hf: processor files, where they are other than the family's.
        of_contract: keys of config.json that the contract decides, each with what its absence means.
    """

    keymap: Callable[[Any], KeyMap]
    config_to_hf: Callable[[Any, Context], dict[str, Any]]
    adds_image_token: bool = False
    config_name: str = "config.json"
    weights: str = "model"
    dtype: torch.dtype | None = None
    contract_to_hf: Callable[[Contract, Any], dict[str, Any]] | None = None
    of_contract: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A family of published checkpoints.

    Attributes:
        name: of the family and of its file.
        model_types: values of config.json's ``model_type`` that it reads.
        config_from_hf: (config.json, tensor names, configs of supplied parts) to our config.
        layouts: by name; the first is the one that a fresh model is written in.
        holds: whether a config of ours is this family's kind of model.
        contract_from_hf: (files, config, tokenizer) to the contract.
        contract_to_hf: (contract, config) to processor files.
        tiny: configs of a few thousand parameters, by a word on what is particular.
        recognise: which layouts a config.json may stand for; all, where it is None.
        modules: the layout whose names are those of `transformers`' modules in memory, which adapters are written
            under; empty: the first.
        describe: (small files, tensors) of a folder without a readable config.json to such a config, or None.
        absent: parts that the checkpoint needs but does not hold: {part: path or id, or empty where it names none}.
    """

    name: str
    model_types: tuple[str, ...]
    config_from_hf: Callable[[Json, Collection[str], Mapping[str, Any]], Any]
    layouts: Mapping[str, Layout]
    contract_from_hf: Callable[[Files, Any, Tokenizer | None], Contract]
    contract_to_hf: Callable[[Contract, Any], dict[str, Any]]
    tiny: Callable[[], dict[str, Any]]
    holds: Callable[[Any], bool]
    recognise: Callable[[Json], tuple[str, ...]] | None = None
    absent: Callable[[Json, Collection[str]], dict[str, str]] | None = None
    modules: str = ""
    describe: Callable[[Files, Mapping[str, torch.Tensor]], dict[str, Any] | None] | None = None

    def layout_of(self, raw: Json, names: Collection[str], config: ModelConfig) -> str:
        """The layout whose key map knows most of the names; of equals the first."""
        candidates = self.recognise(raw) if self.recognise else tuple(self.layouts)
        return min(candidates, key=lambda name: len(self.layouts[name].keymap(config).unknown(names)))


@dataclass
class Loaded:
    """A model with everything that belongs to it, apart from optimiser state.

    Attributes:
        module: the weights, in evaluation mode.
        processor: without a tokenizer where the checkpoint has none.
        contract: how input is prepared.
        family: name of the family that it was read as.
        layout: name of the layout that it came in.
        generation: generation_config.json.
        extra: the checkpoint's small files as they came, for the round trip.
        parts: where parts that the checkpoint does not hold were read from.
        source: the folder or id that it was read from; empty once it is no longer what lies there.
    """

    module: nn.Module
    processor: Processor
    contract: Contract
    family: str
    layout: str
    generation: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """A tokenizer and a table that do not fit are refused wherever they meet, not at the first odd token."""
        self.processor.rows = rows_of(self.config)
        check_rows(self.tokenizer, self.config)

    @property
    def config(self) -> Any:
        """The module's config."""
        return self.module.config

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The processor's tokenizer."""
        return self.processor.tokenizer


def build(config: ModelConfig, device: torch.device | str = "cpu") -> nn.Module:
    """A module with fresh weights, or with none on the meta device."""
    for name in ("", "decoder", "vision", "text", "text.decoder"):
        part = reduce(lambda found, key: getattr(found, key, None), name.split(".") if name else [], config)
        layers = getattr(part, "num_layers", 0)
        if layers > MAX_LAYERS:
            raise unsupported(f"{name}.num_layers".strip("."), layers, f"up to {MAX_LAYERS:,}")
    with torch.device(device):
        return _MODULES[type(config)](config)


def unsupported(key: str, value: Any, known: str = "") -> EyespotError:
    """The error for a config key whose value this family cannot honour."""
    hint = f"; supported: {known}" if known else ""
    return EyespotError("family-config", f"{key} = {value!r} is not supported{hint}")


def section(raw: Json, key: str) -> Json:
    """A nested object of a config; empty where the key is absent or null."""
    found = raw.get(key) or {}
    if not isinstance(found, Mapping):
        raise unsupported(key, found, "an object")
    return found


def check_sizes(raw: Json, keys: Collection[str], where: str = "") -> None:
    """Sizes and counts must be positive whole numbers, or nothing can be built from them."""
    for key in keys:
        if not isinstance(raw[key], int) or isinstance(raw[key], bool) or raw[key] < 1:
            raise unsupported(f"{where}{key}", raw[key], "a positive whole number")
        if key == "num_hidden_layers" and raw[key] > MAX_LAYERS:
            raise unsupported(f"{where}{key}", raw[key], f"up to {MAX_LAYERS:,}")


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Fields in which two configs differ, as ``path: a, b there``."""
    if hasattr(a, "to_dict") and hasattr(b, "to_dict"):
        a, b = a.to_dict(), b.to_dict()
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return [line for key in {**a, **b} for line in differences(a.get(key), b.get(key), f"{path}.{key}".strip("."))]
    return [] if a == b else [f"{path}: {a!r} (expressible: {b!r})"]
