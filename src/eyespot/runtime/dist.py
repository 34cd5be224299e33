"""Ranks of a torchrun job, and sums over them. In one process every call is a no-op and there is one rank."""

import torch
import torch.distributed as dist

from eyespot.contracts.shapes import Tensor


def rank() -> int:
    """This process's number; 0 in a single process."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def ranks() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_scalars(*values: float) -> list[float]:
    """Each value summed over all ranks, in float64."""
    if ranks() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return total.tolist()


def sum_gradients(parameters: list[Tensor]) -> None:
    """Sum every gradient over all ranks, in place; a parameter unused on one rank counts as zero there."""
    if ranks() == 1:
        return
    used = torch.tensor([float(p.grad is not None) for p in parameters])
    dist.all_reduce(used)
    for parameter, count in zip(parameters, used.tolist(), strict=True):
        if not count:
            continue  # unused on every rank: it keeps no gradient, as it would in one process
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
