"""The CPU path of attention: segments of like length run as one batch, branches share their prefix's keys.

Two cases cover nearly all packed batches. *Roots* (no parent) of like length become one padded
`scaled_dot_product_attention`. *Branches* of a root (many questions about one picture) attend in two parts, the
prefix's keys without a mask and their own causally, joined in one softmax; the prefix's keys are never copied for
each branch. Deeper trees take the gathered chain of each segment. Padding lives and dies inside this file.

Index tables depend on host tuples only, so they are made once for a batch and reused by every layer.
"""

import functools
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from eyespot.contracts.batch import Segments
from eyespot.contracts.shapes import Float, Tensor

# Below this many scores a head, the explicit softmax trains faster on CPU than the flash kernel's backward pass. In
# bfloat16 too its kernel computes in fp32.
SMALL = 256 * 256


@dataclass(frozen=True, eq=False)
class Rows:
    """Segments that run as one padded batch: rows of queries (n, Lq), of keys (n, Lk), and who sees whom."""

    q: Tensor
    k: Tensor
    mask: Tensor | None  # (n, Lq, Lk), None when everything is seen
    causal: bool  # plain lower-triangular, no padding
    out: Tensor  # packed rows that this group fills
    keep: Tensor | None  # which padded places they are; None: all, in order
    run: tuple[int, int] | None  # queries and keys are this stretch of the packed row, without gaps


@dataclass(frozen=True, eq=False)
class Branches:
    """Branches of one level: for each prefix its keys (n, Lp) and nb padded branches of Lb places (n, nb, Lb)."""

    q: Tensor
    prefix: Tensor
    prefix_mask: Tensor | None  # (n, 1, 1, Lp)
    own_mask: Tensor  # (n, 1, nb, Lb, Lb) or (1, 1, 1, Lb, Lb)
    out: Tensor
    keep: Tensor


def attend_grouped(
    q: Float[Tensor, "T H C"],
    k: Float[Tensor, "Tk K C"],
    v: Float[Tensor, "Tk K C"],
    segments: Segments,
    *,
    window: int | None,
    scale: float,
) -> Float[Tensor, "T H C"]:
    """As `attend_reference`, for the rules ``causal`` and ``full`` without bias, cap or observer."""
    if k.shape[1] != q.shape[1]:
        repeats = q.shape[1] // k.shape[1]
        # As `repeat_interleave`, whose backward pass scatters.
        k, v = (t[:, :, None].expand(-1, -1, repeats, -1).flatten(1, 2) for t in (k, v))
    groups = plan(segments.q_lens, segments.k_lens, segments.parent, segments.rule, window, q.device)
    if len(groups) == 1 and isinstance(groups[0], Rows) and groups[0].run:
        return _rows(q, k, v, groups[0], scale)
    pieces = [(_rows if isinstance(g, Rows) else _branches)(q, k, v, g, scale) for g in groups]
    order = torch.cat([g.out for g in groups])
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return torch.cat(pieces).index_select(0, inverse)


def _rows(q: Tensor, k: Tensor, v: Tensor, group: Any, scale: float) -> Tensor:
    n, lq = group.q.shape
    lk = group.k.shape[1]
    if group.run:
        start, stop = group.run
        q_, k_, v_ = (t[start:stop].unflatten(0, (n, -1)) for t in (q, k, v))
    else:
        q_ = q.index_select(0, group.q.flatten()).unflatten(0, (n, lq))
        k_, v_ = (t.index_select(0, group.k.flatten()).unflatten(0, (n, lk)) for t in (k, v))
    q_, k_, v_ = (t.transpose(1, 2) for t in (q_, k_, v_))
    if lq * lk <= SMALL and torch.is_grad_enabled():
        out = _softmax_attention(q_, k_, v_, group, scale)
    else:
        mask = group.mask[:, None] if group.mask is not None else None
        out = F.scaled_dot_product_attention(q_, k_, v_, attn_mask=mask, is_causal=group.causal, scale=scale)
    out = out.transpose(1, 2).flatten(0, 1)
    return out if group.keep is None else out.index_select(0, group.keep)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, group: Any, scale: float) -> Tensor:
    scores = (q * scale) @ k.transpose(2, 3)
    if group.causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(), -math.inf)
    elif group.mask is not None:
        scores = scores.masked_fill(~group.mask[:, None], -math.inf)
    return scores.softmax(-1) @ v


