"""One optimiser object over AdamW and Muon, and the learning-rate schedules.

Muon takes the hidden matrices only; embeddings, heads, stems, norms, biases and other vectors go to AdamW. Its
update is scaled to AdamW's usual RMS, so that one learning rate serves both (Liu et al. 2025, "Muon is scalable").
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from eyespot.contracts.shapes import Tensor
from eyespot.train.muon import StackedMuon
from eyespot.train.run import Stage

# Linear maps that are no hidden matrices: the first and the last of a tower.
EDGES = ("lm_head", "projection", "stem", "patch_embedding", "head")


class Optimizer:
    """AdamW, or Muon with AdamW for the rest; `set_lr` moves every group by the same share."""

    def __init__(self, module: nn.Module, lrs: Mapping[str, float], stage: Stage) -> None:
        hidden = hidden_matrices(module) if stage.optimizer == "muon" else set()
        named = {name: parameter for name, parameter in module.named_parameters() if name in lrs}
        self.names = {"muon": [n for n in named if n in hidden], "adamw": [n for n in named if n not in hidden]}
        self.parameters = list(named.values())
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if self.names["muon"]:
            self.parts["muon"] = StackedMuon(
                _groups(named, self.names["muon"], lrs, stage.weight_decay),
                lr=stage.lr,
                momentum=stage.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        if self.names["adamw"]:
            fused = all(named[n].device.type in ("cpu", "cuda") for n in self.names["adamw"])
            self.parts["adamw"] = torch.optim.AdamW(
                _groups(named, self.names["adamw"], lrs, stage.weight_decay),
                lr=stage.lr,
                betas=stage.betas,
                fused=fused,
            )
        self._full = {key: [group["lr"] for group in part.param_groups] for key, part in self.parts.items()}

    def set_lr(self, share: float) -> None:
        """Every group's learning rate as a share of its full one."""
        for key, part in self.parts.items():
            for group, full in zip(part.param_groups, self._full[key], strict=True):
                group["lr"] = full * share

    def step(self) -> None:
        """One update from the gradients as they stand."""
        for part in self.parts.values():
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Moments and counts of both parts, with the names they belong to."""
        return {"names": self.names, **{key: part.state_dict() for key, part in self.parts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` left off; the parameters must be the same, in the same order."""
        if state["names"] != self.names:
            raise ValueError("the optimiser state belongs to other parameters")
        for key, part in self.parts.items():
            part.load_state_dict(state[key])


def hidden_matrices(module: nn.Module) -> set[str]:
    """Names of the weights of linear maps inside a tower: what Muon is for."""
    return {
        f"{name}.weight"
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and not any(piece in EDGES for piece in name.split("."))
    }


def lr_share(stage: Stage, step: int) -> float:
    """Share of the full learning rate at `step` (1 … `stage.steps`)."""
    warm = math.ceil(stage.warmup * stage.steps)
    if step <= warm:
        return step / warm
    if stage.schedule == "constant":
        return 1.0
    if stage.schedule == "wsd":
        start = stage.steps - math.ceil(stage.decay * stage.steps)
        left = (stage.steps - step + 1) / (stage.steps - start + 1) if step > start else 1.0
        return stage.final_lr + (1 - stage.final_lr) * left
    done = (step - warm) / (stage.steps - warm + 1)
    return stage.final_lr + (1 - stage.final_lr) * (1 + math.cos(math.pi * done)) / 2


def scale_and_clip(parameters: Iterable[Tensor], divisor: float, clip: float) -> float:
    """Divide the summed gradients by `divisor`, then clip their norm; gives the norm before clipping."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))).item() / divisor
    factor = min(1.0, clip / norm) if clip and norm > 0 else 1.0
    torch._foreach_mul_(grads, factor / divisor)
    return norm


def _groups(
    named: Mapping[str, Tensor], names: list[str], lrs: Mapping[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups of one learning rate and decay; vectors (norms, biases) never decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name in names:
        decay = weight_decay if named[name].ndim >= 2 else 0.0
        groups.setdefault((lrs[name], decay), []).append(named[name])
    return [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
