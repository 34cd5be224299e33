"""The two plain generation loops: one request with a cache, and many short answers in packed batches.

`decode` is the naive loop that every faster engine is compared with. `answer_packed` encodes each picture once, shares
it among all questions about it, and lets every question go on behind its own keys in one cache.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from eyespot.contracts.batch import Batch, Segments
from eyespot.contracts.encoded import Encoded
from eyespot.contracts.shapes import Float, Tensor
from eyespot.data.packing import pack
from eyespot.models.positions import positions
from eyespot.models.vlm import VisionLanguageModel
from eyespot.nn.cache import KVCache


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: greedy at temperature 0, else a seeded draw."""

    temperature: float = 0.0
    seed: int | None = None

    def chooser(self):
        """A function from logits (V,) to a token id; a new seeded generator for each request."""
        if self.temperature == 0:
            return lambda logits: int(logits.argmax())
        generator = torch.Generator()
        generator.seed() if self.seed is None else generator.manual_seed(self.seed)

        def draw(logits: Float[Tensor, " V"]) -> int:
            shares = (logits.float().cpu() / self.temperature).softmax(-1)
            return int(torch.multinomial(shares, 1, generator=generator))

        return draw


@torch.inference_mode()
def decode(
    module: VisionLanguageModel, prompt: Batch, stops: frozenset[int], max_new_tokens: int, sampling: Sampling
) -> Iterator[int]:
    """The tokens of one answer, one at a time; the end token is not given.

    The caller tells ``stop`` from ``length`` by how the iterator ended: after an end token it returns early.
    """
    cache = KVCache(module.config.decoder.num_layers, capacity=prompt.segments.tokens + max_new_tokens)
    # A picture in a grid takes fewer places than tokens: places go on behind the largest that was taken.
    ahead = int(prompt.position_ids.max()) + 1 - prompt.segments.tokens
    choose = sampling.chooser()
    last = module(prompt, cache).last[-1:]
    for left in range(max_new_tokens - 1, -1, -1):
        token = choose(module.logits(last)[0])
        if token in stops:
            return
        yield token
        if not left:
            return
        last = module(next_step(token, cache.length, prompt.input_ids.device, ahead), cache).last


def next_step(token: int, cached: int, device: torch.device, ahead: int = 0) -> Batch:
    """One token behind `cached` others, its place `ahead` of their number."""
    return Batch(
        torch.tensor([token], device=device),
        positions((1,), (-1,), offset=cached + ahead).to(device),
        Segments((1,), (cached + 1,), (-1,)),
    )


# ----------------------------------------------------------------------------------------------- many answers, packed


@dataclass
class _Tree:
    """A shared prefix (text and pictures) and the questions that continue it."""

    prefix: Encoded
    branches: dict[int, list[int]]  # prompt index -> token ids behind the prefix


@torch.inference_mode()
def answer_packed(
    module: VisionLanguageModel,
    prompts: Sequence[Encoded],
    stops: frozenset[int],
    max_new_tokens: int,
    batch_tokens: int = 16384,
    cached: bool = True,
) -> list[tuple[list[int], bool]]:
    """Greedy answers to many prompts.

    Args:
        module: the model.
        prompts: plain prompts (one segment each). Neighbours with the same pictures share them.
        stops: end tokens.
        max_new_tokens: at most so many tokens an answer.
        batch_tokens: tokens of a packed step.
        cached: keep keys and values from step to step; else everything is computed again, as it is in any case where
            the rotary frequencies depend on a sequence's length.

    Returns:
        For each prompt its token ids and whether it ended by itself.
    """
    cached = cached and not module.config.decoder.rope.by_length
    answers: list[tuple[list[int], bool]] = [([], False) for _ in prompts]
    for trees in _batches(_shared(prompts), batch_tokens):
        alive = [i for tree in trees for i in tree.branches]
        steps = _cached_steps(module, trees) if cached else _whole_steps(module, trees)
        tokens = next(steps)
        for left in range(max_new_tokens - 1, -1, -1):
            going = []
            for i, token in zip(alive, tokens, strict=True):
                answers[i] = (answers[i][0], True) if token in stops else ([*answers[i][0], token], False)
                going.append(token not in stops)
            if not any(going) or not left:
                break
            tokens = steps.send((going, [t for t, goes in zip(tokens, going, strict=True) if goes]))
            alive = [i for i, goes in zip(alive, going, strict=True) if goes]
    return answers


# What a branch says next, as long as it is told which of them go on, and with what.
Steps = Generator[list[int], tuple[list[bool], list[int]], None]


