"""The handwriting world: real scans, whole stretches of the file held out, answers that the scans' labels give."""

import sys

import numpy as np
import pytest

from eyespot.errors import EyespotError
from eyespot.worlds import samples
from eyespot.worlds.handwriting import SPLITS, Handwriting, HandwritingConfig, scans_of


@pytest.fixture(autouse=True)
def scikit_learn():
    pytest.importorskip("sklearn")


def test_every_scan_belongs_to_one_split():
    taken = [i for split in SPLITS for digit in scans_of(split) for i in digit]
    assert sorted(taken) == list(range(1797))


def test_held_out_scans_are_long_stretches_of_the_file():
    held = sorted(i for digit in scans_of("heldout") for i in digit)
    runs = np.split(held, np.flatnonzero(np.diff(held) > 1) + 1)
    assert len(runs) == 3 and min(map(len, runs)) >= 138


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_the_labels_of_the_scans(split):
    labels, own = samples.scans()[1], {i for digit in scans_of(split) for i in digit}
    world = Handwriting()
    for i in range(40):
        example = world.example(split, 1, i)
        assert example.meta["answer"] == "".join(str(labels[k]) for k in example.meta["scans"])
        assert set(example.meta["scans"]) <= own
        assert len(example.meta["scans"]) == 1 if i % 2 == 0 else 2 <= len(example.meta["scans"]) <= 4
        if split == "train":
            assert example.messages[-1].text == example.meta["answer"] and example.target is None
        else:
            assert example.target == example.meta["answer"] and example.messages[-1].role == "user"


def test_an_example_depends_on_split_seed_and_number_only():
    world = Handwriting(HandwritingConfig(sides=(48, 96)))
    third, again = next(world.examples("train", 2, start=3)), world.example("train", 2, 3)
    first, second = (e.messages[0].media[0].source for e in (third, again))
    assert np.array_equal(first, second) and third.id == again.id
    assert first.dtype == np.uint8 and first.shape[0] == first.shape[1] and 48 <= first.shape[0] <= 96


def test_the_ink_is_seen():
    world = Handwriting(HandwritingConfig(grounds=("plain",)))
    for i in range(40):
        picture = world.example("heldout", 0, i).messages[0].media[0].source.astype(int)
        assert np.abs(picture - np.median(picture, axis=(0, 1))).sum(axis=2).max() > 150


def test_an_unknown_split_or_type_names_the_nearest():
    with pytest.raises(EyespotError, match="did you mean 'heldout'"):
        Handwriting().example("held", 0, 0)
    with pytest.raises(EyespotError, match="did you mean 'digit'"):
        HandwritingConfig(types=("digits",))


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    samples.scans.cache_clear()
    with pytest.raises(EyespotError, match="scikit-learn") as caught:
        samples.scans()
    assert caught.value.code == "extra-missing"
