"""Overrides: what a bare key, an addressed key and a wrong key do."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.errors import EyespotError
from eyespot.train.run import STAGE_KEYS, RunConfig, Stage, read_config, read_overrides

BASE = RunConfig(
    model="m",
    data=("world:scenes",),
    stages=(Stage(name="align", steps=5, data=("own.jsonl",)), Stage(name="finetune", steps=7)),
)


def test_a_bare_key_reaches_every_stage():
    changed = read_overrides(BASE, ["steps=3", "lr=1e-5"])
    assert [(s.steps, s.lr) for s in changed.stages] == [(3, 1e-5), (3, 1e-5)]


def test_an_addressed_key_reaches_its_stage_only():
    changed = read_overrides(BASE, ["align.steps=3"])
    assert [s.steps for s in changed.stages] == [3, 7]


@pytest.mark.parametrize("pairs", [["align.steps=10", "steps=2"], ["steps=2", "align.steps=10"]])
def test_the_addressed_key_wins_whatever_the_order(pairs):
    assert [s.steps for s in read_overrides(BASE, pairs).stages] == [10, 2]


def test_of_two_equal_keys_the_later_wins():
    assert read_overrides(BASE, ["seed=1", "seed=2"]).seed == 2


def test_trainable_is_a_list_and_replaces_the_recipes_own():
    changed = read_overrides(BASE, ["trainable=connector,decoder:1e-5"])
    assert changed.stages[0].trainable == ("connector", "decoder:1e-5")


def test_data_given_for_the_run_replaces_what_stages_name():
    changed = read_overrides(BASE, ["data=a.jsonl,b.jsonl*2"])
    assert changed.data == ("a.jsonl", "b.jsonl*2")
    assert [s.data for s in changed.stages] == [None, None]


def test_data_of_one_stage_leaves_the_others():
    changed = read_overrides(BASE, ["finetune.data=world:handwriting:train"])
    assert [s.data for s in changed.stages] == [("own.jsonl",), ("world:handwriting:train",)]


def test_a_part_to_start_from_is_addressed_by_name():
    changed = read_overrides(BASE, ["align.init_from.vision_encoder=runs/a/model"])
    assert changed.stages[0].init_from == {"vision_encoder": "runs/a/model"}
    assert changed.stages[1].init_from == {}


@pytest.mark.parametrize(
    ("pair", "near"),
    [("stpes=3", "steps"), ("align.lrr=1", "align.lr"), ("alignn.steps=1", "align.steps"), ("sead=1", "seed")],
)
def test_an_unknown_key_names_the_nearest(pair, near):
    with pytest.raises(EyespotError) as caught:
        read_overrides(BASE, [pair])
    assert caught.value.code == "config-unknown-key"
    assert repr(near) in caught.value.message


@pytest.mark.parametrize(
    "pair", ["steps=many", "steps=1.5", "steps=0", "lr=-1", "schedule=square", "warmup=2", "seconds=0"]
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_key(pair):
    with pytest.raises(EyespotError) as caught:
        read_overrides(BASE, [pair])
    assert caught.value.code == "config-value"
    assert pair.split("=")[0] in caught.value.where


def test_a_word_without_equals_is_refused():
    with pytest.raises(EyespotError) as caught:
        read_overrides(BASE, ["steps"])
    assert caught.value.code == "argument"


def test_the_name_of_a_stage_cannot_be_overridden():
    with pytest.raises(EyespotError):
        read_overrides(BASE, ["name=other"])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 1, allow_nan=False), st.permutations(["align.steps", "steps", "lr"]))
def test_overrides_mean_the_same_in_any_order_of_different_keys(steps, lr, order):
    values = {"align.steps": steps, "steps": steps + 1, "lr": repr(lr)}
    changed = read_overrides(BASE, [f"{key}={values[key]}" for key in order])
    assert changed == read_overrides(BASE, [f"{key}={values[key]}" for key in values])
    assert [s.steps for s in changed.stages] == [steps, steps + 1]
    assert {s.lr for s in changed.stages} == {lr}


@settings(max_examples=50, deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz_.", min_size=1, max_size=12))
def test_no_key_is_taken_that_the_dataclasses_do_not_have(key):
    known = {f.name for f in dataclasses.fields(RunConfig)} | STAGE_KEYS
    if key.split(".")[0] in known | {"align", "finetune"}:
        return
    with pytest.raises(EyespotError) as caught:
        read_overrides(BASE, [f"{key}=1"])
    assert caught.value.code == "config-unknown-key"


def test_a_yaml_file_fills_the_same_dataclass(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: m\ndata: [a.jsonl]\nstages:\n- {name: align, lr: 1e-5, trainable: [connector]}\n")
    config = read_config(path)
    assert config.stages == (Stage(name="align", lr=1e-5, trainable=("connector",)),)
    with pytest.raises(EyespotError) as caught:
        path.write_text("stages: [{nam: align}]")
        read_config(path)
    assert caught.value.code == "config-unknown-key"


def test_the_plain_form_of_a_run_with_objects_is_json():
    def builder():
        return None

    config = BASE.replace(model=builder, evaluator=builder, stages=(Stage(model=builder, data=(object(),)),))
    assert "builder" in json.dumps(config.to_dict())


def test_rows_in_memory_are_named_by_their_number():
    assert RunConfig(data=(tuple(object() for _ in range(1000)),)).to_dict()["data"] == ["1000 × object"]


def test_a_plan_is_refused_before_anything_is_read():
    late = RunConfig(
        model="m", data=("d",), stages=(Stage(name="a", init_from={"decoder": "stage:b"}), Stage(name="b"))
    )
    for config, where in (
        (late, "a.init_from.decoder"),
        (RunConfig(model="m"), "train.data"),
        (RunConfig(data=("d",)), "train.model"),
    ):
        with pytest.raises(EyespotError) as caught:
            config.check()
        assert caught.value.where == where


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(EyespotError):
        RunConfig(stages=(Stage(name="a"), Stage(name="a")))