def _cached_steps(module: VisionLanguageModel, trees: list[_Tree]) -> Steps:
    """Every new token is a segment of its own behind the one that it follows; all keys stay in one cache."""
    batch = pack([_encoded(tree) for tree in trees]).to(next(module.parameters()).device)
    lengths, parents = list(batch.segments.k_lens), list(batch.segments.parent)
    leaves = torch.tensor([s for s, p in enumerate(parents) if p >= 0])
    ends = torch.tensor(_ends(trees), device=batch.input_ids.device)
    places, cache = (
        batch.position_ids[:, ends],
        KVCache(module.config.decoder.num_layers, sum(lengths) + 8 * len(leaves)),
    )
    hidden = module(batch, cache).last[ends]
    while True:
        going, tokens = yield module.logits(hidden).argmax(-1).tolist()
        kept = torch.tensor(going)
        places, old, new = places[:, kept.to(places.device)] + 1, len(lengths), len(tokens)
        lengths, parents = lengths + [1] * new, parents + leaves[kept].tolist()
        leaves = torch.arange(old, old + new)
        segments = Segments((0,) * old + (1,) * new, tuple(lengths), tuple(parents))
        hidden = module(Batch(torch.tensor(tokens, device=places.device), places, segments), cache).last


def _whole_steps(module: VisionLanguageModel, trees: list[_Tree]) -> Steps:
    """The oracle: all tokens again at each step, but the pictures once."""
    embeddings = None
    while True:
        batch = pack([_encoded(tree) for tree in trees]).to(next(module.parameters()).device)
        embeddings = module.encode(batch.media) if embeddings is None else embeddings
        hidden = module(batch, embeddings=embeddings).last
        ends = torch.tensor(_ends(trees), device=hidden.device)
        going, tokens = yield module.logits(hidden[ends]).argmax(-1).tolist()
        said = iter(tokens)
        owners = [(tree, i) for tree in trees for i in tree.branches]
        for (tree, i), goes in zip(owners, going, strict=True):
            if goes:
                tree.branches[i].append(next(said))
            else:
                del tree.branches[i]
        alive = [tree for tree in trees if tree.branches]
        if len(alive) <= len(trees) // 2:  # a few long answers do not carry the many short ones along
            trees, embeddings = alive, None


def _shared(prompts: Sequence[Encoded]) -> list[_Tree]:
    """Neighbouring prompts about the same pictures, with the longest stretch that they share as prefix."""
    groups: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        same = groups and _key(prompts[groups[-1][-1]]) == _key(prompt) != ()
        groups[-1].append(i) if same else groups.append([i])
    trees = []
    for group in groups:
        members = [prompts[i] for i in group]
        border = _common(members) if len(members) > 1 else len(members[0].input_ids) - 1
        first = members[0]
        last_slot = max((int(m.slots.max()) for m in first.media if len(m.slots)), default=-1)
        if border <= last_slot:  # the text differs before a picture: nothing can be shared
            trees += [
                _Tree(_cut(p, len(p.input_ids) - 1), {i: [int(p.input_ids[-1])]})
                for i, p in zip(group, members, strict=True)
            ]
            continue
        trees.append(
            _Tree(_cut(first, border), {i: p.input_ids[border:].tolist() for i, p in zip(group, members, strict=True)})
        )
    return trees


def _key(prompt: Encoded) -> tuple[str, ...]:
    return tuple(m.sha256 for m in prompt.media)


def _common(members: list[Encoded]) -> int:
    shortest = min(len(m.input_ids) for m in members) - 1  # a branch keeps at least one token
    stacked = np.stack([m.input_ids[:shortest] for m in members])
    differs = (stacked != stacked[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest


def _cut(prompt: Encoded, border: int) -> Encoded:
    ids = prompt.input_ids[:border]
    return replace(
        prompt, input_ids=ids, loss_weight=np.zeros(border, np.float32), spans=(), lengths=(border,), parent=(-1,)
    )


def _encoded(tree: _Tree) -> Encoded:
    rows = list(tree.branches.values())
    ids = np.concatenate([tree.prefix.input_ids, *(np.asarray(r, np.int64) for r in rows)])
    return replace(
        tree.prefix,
        input_ids=ids,
        loss_weight=np.zeros(len(ids), np.float32),
        lengths=(len(tree.prefix.input_ids), *map(len, rows)),
        parent=(-1,) + (0,) * len(rows),
    )


def _ends(trees: Sequence[_Tree]) -> list[int]:
    """The packed row of each branch's last token."""
    ends, at = [], 0
    for tree in trees:
        at += len(tree.prefix.input_ids)
        for row in tree.branches.values():
            at += len(row)
            ends.append(at - 1)
    return ends


def _batches(trees: list[_Tree], batch_tokens: int) -> Iterator[list[_Tree]]:
    batch: list[_Tree] = []
    total = 0
    for tree in trees:
        size = len(tree.prefix.input_ids) + sum(map(len, tree.branches.values()))
        if batch and total + size > batch_tokens:
            yield batch
            batch, total = [], 0
        batch.append(tree)
        total += size
    if batch:
        yield batch
