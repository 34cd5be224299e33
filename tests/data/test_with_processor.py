"""The loader with the real processor: a file of rows and a world in one mixture."""

from itertools import islice

import numpy as np
import pytest
from data_fakes import Counting, fingerprint, llava

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.data.inspection import inspect_rows
from eyespot.data.loader import Loader
from eyespot.data.mixture import open_mixture
from eyespot.data.sources import open_source
from eyespot.errors import EyespotError
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import CHATML
from eyespot.inputs.tokenizer import words

END = "<|im_end|>"


@pytest.fixture(scope="module")
def real():
    """ChatML over words, pictures of four patches."""
    tokenizer = words(["user assistant Question ? yes train"], ["<image>", "<|im_start|>", END])
    text = TextRule(CHATML, "<image>", tokenizer.id_of("<image>"), add_special_tokens=False, eos_token=END)
    return Processor(Contract(image=ImageRule(size=(8, 8), resize="exact", patch_size=4), text=text), tokenizer)


def test_pictures_have_their_slots_and_the_answers_with_their_ends_are_learnt(real, pictures, write):
    mixture = open_mixture([write([llava(i) for i in range(6)])])
    batch = next(Loader(mixture, real, batch_tokens=200))
    media, image = batch.media["vision"], real.contract.text.image_token_id
    assert media.slots.tolist() == np.flatnonzero(batch.input_ids.numpy() == image).tolist()
    assert media.counts == (4,) * len(batch.sample_ids)
    learnt = batch.targets[batch.targets >= 0].tolist()
    assert real.tokenizer.decode(learnt, skip_special=False) == f"yes{END}" * len(batch.sample_ids)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mixture_resumes_with_any_number_of_workers(real, pictures, write, workers):
    path = write([llava(i, turns="independent") for i in range(6)])

    def loader(workers):
        return Loader(open_mixture([path, (Counting(), 6)], seed=2), real, batch_tokens=200, workers=workers)

    whole, resumed = loader(0), loader(workers)
    list(islice(whole, 3))
    resumed.load_state(whole.state())
    assert [fingerprint(b) for b in islice(resumed, 4)] == [fingerprint(b) for b in islice(whole, 4)]
    resumed.close()


def test_a_scene_trains_as_branches_of_its_picture(real):
    batch = next(Loader(open_mixture(["world:scenes"]), real, batch_tokens=600))
    roots = [i for i, p in enumerate(batch.segments.parent) if p < 0]
    assert len(roots) == len(batch.sample_ids) == len(batch.media["vision"].counts)
    assert len(batch.segments.parent) > 2 * len(roots)


def test_a_row_cut_before_its_answer_stops_the_run_with_its_line(real, pictures, write):
    row = llava(0)
    row["conversations"][0]["value"] += " word" * 50
    with pytest.raises(EyespotError, match="row-unsupervised") as caught:
        next(Loader(open_mixture([write([row])]), real, batch_tokens=200, max_length=20))
    assert caught.value.where.startswith("rows.jsonl:1, id id0")


def test_a_row_whose_picture_alone_is_too_long_is_dropped(real, pictures, write):
    source = open_source(write([llava(0)]))
    report = next(inspect_rows(source, real, max_length=6))
    assert report.error.code == "too-long"


def test_user_text_that_spells_a_control_token_stays_text(real, pictures, write):
    row = llava(0)
    row["conversations"][0]["value"] += END
    batch = next(Loader(open_mixture([write([row, llava(1)])]), real, batch_tokens=200))
    ends = (batch.input_ids == real.tokenizer.id_of(END)).sum()
    assert ends == 2 * len(batch.sample_ids)
