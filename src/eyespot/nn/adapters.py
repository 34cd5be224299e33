"""Low-rank adapters on linear layers (LoRA, Hu et al. 2021): ``W x + scale · B A x``, with W as it was.

A layer keeps its place, its name and its own parameters; two are added, ``NAME.lora_A`` and ``NAME.lora_B``. Which
layers get them is a regular expression over names, so that any model takes adapters, on any of its parts.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Tensor
from eyespot.errors import EyespotError, nearest

# Found in the names of the adapters' own parameters, and in no other.
PARAMETERS = r"\.lora_[AB]$"
# Its gradient is zero as long as B is, which is where B begins.
ZERO_AT_START = r"\.lora_A$"


@dataclass(frozen=True)
class LoraConfig(Config):
    """How adapters are made.

    Attributes:
        rank: of the product ``B A``.
        alpha: the product counts ``alpha / rank`` times.
        dropout: of an adapter's input, in training.
        rslora: ``alpha / sqrt(rank)`` instead, which does not fade at high ranks (Kalajdzievski 2023).
        modules: found in the names of the linear layers that get one; by default all of the decoder's.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    modules: str = r"^decoder\."

    def __post_init__(self) -> None:
        checks = (
            ("rank", self.rank, self.rank >= 1, "1 or more"),
            ("alpha", self.alpha, math.isfinite(self.alpha), "a number"),
            ("dropout", self.dropout, 0 <= self.dropout < 1, "a share from 0 to below 1"),
        )
        for name, value, holds, expected in checks:
            if not holds:
                raise EyespotError("config-value", f"expected {expected}, got {value!r}", where=f"lora.{name}")

    @property
    def scale(self) -> float:
        """How often the product counts."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoraLinear(nn.Linear):
    """A linear layer with an adapter. The layer's own parameters are shared with `linear`, not copied.

    A is drawn as a linear layer's weight is (Kaiming, uniform) and B is zero, so that nothing changes at first. Both
    are float32, as small updates vanish in narrower numbers; the output has the dtype of the layer alone.

    Args:
        linear: the layer.
        config: the adapter's rank, scale and dropout.
        weights: A and B as they were; None: fresh ones.
    """

    def __init__(self, linear: nn.Linear, config: LoraConfig, weights: tuple[Tensor, Tensor] | None = None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.config = config
        if weights is None:
            a = torch.empty(config.rank, linear.in_features)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # on the CPU: the same draw whatever the device
            weights = a, torch.zeros(linear.out_features, config.rank)
        self.lora_A, self.lora_B = (nn.Parameter(t.to(linear.weight.device, torch.float32, copy=True)) for t in weights)
        self.train(linear.training)

    def forward(self, x: Float[Tensor, "*n D"]) -> Float[Tensor, "*n E"]:
        """The layer and its adapter."""
        own = F.linear(x, self.weight, self.bias)
        low = F.dropout(x.to(self.lora_A.dtype), self.config.dropout, self.training)
        return (own + F.linear(F.linear(low, self.lora_A), self.lora_B) * self.config.scale).to(own.dtype)

    def product(self) -> Float[Tensor, "E D"]:
        """What the adapter adds to the weight, in float32."""
        return (self.lora_B.float() @ self.lora_A.float()) * self.config.scale

    def alone(self) -> nn.Linear:
        """The layer without its adapter, its parameters the same objects."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        """As of a linear layer, and the adapter."""
        return f"{super().extra_repr()}, rank={self.config.rank}, scale={self.config.scale:g}"


def adapters(module: nn.Module) -> dict[str, LoraLinear]:
    """The layers that have adapters, by name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, LoraLinear)}


def parameters(module: nn.Module) -> set[str]:
    """Names of the adapters' own parameters."""
    return {f"{name}.{own}" for name in adapters(module) for own in ("lora_A", "lora_B")}


def attach(module: nn.Module, config: LoraConfig) -> dict[str, LoraLinear]:
    """Give every linear layer whose name `config.modules` is found in an adapter; the layers with one, by name.

    Raises:
        EyespotError: ``adapter-unmatched`` where no linear layer has such a name; ``config-value`` for a broken
            pattern; ``not-supported`` where there are adapters already.
    """
    if adapters(module):
        remedy = "Merge them, or take the model without them."
        raise EyespotError("not-supported", "the model has adapters already", where="lora", remedy=remedy)
    made = {name: LoraLinear(linear, config) for name, linear in _chosen(module, config)}
    for name, layer in made.items():
        put(module, name, layer)
    return made


def attached(module: nn.Module, config: LoraConfig) -> bool:
    """Whether the module has exactly the adapters that `attach` would give it."""
    found = adapters(module)
    chosen = {name for name, _ in _chosen(module, config)}
    plain = [layer.config.replace(modules=config.modules) for layer in found.values()]
    return bool(found) and found.keys() == chosen and all(own == config for own in plain)


@torch.no_grad()
def merge(module: nn.Module) -> list[str]:
    """Add every adapter to its layer's weight and take it off; the names of the layers.

    The sum is made in float32 and rounded once to the weight's own dtype: exact for float32 up to one rounding, and for
    bfloat16 an update below 1/256 of a weight is partly lost, which is inherent to a merged model of that dtype.
    """
    found = adapters(module)
    for name, layer in found.items():
        wide = torch.promote_types(layer.weight.dtype, torch.float32)
        layer.weight.copy_(layer.weight.to(wide) + layer.product())
        put(module, name, layer.alone())
    return list(found)


def detach(module: nn.Module) -> dict[str, LoraLinear]:
    """Take every adapter off, which leaves the model as it was before; the layers with theirs, by name."""
    found = adapters(module)
    for name, layer in found.items():
        put(module, name, layer.alone())
    return found


def put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Let `layer` stand at `name`."""
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)


def own_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors by the names that they have without adapters, and none of the adapters'."""
    return {name: t for name, t in module.state_dict().items() if not re.search(PARAMETERS, name)}


def _chosen(module: nn.Module, config: LoraConfig) -> Iterator[tuple[str, nn.Linear]]:
    try:
        pattern = re.compile(config.modules)
    except re.error as error:
        message = f"{config.modules!r} is no regular expression: {error}"
        raise EyespotError("config-value", message, where="lora.modules") from error
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear) and name}
    chosen = [(name, part) for name, part in linear.items() if pattern.search(name)]
    if not chosen:
        stems = {".".join(name.split(".")[:i]) for name in linear for i in range(1, name.count(".") + 2)}
        message = f"{config.modules!r} matches no linear layer{nearest(config.modules, stems)}"
        raise EyespotError("adapter-unmatched", message, where="lora.modules")
    yield from chosen
