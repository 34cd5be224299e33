"""The attention seam: everything that attends in Eyespot calls `attend`, and `Segments` alone says who sees whom.

No mask tensor, no padding and no model knowledge crosses this seam. `reference` is the slow obvious back end, one
`scaled_dot_product_attention` a segment, and the oracle of the tests; `grouped` (`nn/grouped.py`) is the CPU path.

In the coordinates of a segment's *chain* (the keys of its ancestors, oldest first, then its own keys) the queries are
the last `q_len` places, so causality is simply ``key place <= query place``, for branches and cached decoding alike.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Bool, Float, Tensor
from eyespot.nn.grouped import attend_grouped

Observer = Callable[[int, Tensor], None]


def attend(
    q: Float[Tensor, "T H C"],
    k: Float[Tensor, "Tk K C"],
    v: Float[Tensor, "Tk K C"],
    segments: Segments,
    *,
    window: int | None = None,
    block_window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
    observe: Observer | None = None,
    backend: str = "auto",
) -> Float[Tensor, "T H C"]:
    """Attention of packed queries over packed keys.

    Args:
        q: queries; q, k, v: keys and values with K heads, K dividing H (grouped-query attention).
        k: keys of every segment, in packed order.
        v: values, as `k`.
        segments: who sees whom.
        window: a key is seen only when it is fewer than `window` places behind the query.
        block_window: the same, counted in blocks, under ``rule="blocks"``.
        scale: factor on the scores, by default ``C ** -0.5``.
        softcap: ``cap * tanh(score / cap)``.
        bias: a learned additive bias that broadcasts to (H, q_len, chain) of each segment.
        observe: called with (segment index, probabilities (H, q_len, chain)); forces the explicit softmax.
        backend: ``auto``, ``reference`` or ``grouped``.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    plain = softcap is None and bias is None and observe is None and segments.rule != "blocks"
    if backend == "grouped" or (backend == "auto" and plain):
        return attend_grouped(q, k, v, segments, window=window, scale=scale)
    return attend_reference(
        q, k, v, segments, window=window, block_window=block_window, scale=scale,
        softcap=softcap, bias=bias, observe=observe,
    )  # fmt: skip


def attend_flat(
    q: Float[Tensor, "T D"], k: Float[Tensor, "Tk D"], v: Float[Tensor, "Tk D"], heads: int, segments: Segments
) -> Float[Tensor, "T D"]:
    """`attend` where heads lie side by side in each row, and go back there, as plain projections have them."""
    q, k, v = (t.unflatten(-1, (heads, -1)) for t in (q, k, v))
    return attend(q, k, v, segments).flatten(1)


def attend_reference(
    q: Float[Tensor, "T H C"],
    k: Float[Tensor, "Tk K C"],
    v: Float[Tensor, "Tk K C"],
    segments: Segments,
    *,
    window: int | None = None,
    block_window: int | None = None,
    scale: float,
    softcap: float | None = None,
    bias: Tensor | None = None,
    observe: Observer | None = None,
) -> Float[Tensor, "T H C"]:
    """The oracle: one segment after the other, nothing clever."""
    repeats = q.shape[1] // k.shape[1]
    q_parts = q.split(segments.q_lens)
    k_parts, v_parts = k.split(segments.k_lens), v.split(segments.k_lens)
    block_parts = segments.blocks.split(segments.k_lens) if segments.blocks is not None else None
    outputs = []
    for s, q_seg in enumerate(q_parts):
        chain = ancestry(segments.parent, s)
        k_chain = torch.cat([k_parts[i] for i in chain]).repeat_interleave(repeats, dim=1)
        v_chain = torch.cat([v_parts[i] for i in chain]).repeat_interleave(repeats, dim=1)
        blocks = torch.cat([block_parts[i] for i in chain]) if block_parts is not None else None
        mask = visible(segments.rule, len(q_seg), len(k_chain), window, block_window, blocks, q.device)
        q_HTC, k_HTC, v_HTC = (t.transpose(0, 1) for t in (q_seg, k_chain, v_chain))
        if softcap is None and bias is None and observe is None:
            out = F.scaled_dot_product_attention(q_HTC[None], k_HTC[None], v_HTC[None], attn_mask=mask, scale=scale)[0]
        else:
            probs = _probabilities(q_HTC, k_HTC, mask, scale, softcap, bias)
            if observe is not None:
                observe(s, probs)
            out = probs @ v_HTC
        outputs.append(out.transpose(0, 1))
    return torch.cat(outputs)


def _probabilities(
    q_HTC: Tensor, k_HTC: Tensor, mask: Tensor | None, scale: float, softcap: float | None, bias: Tensor | None
) -> Tensor:
    scores = (q_HTC @ k_HTC.transpose(1, 2)).float() * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(-1).to(q_HTC.dtype)


def ancestry(parent: tuple[int, ...], segment: int) -> list[int]:
    """The segment's ancestors, oldest first, then the segment itself."""
    chain = [segment]
    while parent[chain[-1]] >= 0:
        chain.append(parent[chain[-1]])
    return chain[::-1]


def visible(
    rule: str,
    q_len: int,
    chain_len: int,
    window: int | None = None,
    block_window: int | None = None,
    blocks: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Bool[Tensor, "q k"] | None:
    """Which keys of its chain each query sees; None when it sees all."""
    if rule == "full" and window is None:
        return None
    query = torch.arange(chain_len - q_len, chain_len, device=device)[:, None]
    key = torch.arange(chain_len, device=device)[None, :]
    if rule == "causal":
        if q_len == 1 and window is None:
            return None
        mask = key <= query
    elif rule == "blocks":
        assert blocks is not None, "rule 'blocks' needs a block number for each key"
        ahead = blocks[chain_len - q_len :, None] - blocks[None, :]
        mask = ahead >= 0
        if block_window is not None:
            mask &= ahead < block_window
    else:
        mask = torch.ones(q_len, chain_len, dtype=torch.bool, device=device)
    if window is not None:
        mask &= (query - key < window) & ((key - query < window) | (rule == "causal"))
    return mask
