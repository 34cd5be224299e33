"""Laws, not hopes: batching, packing, branching and caching change no loss, no gradient and no logit.

Each law is checked on the wide draw (activations far from zero) at mixed lengths, and each is *seen to fail* on a
planted fault; the plants stay, so that a law that has gone blind is found out.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eyespot.contracts.batch import Batch, Segments
from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.data.packing import pack
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.positions import positions
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.nn.cache import KVCache
from eyespot.train.losses import token_loss

BAR = 1e-4  # max |difference| ÷ max |reference|
SEEN = 1e-2  # a planted fault must move something by at least this


@pytest.fixture(scope="module", params=["llama", "qwen3 with window and class token"])
def model(request) -> VisionLanguageModel:
    rich = request.param != "llama"
    config = VlmConfig(
        vision=VitConfig(
            hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(16, 16), patch_size=8,
            class_token=rich, pre_norm=rich, activation="quick_gelu",
        ),
        connector=ConnectorConfig(input_size=16, output_size=32),
        decoder=DecoderConfig(
            vocab_size=60, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=64,
            qk_norm=rich, sliding_window=6 if rich else None, tie_word_embeddings=rich, head_dim=16 if rich else None,
        ),
    )  # fmt: skip
    module = VisionLanguageModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
            if p.ndim == 2 and "embed" not in name and "lm_head" not in name:
                p.mul_(2.5)
    return module


def picture(seed: int, slots: range) -> EncodedMedia:
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(4, 192)).astype(np.float32)
    grid = np.array([[1, 2, 2]])
    return EncodedMedia("image", patches, grid, np.array(slots), (16, 16), (16, 16), str(seed))


def sample(seed: int, prompt: int, answer: int, pictures: int = 1) -> Encoded:
    """Start token, pictures of four places each, a prompt, a supervised answer."""
    rng = np.random.default_rng(seed)
    length = 1 + 4 * pictures + prompt + answer
    ids = rng.integers(3, 60, length)
    weight = np.zeros(length, np.float32)
    weight[length - answer :] = rng.uniform(0.5, 2, answer)
    media = tuple(picture(seed * 10 + i, range(1 + 4 * i, 5 + 4 * i)) for i in range(pictures))
    return Encoded(f"s{seed}", "test", ids, weight, media=media)


SAMPLES = (sample(1, 3, 2), sample(2, 9, 4, pictures=2), sample(3, 1, 1, pictures=0), sample(4, 5, 7))


def tree(count: int = 3) -> tuple[Encoded, list[Encoded]]:
    """A picture with `count` questions as branches, and each question alone with the picture."""
    prefix = sample(7, 2, 0)
    branches = [sample(20 + i, 2 + i, 1 + i, pictures=0) for i in range(count)]
    rows = [b.input_ids for b in branches]
    together = replace(
        prefix,
        input_ids=np.concatenate([prefix.input_ids, *rows]),
        loss_weight=np.concatenate([prefix.loss_weight, *(b.loss_weight for b in branches)]),
        lengths=(len(prefix.input_ids), *map(len, rows)),
        parent=(-1,) + (0,) * count,
    )
    alone = [
        replace(
            prefix,
            input_ids=np.concatenate([prefix.input_ids, b.input_ids]),
            loss_weight=np.concatenate([prefix.loss_weight, b.loss_weight]),
            lengths=(len(prefix.input_ids) + len(b.input_ids),),
        )
        for b in branches
    ]
    return together, alone


def learn(module: VisionLanguageModel, *batches: Batch) -> dict[str, torch.Tensor]:
    """The summed loss of some batches and every gradient."""
    module.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss, _ = token_loss(module, module(batch).last, batch.targets, batch.loss_weight)
        loss.backward()
        total = total + loss.detach()
    return {"loss": total} | {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference over loss and gradients, each relative to its own largest value.

    Gradients that are zero by construction (a key's bias moves all scores of a query alike) are noise: they are held
    against a thousandth of the largest gradient instead.
    """
    assert a.keys() == b.keys()
    floor = 1e-3 * max(float(b[k].abs().max()) for k in b if k != "loss")
    return max(float((a[k] - b[k]).abs().max() / b[k].abs().max().clamp_min(floor)) for k in a)


