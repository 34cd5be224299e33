"""Muon with matrices of one shape orthogonalised together: a small model has many, and each alone costs calls."""

from collections import defaultdict

import torch

from eyespot.contracts.shapes import Float, Tensor


class StackedMuon(torch.optim.Muon):
    """The update and the state of `torch.optim.Muon` with ``match_rms_adamw``, made for many matrices at a time."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            matrices: list[Tensor] = []
            gradients: list[Tensor] = []
            averages: list[Tensor] = []
            self._init_group(group, matrices, gradients, averages)
            if not matrices:
                continue
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, averages, group["momentum"]) if group["nesterov"] else averages
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            alike = defaultdict(list)
            for i, matrix in enumerate(matrices):
                alike[tuple(sorted(matrix.shape))].append(i)
            for (_, long), places in alike.items():
                wide = [_turned(updates[i]) for i in places]
                moves = orthogonal(torch.stack(wide), group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = 0.2 * long**0.5 * group["lr"]  # an update's RMS is about AdamW's (Liu et al. 2025)
                for i, move in zip(places, moves.float(), strict=True):
                    matrices[i].add_(move.T if matrices[i].shape[0] > matrices[i].shape[1] else move, alpha=-rate)


def orthogonal(
    x: Float[Tensor, "n a b"], coefficients: tuple[float, float, float], steps: int, eps: float
) -> Float[Tensor, "n a b"]:
    """Matrices with about the same singular vectors and singular values near one, by Newton-Schulz in bfloat16."""
    a, b, c = coefficients
    x = x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _turned(x: Float[Tensor, "a b"]) -> Float[Tensor, "c d"]:
    return x.T if x.shape[0] > x.shape[1] else x
