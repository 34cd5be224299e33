"""The laws of `test_laws` for media that stand in a grid: pictures of unlike size, three position axes, a merger."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eyespot.contracts.batch import Segments
from eyespot.contracts.encoded import Encoded, EncodedMedia, MediaPlan
from eyespot.data.packing import pack
from eyespot.engine.generate import Sampling, answer_packed, decode
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.nn.rope import RopeConfig
from tests.laws.test_laws import BAR, SEEN, distance, learn

PLAN = MediaPlan(merge_size=2, positions="grid", interval=2.5)  # times go further than rows and columns


@pytest.fixture(scope="module", params=["whole frames", "windows", "taps and a table"])
def model(request) -> VisionLanguageModel:
    return drawn(windows=request.param == "windows", deep=request.param == "taps and a table")


@pytest.fixture(scope="module")
def tapped() -> VisionLanguageModel:
    return drawn(windows=False, deep=True)


def drawn(windows: bool, deep: bool) -> VisionLanguageModel:
    connector = ConnectorConfig("patch_merger", 16, 32, merge_size=2, norm="rms" if windows else "layer")
    config = VlmConfig(
        vision=GridVitConfig(
            hidden_size=16, num_layers=3, num_heads=2, intermediate_size=24, patch_size=4, gated=windows,
            norm="rms" if windows else "layer", window_size=16 if windows else None, full_layers=(1,),
            table_size=3 if deep else None,
        ),
        connector=connector,
        decoder=DecoderConfig(
            vocab_size=60, hidden_size=32, num_layers=3 if deep else 2, num_heads=4, num_kv_heads=2,
            intermediate_size=64, qkv_bias=True, qk_norm=deep, rope=RopeConfig(sections=(1, 1, 2), interleaved=deep),
        ),
        select_layers=(-1,), deep_layers=(1, 3) if deep else (),
        deep_connector=connector.replace(norm_joined=True) if deep else None,
    )  # fmt: skip
    module = VisionLanguageModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
    return module


def picture(seed: int, grid: tuple[int, int, int], first: int) -> EncodedMedia:
    count = grid[0] * grid[1] * grid[2]
    patches = np.random.default_rng(seed).normal(size=(count, 96)).astype(np.float32)
    slots = np.arange(first, first + count // 4)
    return EncodedMedia("image", patches, np.array([grid]), slots, (1, 1), (1, 1), f"{seed}{grid}", PLAN)


def sample(seed: int, grids: tuple, prompt: int, answer: int) -> Encoded:
    """Two tokens, then pictures with a token behind each, a prompt, a supervised answer."""
    at, media = 2, []
    for i, grid in enumerate(grids):
        media.append(picture(seed * 10 + i, grid, at))
        at += len(media[-1].slots) + 1
    length = at + prompt + answer
    ids = np.random.default_rng(seed).integers(3, 60, length)
    weight = np.zeros(length, np.float32)
    weight[length - answer :] = 1.0
    return Encoded(f"s{seed}", "test", ids, weight, media=tuple(media))


def timed(seed: int, grid: tuple[int, int, int], times: int, between: int) -> Encoded:
    """A video whose times are apart, with text between them."""
    base = sample(seed, (), times * (grid[1] * grid[2] // 4 + between), 3)
    each = picture(seed, (times, *grid[1:]), 0)
    tokens = grid[1] * grid[2] // 4
    slots = np.concatenate([np.arange(tokens) + 2 + i * (tokens + between) for i in range(times)])
    return replace(base, media=(replace(each, kind="video", grid_thw=np.array([grid] * times), slots=slots),))


SAMPLES = (
    sample(1, ((1, 6, 10),), 3, 2),
    sample(2, ((1, 2, 2), (3, 4, 6)), 5, 4),
    sample(3, (), 4, 2),
    sample(4, ((1, 2, 16),), 1, 5),
    timed(5, (1, 4, 2), 4, 2),
)


def test_packed_equals_unpacked(model):
    packed = learn(model, pack(SAMPLES))
    assert distance(packed, learn(model, *(pack([s]) for s in SAMPLES))) <= BAR


def test_branched_equals_unbranched(model):
    prefix, rows = sample(7, ((1, 4, 6),), 1, 0), [[5, 6, 7], [8, 4], [9, 9, 9, 3]]
    learnt = [[0.0, *[1.0] * (len(row) - 1)] for row in rows]
    together = replace(
        prefix, input_ids=np.concatenate([prefix.input_ids, *rows]), parent=(-1, 0, 0, 0),
        loss_weight=np.concatenate([prefix.loss_weight, *learnt]).astype(np.float32),
        lengths=(len(prefix.input_ids), *map(len, rows)),
    )  # fmt: skip
    alone = [
        replace(
            prefix, input_ids=np.concatenate([prefix.input_ids, row]), lengths=(len(prefix.input_ids) + len(row),),
            loss_weight=np.array([0.0] * (len(prefix.input_ids) + 1) + [1.0] * (len(row) - 1), np.float32),
        )
        for row in rows
    ]  # fmt: skip
    assert distance(learn(model, pack([together])), learn(model, *(pack([s]) for s in alone))) <= BAR


def test_cached_tokens_are_those_of_the_whole_row_again_and_again(model):
    for s in SAMPLES:
        made = list(decode(model, pack([s]), frozenset(), 6, Sampling()))
        ids, again = s.input_ids, []
        with torch.no_grad():
            for _ in made:
                row = replace(s, input_ids=ids, loss_weight=np.zeros(len(ids), np.float32), lengths=(len(ids),))
                again.append(int(model.logits(model(pack([row])).last[-1:])[0].argmax()))
                ids = np.append(ids, again[-1])
        assert made == again
        assert answer_packed(model, [s], frozenset(), 6)[0][0] == again


def test_the_packing_law_sees_pictures_that_stand_in_a_line(model):
    lined = [
        replace(s, media=tuple(replace(m, plan=replace(PLAN, positions="line")) for m in s.media)) for s in SAMPLES
    ]
    assert distance(learn(model, pack(lined)), learn(model, *(pack([s]) for s in SAMPLES))) >= SEEN


def test_the_packing_law_sees_samples_that_see_each_other(model):
    batch = pack(SAMPLES)
    merged = replace(batch, segments=Segments.of((batch.segments.tokens,)))
    assert distance(learn(model, merged), learn(model, *(pack([s]) for s in SAMPLES))) >= SEEN


@pytest.mark.parametrize(("later", "further"), [(1, 0), (0, 1)], ids=["a layer later", "a place further"])
def test_the_packing_law_sees_features_that_are_added_elsewhere(tapped, later, further, monkeypatch):
    right = learn(tapped, *(pack([s]) for s in SAMPLES))
    forward = tapped.decoder.forward

    def planted(hidden, position_ids, segments, cache=None, adds=None, taps=()):
        moved = {layer + later: (slots + further, rows) for layer, (slots, rows) in (adds or {}).items()}
        return forward(hidden, position_ids, segments, cache, moved, taps)

    monkeypatch.setattr(tapped.decoder, "forward", planted)
    assert distance(learn(tapped, pack(SAMPLES)), right) >= SEEN