# ---------------------------------------------------------------------------------------------------------- the laws


def test_packed_equals_unpacked(model):
    packed = learn(model, pack(SAMPLES))
    assert distance(packed, learn(model, *(pack([s]) for s in SAMPLES))) <= BAR


@torch.no_grad()
def test_a_sample_is_the_same_alone_and_in_a_batch(model):
    batch = pack(SAMPLES)
    hidden = model(batch).last.split(batch.segments.q_lens)
    for mine, s in zip(hidden, SAMPLES, strict=True):
        alone = model(pack([s])).last
        assert float((mine - alone).abs().max() / alone.abs().max()) <= BAR


def test_branched_equals_unbranched(model):
    together, alone = tree()
    mixed = pack([SAMPLES[0], together, SAMPLES[2]])
    apart = [pack([s]) for s in (SAMPLES[0], *alone, SAMPLES[2])]
    assert distance(learn(model, mixed), learn(model, *apart)) <= BAR


def test_cached_equals_uncached(model):
    with torch.no_grad():
        for s in SAMPLES:
            batch = pack([s])
            whole = model.logits(model(batch).last)
            assert float((cached(model, batch, s) - whole).abs().max() / whole.abs().max()) <= BAR


def cached(module: VisionLanguageModel, batch: Batch, s: Encoded, shift: int = 0) -> torch.Tensor:
    """Logits of prefill (all media) and then one token at a time."""
    length = len(s.input_ids)
    first = max((int(m.slots.max()) for m in s.media), default=0) + 1
    cache = KVCache(module.config.decoder.num_layers, capacity=1)
    ids = batch.input_ids
    prefill = Batch(ids[:first], positions((first,), (-1,)), Segments.of((first,)), batch.media)
    hidden = [module(prefill, cache).last]
    for t in range(first, length):
        where = positions((1,), (-1,), offset=t + shift)
        hidden.append(module(Batch(ids[t : t + 1], where, Segments((1,), (t + 1,), (-1,))), cache).last)
    return module.logits(torch.cat(hidden))


# --------------------------------------------------------------------------------------------- planted faults are seen


def plant_sibling(batch: Batch) -> Batch:
    """The last branch hangs on its sibling, not on the prefix."""
    parent = list(batch.segments.parent)
    parent[-1] = len(parent) - 2
    return replace(batch, segments=replace(batch.segments, parent=tuple(parent)))


def plant_prefix_dropped(batch: Batch) -> Batch:
    """Branches do not see the picture."""
    return replace(batch, segments=replace(batch.segments, parent=(-1,) * len(batch.segments.parent)))


def plant_position(batch: Batch) -> Batch:
    """The last segment stands one place too far from its prefix."""
    moved = batch.position_ids.clone()
    moved[:, -batch.segments.q_lens[-1] :] += 1
    return replace(batch, position_ids=moved)


def plant_unshifted(batch: Batch) -> Batch:
    """Each position predicts itself."""
    return replace(batch, targets=torch.where(batch.targets >= 0, batch.input_ids, batch.targets))


@pytest.mark.parametrize("plant", [plant_sibling, plant_prefix_dropped, plant_position, plant_unshifted])
def test_the_branch_law_sees_each_planted_fault(model, plant):
    together, alone = tree()
    reference = learn(model, *(pack([s]) for s in alone))
    assert distance(learn(model, plant(pack([together]))), reference) >= SEEN


def test_the_packing_law_sees_samples_that_see_each_other(model):
    batch = pack(SAMPLES)
    merged = replace(batch, segments=Segments.of((batch.segments.tokens,)))
    assert distance(learn(model, merged), learn(model, *(pack([s]) for s in SAMPLES))) >= SEEN


def test_the_packing_law_sees_an_unshifted_target(model):
    reference = learn(model, *(pack([s]) for s in SAMPLES))
    assert distance(learn(model, plant_unshifted(pack(SAMPLES))), reference) >= SEEN


def test_the_cache_law_sees_a_position_that_is_off_by_one(model):
    with torch.no_grad():
        s = SAMPLES[1]
        batch = pack([s])
        whole = model.logits(model(batch).last)
        assert float((cached(model, batch, s, shift=1) - whole).abs().max() / whole.abs().max()) >= SEEN
