"""THE position-id builder: packing and the engine call it, a model never does.

This version knows the one-axis rule of text models and of LLaVA: a media token counts as any other token.
"""

from itertools import accumulate

import torch

from eyespot.contracts.shapes import Int, Tensor


def positions(lengths: tuple[int, ...], parent: tuple[int, ...], *, offset: int = 0) -> Int[Tensor, "1 T"]:
    """Position ids of one sample's segments.

    Args:
        lengths: tokens of each segment, in packed order.
        parent: the segment that each continues, or -1; a branch counts on from its parent's end.
        offset: where a root starts (tokens already in a cache).

    Returns:
        int64 (1, T).
    """
    ends: list[int] = []
    pieces = []
    for length, p in zip(lengths, parent, strict=True):
        start = offset if p < 0 else ends[p]
        ends.append(start + length)
        pieces.append(torch.arange(start, start + length))
    total = [*accumulate(lengths)][-1] if lengths else 0
    return torch.cat(pieces)[None] if total else torch.zeros(1, 0, dtype=torch.long)
