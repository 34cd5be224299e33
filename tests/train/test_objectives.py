"""Contrastive objectives through the whole loop, and objectives of one's own."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_run import ALIGN, model, rows

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.data.packing import pack
from eyespot.errors import EyespotError
from eyespot.families import Loaded, build
from eyespot.inputs.processor import Processor
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.text import TextEncoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.train import objectives
from eyespot.train.events import StageDone, StepDone
from eyespot.train.objectives import OBJECTIVES
from eyespot.train.pairs import PairProcessor, rows_of


def dual():
    """Two towers of a few thousand parameters over the words of the tiny recipe."""
    tokenizer = model().tokenizer
    size = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32}
    end = tokenizer.id_of("<end>")
    vision = VitConfig(**size, image_size=(16, 16), patch_size=8, pool="mean", projection_size=16)
    text = TextEncoderConfig(
        **size,
        vocab_size=tokenizer.vocab_size,
        max_length=6,
        causal=False,
        pool="last",
        eos_token_id=end,
        projection_size=16,
    )
    contract = Contract(
        image=ImageRule(size=(16, 16), resize="exact", patch_size=8),
        text=TextRule(max_length=6, pad_token="<pad>", eos_token="<end>", add_special_tokens=False),
    )
    module = build(DualConfig(vision, text, logit_scale=2.0, logit_bias=-2.0))
    return Loaded(module, Processor(contract, tokenizer), contract, "eyespot", "eyespot")


CONTRAST = ALIGN.replace(
    name="contrast", steps=30, lr=1e-2, pairs=6, trainable=(".*",), objective="contrastive_sigmoid"
)


@pytest.mark.parametrize("objective", ["contrastive_sigmoid", "contrastive_softmax"])
def test_a_dual_encoder_learns_which_caption_belongs_to_which_picture(config, events, objective):
    def towers():
        loaded = dual()
        if objective == "contrastive_softmax":
            loaded.module.logit_bias = None
        return loaded

    stage = CONTRAST.replace(objective=objective)
    found = events(config.replace(model=towers, data=(rows(),), stages=(stage,), layout="eyespot"))
    steps = [event for event in found if isinstance(event, StepDone)]
    assert all(event.row["samples"] == 6 for event in steps)
    assert steps[-1].loss < 0.9 * steps[0].loss
    assert all(isinstance(event.loss, float) for event in steps)
    done = next(event for event in found if isinstance(event, StageDone))
    assert {part for part, h in done.frozen.items() if h["before"] != h["after"]} >= {"vision_encoder", "text_encoder"}


def test_the_temperature_stays_below_its_bound(config, events):
    def hot():
        loaded = dual()
        with torch.no_grad():
            loaded.module.logit_scale.fill_(9.0)
        return loaded

    found = events(config.replace(model=hot, data=(rows(),), stages=(CONTRAST.replace(steps=1),), audit=0))
    module = next(event for event in found if isinstance(event, StageDone)).loaded.module
    assert module.logit_scale.item() == pytest.approx(np.log(100))


def test_a_contrastive_step_cannot_be_cut_into_micro_batches(config):
    with pytest.raises(EyespotError) as caught:
        objectives.find(CONTRAST.replace(accumulation=2))
    assert caught.value.where == "contrast.accumulation"


def test_texts_of_a_batch_of_pairs_are_rows_padded_to_one_length():
    processor = PairProcessor(dual().processor)
    batch = pack([processor.encode_example(row) for row in rows(4)])
    texts = rows_of(batch)
    assert texts.shape == (4, 6)
    for text, row in zip(texts, rows(4), strict=True):
        assert processor.tokenizer.decode(text.tolist()) == row.messages[-1].text


def test_a_model_without_two_towers_is_refused():
    with pytest.raises(EyespotError) as caught:
        PairProcessor(model().processor)
    assert caught.value.code == "not-supported"


def test_a_pair_needs_a_picture_and_a_caption():
    with pytest.raises(EyespotError) as caught:
        PairProcessor(dual().processor).encode_example(rows(4, False)[0])
    assert (caught.value.code, caught.value.where) == ("row-malformed", "row-0")


def test_an_objective_of_ones_own_brings_no_second_loop(config, events):
    """Half of the tokens' loss: the same path, other figures."""
    plain = OBJECTIVES["tokens"]

    def half(module, batch, stage):
        loss, weight = plain.loss(module, batch, stage)
        return loss / 2, weight

    mine = dataclasses.replace(plain, loss=half)
    losses = [
        e.loss for e in events(config.replace(stages=(ALIGN.replace(objective=mine),))) if isinstance(e, StepDone)
    ]
    other = config.replace(out=config.out + "-plain", stages=(ALIGN,))
    assert losses[0] == pytest.approx(next(e.loss for e in events(other) if isinstance(e, StepDone)) / 2)
