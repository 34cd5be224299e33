"""Losses, each as (sum, weight): the loop divides once, over micro-batches and ranks.

Scores are made for supervised rows only, in chunks that are computed again in the backward pass, so that
(rows × vocabulary) never stands in memory at once. CLIP: Radford et al. 2021; SigLIP: Zhai et al. 2023.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from eyespot.contracts.shapes import Float, Int, Tensor

CHUNK = 2048


def token_loss(
    module: nn.Module,
    hidden: Float[Tensor, "T D"],
    targets: Int[Tensor, " T"],
    weight: Float[Tensor, " T"],
    chunk: int = CHUNK,
    z_loss: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Weighted sum of next-token losses, and the sum of the weights.

    Args:
        module: has `logits`.
        hidden: of every position.
        targets: what each position must predict, already shifted (D6); negative: nothing.
        weight: of each prediction.
        chunk: rows whose scores are held at a time.
        z_loss: weight of the squared log-normaliser (PaLM).
    """
    rows = ((targets >= 0) & (weight > 0)).nonzero().squeeze(1)
    if len(rows) == 0:  # keep the graph, so that a step without answers still has a gradient: zero
        return hidden.float().sum() * 0.0, weight.new_zeros(())
    hidden, targets, weight = hidden.index_select(0, rows), targets.index_select(0, rows), weight.index_select(0, rows)

    def part(h: Tensor, t: Tensor, w: Tensor) -> Tensor:
        logits = module.logits(h).float()
        normaliser = logits.logsumexp(-1)
        losses = normaliser - logits.gather(1, t[:, None]).squeeze(1)
        return (w * (losses + z_loss * normaliser.square())).sum() if z_loss else (w * losses).sum()

    if len(rows) <= chunk:
        return part(hidden, targets, weight), weight.sum()
    pieces = zip(hidden.split(chunk), targets.split(chunk), weight.split(chunk), strict=True)
    parts = [checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    return torch.stack(parts).sum(), weight.sum()


def softmax_contrastive(
    images: Float[Tensor, "b O"],
    texts: Float[Tensor, "b O"],
    logit_scale: Float[Tensor, ""],
    chunk: int | None = None,
) -> tuple[Float[Tensor, ""], int]:
    """CLIP's symmetric cross-entropy, summed over pairs; pair i is (images[i], texts[i]).

    Args:
        images: unit vectors.
        texts: unit vectors.
        logit_scale: log of the factor on the cosines.
        chunk: rows of the score matrix held at a time; None: all of them.
    """
    images, texts = images.float(), texts.float()
    scale = logit_scale.float().exp()
    diagonal = scale * (images * texts).sum(-1)

    def part(rows: Tensor, columns: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        scores = factor * rows @ columns.t()
        return scores.logsumexp(1), scores.logsumexp(0)

    if chunk is None or len(images) <= chunk:
        by_row, by_column = part(images, texts, scale)
    else:
        parts = [
            checkpoint(part, rows, texts, scale, use_reentrant=False, preserve_rng_state=False)
            for rows in images.split(chunk)
        ]
        by_row = torch.cat([row for row, _ in parts])
        by_column = torch.stack([column for _, column in parts]).logsumexp(0)
    return (by_row + by_column).sum() / 2 - diagonal.sum(), len(images)


def sigmoid_contrastive(
    images: Float[Tensor, "b O"],
    texts: Float[Tensor, "b O"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None = None,
    chunk: int | None = None,
) -> tuple[Float[Tensor, ""], int]:
    """SigLIP's loss: each of the b² pairs is a yes/no question; summed, to be divided by b.

    −logσ(x) on the diagonal and −logσ(−x) elsewhere is Σ softplus(x) − Σ diagonal x, which needs no sign matrix.
    """
    images, texts = images.float(), texts.float()
    scale = logit_scale.float().exp()
    bias = logit_bias.float() if logit_bias is not None else torch.zeros_like(scale)

    def part(rows: Tensor, columns: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
        return F.softplus(factor * rows @ columns.t() + offset).sum()

    if chunk is None or len(images) <= chunk:
        total = part(images, texts, scale, bias)
    else:
        total = torch.stack(
            [
                checkpoint(part, rows, texts, scale, bias, use_reentrant=False, preserve_rng_state=False)
                for rows in images.split(chunk)
            ]
        ).sum()
    diagonal = scale * (images * texts).sum(-1) + bias
    return total - diagonal.sum(), len(images)
