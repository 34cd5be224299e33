"""The two generation loops agree, and packed answering shares pictures without changing an answer."""

import numpy as np
import pytest
import torch

from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.data.packing import pack
from eyespot.engine.generate import Sampling, _shared, answer_packed, decode
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VisionLanguageModel, VlmConfig

VOCAB = 40


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    config = VlmConfig(
        vision=VitConfig(
            hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, image_size=(16, 16), patch_size=8
        ),
        connector=ConnectorConfig(input_size=16, output_size=32),
        decoder=DecoderConfig(
            vocab_size=VOCAB, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=64
        ),
        select_layers=(-1,),
    )
    module = VisionLanguageModel(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.4 * torch.randn(p.shape, generator=generator))
    return module.eval()


def prompt(picture: int | None, words: list[int], before: tuple[int, ...] = (1,)) -> Encoded:
    """Start, picture, words."""
    media: tuple[EncodedMedia, ...] = ()
    ids = list(before)
    if picture is not None:
        patches = np.random.default_rng(picture).normal(size=(4, 192)).astype(np.float32)
        slots = np.arange(len(ids), len(ids) + 4)
        media = (EncodedMedia("image", patches, np.array([[1, 2, 2]]), slots, (16, 16), (16, 16), str(picture)),)
        ids += [2] * 4
    ids += words
    return Encoded("x", "test", np.array(ids), np.zeros(len(ids), np.float32), media=media)


def one_by_one(module: VisionLanguageModel, prompts: list[Encoded], stops: frozenset[int], limit: int):
    answers = []
    for p in prompts:
        ids = list(decode(module, pack([p]), stops, limit, Sampling()))
        answers.append((ids, len(ids) < limit))
    return answers


PROMPTS = [
    prompt(1, [5, 6, 7]),
    prompt(1, [5, 6, 8, 9]),
    prompt(1, [10]),
    prompt(2, [5, 6]),
    prompt(None, [5, 6, 7]),
    prompt(None, [11]),
    prompt(3, [5, 6], before=(1, 4)),
    prompt(3, [5, 6], before=(1, 9)),
]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("batch_tokens", [8, 30, 10000])
def test_packed_answers_equal_those_of_one_request_at_a_time(model, batch_tokens, cached):
    stops = frozenset(range(0, VOCAB, 5))
    packed = answer_packed(model, PROMPTS, stops, 6, batch_tokens, cached)
    assert packed == one_by_one(model, PROMPTS, stops, 6)
    assert len({len(ids) for ids, _ in packed}) > 1, "the fixture no longer has answers of unlike lengths"


def test_with_a_cache_a_step_computes_one_token_of_each_answer_that_goes_on(model):
    sizes = []
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0].input_ids)))
    stops = frozenset(range(0, VOCAB, 5))
    lengths = [len(ids) + ended for ids, ended in answer_packed(model, PROMPTS, stops, 6)]
    hook.remove()
    assert sizes[1:] == [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert sizes[1] < len(PROMPTS), "the fixture no longer has an answer that ends at once"


def test_frequencies_that_depend_on_the_length_are_not_cached(model, monkeypatch):
    rope = model.config.decoder.rope.replace(type="dynamic", factor=2.0, original_max_position_embeddings=8)
    config = model.config.replace(decoder=model.config.decoder.replace(rope=rope))
    monkeypatch.setattr(model, "config", config)
    monkeypatch.setattr(model.decoder, "config", config.decoder)
    assert answer_packed(model, PROMPTS, frozenset(), 6) == answer_packed(model, PROMPTS, frozenset(), 6, cached=False)


def test_what_has_ended_is_not_computed_any_longer(model):
    sizes = []
    hook = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0].input_ids)))
    first = one_by_one(model, PROMPTS, frozenset(), 1)
    longest, ended = first[3][0][0], frozenset(ids[0] for ids, _ in first)
    assert len(ended) > 1, "the fixture no longer has answers that begin differently"
    sizes.clear()
    answer_packed(model, PROMPTS, ended - {longest}, 6, cached=False)
    hook.remove()
    assert sizes[-1] < sizes[0] // 2


def test_neighbours_with_the_same_picture_share_it(model):
    trees = _shared(PROMPTS[:3])
    assert [len(t.branches) for t in trees] == [3]
    assert sum(len(t.prefix.media) for t in trees) == 1


def test_text_that_differs_before_the_picture_is_not_shared(model):
    assert [len(t.branches) for t in _shared(PROMPTS[6:])] == [1, 1]


def test_the_last_token_that_is_asked_for_is_not_run_again(model):
    passes = []
    hook = model.register_forward_pre_hook(lambda _, args: passes.append(1))
    assert len(list(decode(model, pack([PROMPTS[0]]), frozenset(), 3, Sampling()))) == len(passes) == 3
    hook.remove()


def test_an_answer_may_be_as_long_as_asked_and_says_so(model):
    answers = answer_packed(model, PROMPTS[:2], frozenset(), 4)
    assert [(len(ids), ended) for ids, ended in answers] == [(4, False), (4, False)]


def test_sampling_repeats_with_its_seed_and_varies_without(model):
    batch = pack([PROMPTS[0]])
    runs = [list(decode(model, batch, frozenset(), 12, Sampling(1.5, seed))) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