def _branches(q: Tensor, k: Tensor, v: Tensor, group: Any, scale: float) -> Tensor:
    n, nb, lb = group.q.shape
    lp = group.prefix.shape[1]
    own = group.q.flatten()
    q_, k_, v_ = (t.index_select(0, own).view(n, nb, lb, *t.shape[1:]).permute(0, 3, 1, 2, 4) for t in (q, k, v))
    kp, vp = (t.index_select(0, group.prefix.flatten()).view(n, lp, *t.shape[1:]).transpose(1, 2) for t in (k, v))
    q_ = q_ * scale
    to_prefix = (q_.flatten(2, 3) @ kp.transpose(2, 3)).unflatten(2, (nb, lb))  # n H nb Lb Lp
    to_own = q_ @ k_.transpose(3, 4)  # n H nb Lb Lb
    to_own = to_own.masked_fill(~group.own_mask, -math.inf)
    if group.prefix_mask is not None:
        to_prefix = to_prefix.masked_fill(~group.prefix_mask, -math.inf)
    probs = torch.cat([to_prefix, to_own], dim=-1).softmax(-1)
    from_prefix, from_own = probs[..., :lp], probs[..., lp:]
    out = (from_prefix.flatten(2, 3) @ vp).unflatten(2, (nb, lb)) + from_own @ v_
    return out.permute(0, 2, 3, 1, 4).flatten(0, 2).index_select(0, group.keep)


# --------------------------------------------------------------------------------------------- planning, on the host


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # the tables outlive the call, and training may be the next to use them
def plan(
    q_lens: tuple[int, ...],
    k_lens: tuple[int, ...],
    parent: tuple[int, ...],
    rule: str,
    window: int | None,
    device: torch.device,
) -> tuple[Rows | Branches, ...]:
    """Which segments run together, as index tables."""
    starts_q, starts_k = _starts(q_lens), _starts(k_lens)
    roots = [s for s in range(len(parent)) if parent[s] < 0 and q_lens[s]]
    branches = [s for s in range(len(parent)) if parent[s] >= 0 and q_lens[s]]
    plain = rule == "causal" and window is None
    two_part = [s for s in branches if plain and parent[parent[s]] < 0 and q_lens[s] == k_lens[s]]
    rest = [s for s in branches if s not in set(two_part)]
    chains = {s: _chain_rows(s, parent, starts_k, k_lens) for s in roots + rest}
    buckets = _buckets(roots + rest, {s: (q_lens[s], len(chains[s])) for s in chains})
    groups: list[Rows | Branches] = [_plan_rows(b, q_lens, starts_q, chains, rule, window, device) for b in buckets]
    # Branches of like length beside prefixes of like length: one long answer must not pad all others to its length.
    for bucket in _buckets(two_part, {s: (k_lens[parent[s]], q_lens[s]) for s in two_part}, waste=1.0):
        by_prefix: dict[int, list[int]] = defaultdict(list)
        for s in bucket:
            by_prefix[parent[s]].append(s)
        groups.append(_plan_branches(by_prefix, q_lens, k_lens, starts_q, starts_k, device))
    return tuple(groups)


def _starts(lens: tuple[int, ...]) -> list[int]:
    total, starts = 0, []
    for n in lens:
        starts.append(total)
        total += n
    return starts


def _chain_rows(segment: int, parent: tuple[int, ...], starts: list[int], lens: tuple[int, ...]) -> list[int]:
    rows: list[int] = []
    while segment >= 0:
        rows = list(range(starts[segment], starts[segment] + lens[segment])) + rows
        segment = parent[segment]
    return rows


def _buckets(segments: list[int], size: dict[int, tuple[int, int]], waste: float = 0.25) -> list[list[int]]:
    """Segments of like size together: a bucket never pads either length by more than `waste`."""
    buckets: list[list[int]] = []
    for s in sorted(segments, key=lambda s: (size[s], s)):
        if buckets:
            first = size[buckets[-1][0]]
            if all(small * (1 + waste) >= big for small, big in zip(first, size[s], strict=True)):
                buckets[-1].append(s)
                continue
        buckets.append([s])
    return buckets


