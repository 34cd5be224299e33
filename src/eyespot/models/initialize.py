"""Starting values of a fresh model; loading overwrites them. On the meta device there is nothing to do."""

import math

import torch
from torch import nn

# Parameters without a module of their own kind.
_DRAWN = ("class_embedding", "position_embedding", "probe", "query", "registers", "mask_token")


def initialize(module: nn.Module, std: float = 0.02) -> None:
    """Normal weights, zero biases; projections that write to the residual stream are scaled by depth (GPT-2)."""
    if any(p.is_meta for p in module.parameters()):
        return
    depth = {name: len(part) for name, part in module.named_modules() if isinstance(part, nn.ModuleList)}
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            writes = name.endswith(("o_proj", "fc2", "down_proj"))
            layers = next((n for stack, n in depth.items() if name.startswith(f"{stack}.")), 1)
            nn.init.normal_(part.weight, std=std / math.sqrt(2 * layers) if writes else std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        for parameter_name, parameter in part.named_parameters(recurse=False):
            if parameter_name in _DRAWN:
                with torch.no_grad():
                    parameter.normal_(std=std)
