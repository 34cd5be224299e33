"""Proof before step 1 and after the last: gradients reach every trained parameter; frozen parts do not move.

The audit runs forward and backward on the first real batches, changes nothing, and stops as soon as every trained
parameter was used. Hashes are taken over values in float32, so that storing a part in another width does not count.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.train.trainable import part_of


def audit(
    module: nn.Module,
    trained: Iterable[str],
    batches: Iterator[Any],
    loss: Callable[[Any], Tensor],
    limit: int,
    zero_at_start: Iterable[str] = (),
) -> int:
    """Check that each trained parameter gets a gradient that is not exactly zero; gives the batches it took.

    Args:
        module: its gradients are cleared afterwards.
        trained: names of the trained parameters.
        batches: real ones, at most `limit` are taken.
        loss: a batch's loss, with its graph.
        limit: batches to look at before giving up.
        zero_at_start: patterns of parameters whose gradient is zero by construction before the first update.

    Raises:
        EyespotError: ``gradient-missing`` naming parameters and whether the gradient was absent or zero.
    """
    parameters = dict(module.named_parameters())
    declared = [*zero_at_start, *map(re.escape, module.zero_at_start() if hasattr(module, "zero_at_start") else ())]
    waiting = {name for name in trained if not any(re.search(pattern, name) for pattern in declared)}
    absent = set(waiting)
    taken = 0
    while waiting and taken < limit:
        batch = next(batches, None)
        if batch is None:
            break
        taken += 1
        module.zero_grad(set_to_none=True)
        value = loss(batch)
        if value.requires_grad:
            value.backward()
        absent -= {name for name in waiting if parameters[name].grad is not None}
        waiting -= {name for name in waiting if _reached(parameters[name])}
    module.zero_grad(set_to_none=True)
    if waiting:
        named = ", ".join(f"{n} ({'absent' if n in absent else 'zero'})" for n in sorted(waiting)[:8])
        more = f" and {len(waiting) - 8} more" if len(waiting) > 8 else ""
        raise EyespotError("gradient-missing", f"no gradient in {taken} batch(es) for {named}{more}", where="trainable")
    return taken


def digests(module: nn.Module) -> dict[str, str]:
    """sha256 of every parameter's shape and values."""
    return {name: _digest(parameter.detach()) for name, parameter in module.named_parameters()}


def part_hashes(found: Mapping[str, str]) -> dict[str, str]:
    """One sha256 for each part of the model, from the digests of its parameters."""
    parts: dict[str, Any] = {}
    for name in sorted(found):
        parts.setdefault(part_of(name), hashlib.sha256()).update(f"{name} {found[name]}\n".encode())
    return {part: digest.hexdigest() for part, digest in parts.items()}


def check_frozen(before: Mapping[str, str], after: Mapping[str, str], trained: Iterable[str]) -> None:
    """Raise ``frozen-changed`` if a parameter that is not trained has other values than before."""
    trained = set(trained)
    moved = [name for name in before if name not in trained and before[name] != after.get(name)]
    if moved:
        raise EyespotError("frozen-changed", f"{len(moved)} frozen tensor(s) changed: {', '.join(moved[:8])}")


def _reached(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(torch.count_nonzero(parameter.grad))


def _digest(value: Tensor) -> str:
    digest = hashlib.sha256(str(tuple(value.shape)).encode())
    digest.update(value.to("cpu", torch.float32).contiguous().numpy().reshape(-1).view("uint8").data)
    return digest.hexdigest()
