"""Splits of the scenes world: what training never draws, and that no list of objects is shared."""

from itertools import combinations
from random import Random

import numpy as np
import pytest

from eyespot.errors import EyespotError
from eyespot.worlds.scenes import (
    HELD_OUT_COUNTS,
    HELD_OUT_PAIRS,
    HELD_OUT_PLACES,
    SMALL,
    SPLITS,
    Scenes,
    ScenesConfig,
    layout,
    lettering,
    splits,
    words,
)
from eyespot.worlds.scenes.world import picture_of

FULL = ScenesConfig(grounds=("plain",))


def scenes(config, split, number):
    rule = splits.get_split(split, config.held_out)
    return [layout.sample(config, rule, Random(f"{split} {i}")) for i in range(number)]


@pytest.mark.parametrize("config", [SMALL, FULL])
def test_at_least_fifteen_in_a_hundred_pairs_are_held_out_and_no_colour_or_shape_wholly(config):
    pairs = {(c, s) for c in config.colours for s in config.shapes}
    held = pairs & HELD_OUT_PAIRS
    assert len(held) >= 0.15 * len(pairs)
    assert {c for c, _ in pairs - held} == set(config.colours)
    assert {s for _, s in pairs - held} == set(config.shapes)


@pytest.mark.parametrize("config", [SMALL, FULL])
@pytest.mark.parametrize("split", ["train", "dev", "heldout"])
def test_held_out_pairs_are_never_drawn(config, split):
    assert not any(HELD_OUT_PAIRS & scene.pairs.keys() for scene in scenes(config, split, 150))


@pytest.mark.slow
def test_no_held_out_pair_in_ten_thousand_training_scenes():
    assert not any(HELD_OUT_PAIRS & scene.pairs.keys() for scene in scenes(SMALL, "train", 10_000))


@pytest.mark.parametrize("config", [SMALL.replace(objects=(1, 1)), SMALL.replace(objects=(1, 2)), FULL])
def test_no_two_splits_share_a_list_of_objects(config):
    names = [s for s in SPLITS if SPLITS[s].focus in (None, *config.held_out)]
    lists = {name: {str(scene.objects) for scene in scenes(config, name, 150)} for name in names}
    assert all(lists[a].isdisjoint(lists[b]) for a, b in combinations(names, 2))


def test_a_planted_scene_of_another_split_is_seen():
    one = SMALL.replace(objects=(1, 1))
    train = {str(scene.objects) for scene in scenes(one, "train", 800)}
    unruly = splits.Split("unruly", None, new_looks=False)
    others = [layout.sample(one, unruly, Random(i)) for i in range(200)]
    assert any(str(scene.objects) in train for scene in others)


@pytest.mark.parametrize("config", [SMALL, FULL])
def test_every_composition_shows_a_held_out_pair_and_asks_about_it(unpainted, config):
    world = Scenes(config)
    for i in range(5 * len(config.types)):
        example = world.example("compositions", 0, i)
        held = [o for o in example.meta["objects"] if (o["colour"], o["shape"]) in HELD_OUT_PAIRS]
        assert len(held) == 1
        name = f"{held[0]['colour']} {held[0]['shape']}"
        kind, text = example.meta["type"], example.messages[0].text
        assert example.meta["pair"] in ("", name) or kind in ("relation", "comparison")
        if kind in ("existence", "count_of"):
            assert held[0]["colour"] in text or any(w in text for w in words.SHAPES[held[0]["shape"]][:2])


def test_training_never_denies_a_pair_that_it_never_draws(unpainted):
    world = Scenes(SMALL.replace(types=("existence",)))
    asked = " ".join(m.text for i in range(300) for m in world.example("train", 0, i).messages)
    assert not any(f"{colour} {shape}" in asked for colour, shape in HELD_OUT_PAIRS)


def test_held_out_counts_are_shown_by_their_split_only():
    for scene in scenes(FULL, "train", 200):
        assert not set(scene.shapes.items()) & HELD_OUT_COUNTS
    for scene in scenes(FULL, "counts", 60):
        assert (scene.focus[0].shape, scene.shapes[scene.focus[0].shape]) in HELD_OUT_COUNTS


def test_held_out_places_are_shown_by_their_split_only():
    for scene in scenes(FULL, "train", 200):
        assert not {(t.shape, splits.quarter(*scene.at(t))) for t in scene.things} & HELD_OUT_PLACES
    for scene in scenes(FULL, "places", 60):
        assert (scene.focus[0].shape, splits.quarter(*scene.at(scene.focus[0]))) in HELD_OUT_PLACES


def test_grounds_fonts_and_words_of_held_out_splits_are_new():
    config = FULL.replace(types=("text",))
    train, held = (SPLITS[s] for s in ("train", "heldout"))
    assert set(lettering.fonts_of(config, False)).isdisjoint(lettering.fonts_of(config, True))
    chosen = [{lettering.choose(config, s, Random(i), 96, 96)[1] for i in range(300)} for s in (train, held)]
    assert chosen[0].isdisjoint(chosen[1])
    assert [scenes(FULL, s, 1)[0].new_looks for s in SPLITS] == [False, False, True, True, True, True]


def test_an_example_depends_on_split_seed_and_number_only():
    world, again = Scenes(SMALL), Scenes(SMALL)
    stream = again.examples("train", 5, start=3)
    third = next(stream)
    same = world.example("train", 5, 3)
    assert third.messages[0].text == same.messages[0].text and third.meta == same.meta
    assert np.array_equal(picture_of(third), picture_of(same))
    for other in (world.example("train", 5, 4), world.example("train", 6, 3), world.example("dev", 5, 3)):
        assert other.meta["objects"] != same.meta["objects"]


@pytest.mark.parametrize(
    ("split", "message"), [("trian", "did you mean 'train'"), ("counts", "training does not keep counts out")]
)
def test_a_split_that_is_not_there_is_refused(split, message):
    with pytest.raises(EyespotError, match=message):
        Scenes(SMALL).example(split, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": ("circel",)}, "did you mean 'circle'"),
        ({"types": ()}, "types is empty"),
        ({"objects": (3, 2)}, "objects"),
        ({"aspect": (0.01, 1.0)}, "aspect"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, message):
    with pytest.raises(EyespotError, match=message):
        ScenesConfig(**changes)


def test_what_no_picture_can_hold_is_refused_rather_than_tried_for_ever():
    crowded = SMALL.replace(objects=(40, 40), sizes=("large",))
    with pytest.raises(EyespotError, match="fits this configuration"):
        layout.sample(crowded, SPLITS["train"], Random(0))