def _plan_rows(
    bucket: list[int],
    q_lens: tuple[int, ...],
    starts_q: list[int],
    chains: dict[int, list[int]],
    rule: str,
    window: int | None,
    device: torch.device,
) -> Rows:
    lq, lk = max(q_lens[s] for s in bucket), max(len(chains[s]) for s in bucket)
    equal = all(q_lens[s] == lq and len(chains[s]) == lk for s in bucket)
    q_rows = _stretches([starts_q[s] for s in bucket], [q_lens[s] for s in bucket])[0]
    k_rows = torch.tensor([chains[s] + [0] * (lk - len(chains[s])) for s in bucket])
    q_n = torch.tensor([q_lens[s] for s in bucket])[:, None, None]
    k_n = torch.tensor([len(chains[s]) for s in bucket])[:, None, None]
    key, query = torch.arange(lk)[None, None, :], torch.arange(lq)[None, :, None] + (k_n - q_n)
    # A padded query looks at the first key, so that no row is empty (an empty softmax is NaN).
    mask = (key < k_n) if rule == "full" else (key <= query) & (key < k_n)
    if window is not None:
        mask = mask & (query - key < window) & ((key - query < window) | (rule == "causal"))
    padded_query = torch.arange(lq)[None, :, None] >= q_n
    mask = torch.where(padded_query, key == 0, mask)
    causal = equal and rule == "causal" and window is None and lq == lk
    contiguous = equal and lq == lk and bool((q_rows.flatten() == k_rows.flatten()).all()) and _is_run(q_rows.flatten())
    keep = None if equal else (torch.arange(lq)[None, :] < q_n[:, :, 0]).flatten().nonzero()[:, 0]
    flat = q_rows.flatten() if keep is None else q_rows.flatten()[keep]
    free = causal or bool(mask.all())
    run = (int(flat[0]), int(flat[-1]) + 1) if contiguous else None
    tables = (t.to(device) if t is not None else None for t in (q_rows, k_rows, None if free else mask, flat, keep))
    q_, k_, mask_, out, keep_ = tables
    return Rows(q_, k_, mask_, causal, out, keep_, run)  # type: ignore[arg-type]


def _stretches(starts: list[int], lens: list[int]) -> tuple[Tensor, Tensor]:
    """Rows ``start … start + len - 1`` of each, padded with 0 to (n, longest), and which are no padding."""
    place = torch.arange(max(lens))
    real = place < torch.tensor(lens)[:, None]
    return torch.where(real, torch.tensor(starts)[:, None] + place, 0), real


def _is_run(rows: Tensor) -> bool:
    return bool((rows[1:] - rows[:-1] == 1).all())


def _plan_branches(
    by_prefix: dict[int, list[int]],
    q_lens: tuple[int, ...],
    k_lens: tuple[int, ...],
    starts_q: list[int],
    starts_k: list[int],
    device: torch.device,
) -> Branches:
    assert starts_q == starts_k, "two-part branches are for uncached batches"
    nb = max(map(len, by_prefix.values()))
    # Where a prefix has fewer branches than another, branches of no length fill up.
    starts, lens = [], []
    for branches in by_prefix.values():
        empty = [0] * (nb - len(branches))
        starts += [starts_q[s] for s in branches] + empty
        lens += [q_lens[s] for s in branches] + empty
    q_rows, real = (t.unflatten(0, (len(by_prefix), nb)) for t in _stretches(starts, lens))
    lb = q_rows.shape[-1]
    prefix, seen = _stretches([starts_k[p] for p in by_prefix], [k_lens[p] for p in by_prefix])
    keep = real.flatten().nonzero()[:, 0]
    # Padding sits behind a branch's tokens, so the triangle alone hides it from them.
    triangle = torch.ones(lb, lb, dtype=torch.bool).tril()[None, None, None]
    prefix_mask = None if bool(seen.all()) else seen[:, None, None, None, :]
    tables = (q_rows, prefix, prefix_mask, triangle, q_rows.flatten()[keep], keep)
    return Branches(*(t.to(device) if t is not None else None for t in tables))  # type: ignore[arg-type]
