"""`eyespot train`: recipes found, overrides passed on, events shown, the summary of `--json`."""

import json
import types

import pytest

from eyespot.cli.app import main
from eyespot.cli.progress import TrainingProgress, describe
from eyespot.cli.train import find_recipe
from eyespot.errors import EyespotError
from eyespot.train import loop
from eyespot.train.events import Evaluated, RunDone, Saved, StageDone, StageStarted, StepDone
from eyespot.train.run import RunConfig
from eyespot.train.trainable import Trainable, TrainableRow

RECIPE = """
from eyespot.train.run import RunConfig, Stage

def small():
    return RunConfig(model="m", data=("world:none",), stages=(Stage(name="align"), Stage(name="finetune")))

broken = 3
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "recipe_beside_me.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "recipe_beside_me:small"


def step(number=1, steps=2, loss=0.5):
    row = {"tokens_per_s": 12345.0, "seconds": 2.0, "data_wait": 0.5}
    return StepDone("align", number, steps, loss, row, seconds_left=65.0)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A loop that trains nothing and says everything."""
    seen = types.SimpleNamespace()

    def train(config, *, resume=False, command=""):
        seen.config, seen.resume, seen.command = config, resume, command
        table = Trainable({"connector.w": 1e-3}, (TrainableRow("connector", "connector", 1e-3, 1, 10),))
        yield StageStarted("align", 0, 2, table, None)
        yield step(1)
        yield step(2)
        yield Saved("align", 2, tmp_path / "checkpoint")
        yield Evaluated("align", 2, {"overall": {"accuracy": 0.5}})
        yield StageDone("align", 2, 4.0, {}, None)
        yield RunDone(tmp_path, {"seconds": {"align": 4.0}})

    monkeypatch.setattr(loop, "train", train)
    return seen


def test_a_recipe_beside_the_user_is_found(recipe):
    assert isinstance(find_recipe(recipe)(), RunConfig)


@pytest.mark.parametrize("name", ["no_such", "no_such_module:f", "recipe_beside_me:smal"])
def test_an_unknown_recipe_is_an_error_with_what_is_near(name, recipe):
    with pytest.raises(EyespotError) as caught:
        find_recipe(name)
    assert caught.value.code == "recipe-unknown"
    if name.endswith("smal"):
        assert "small" in caught.value.message


def test_what_a_recipe_fails_to_import_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        find_recipe("needs_more:f")


def test_overrides_resume_and_command_reach_the_loop(recipe, trained):
    assert main(["train", recipe, "steps=5", "align.steps=10", "--resume", "auto"]) == 0
    assert [stage.steps for stage in trained.config.stages] == [10, 5]
    assert trained.resume is True
    assert trained.command == f"eyespot train {recipe} steps=5 align.steps=10 --resume auto"


def test_an_unknown_key_stops_before_anything_runs(recipe, trained, capsys):
    assert main(["train", recipe, "align.stesp=10"]) == 2
    assert "align.steps" in capsys.readouterr().err
    assert not hasattr(trained, "config")


def test_resume_takes_auto_only(recipe, capsys):
    assert main(["train", recipe, "--resume", "yes"]) == 2
    assert "--resume auto" in capsys.readouterr().err


def test_events_go_to_stderr_and_nothing_to_stdout(recipe, trained, capsys):
    assert main(["train", recipe]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("stage align", "connector", "align 2/2 loss 0.5000", "saved", "accuracy", "model:"):
        assert word in err


def test_json_prints_one_object_at_the_end_and_no_progress(recipe, trained, capsys, tmp_path):
    assert main(["train", recipe, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "out": str(tmp_path),
        "model": str(tmp_path / "model"),
        "result": {"seconds": {"align": 4.0}},
    }


def test_a_step_shows_loss_speed_wait_and_time_left():
    assert describe(step()) == "loss 0.5000 · 12,345 tokens/s · data wait 25% · 1:05 left"


def test_a_run_that_fails_leaves_the_terminal_as_it_was(capsys):
    with pytest.raises(EyespotError), TrainingProgress() as progress:
        progress.show(step())
        raise EyespotError("loss-not-finite", "nan")
    assert not progress.bars.live.is_started
