"""A run's folder: one writer, a log that is cut back, and no silent change of the configuration."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eyespot.errors import EyespotError
from eyespot.train import checkpoint
from eyespot.train.folder import RunFolder, differences, read_log
from eyespot.train.run import RunConfig, Stage


@pytest.fixture
def config(tmp_path):
    stages = (Stage(name="align", steps=5), Stage(name="finetune", steps=5))
    return RunConfig(model="m", data=("d",), out=str(tmp_path / "run"), stages=stages)


def begin(config):
    """A run that has written one checkpoint."""
    with RunFolder(config, False, "first"):
        checkpoint.save(
            Path(config.out, "checkpoints") / "00-align-00000003", lambda folder: folder.mkdir(), {"step": 3}
        )


def test_run_json_says_where_the_run_comes_from(config):
    with RunFolder(config, False, "eyespot train tiny") as run:
        facts = run.facts()
    assert facts["command"] == "eyespot train tiny"
    assert facts["config"]["stages"][0]["name"] == "align"
    assert facts["versions"]["torch"]
    assert set(facts) >= {"started", "seed", "machine", "git", "versions", "config", "stages"}


def test_a_folder_that_holds_a_run_is_refused_without_resume(config):
    begin(config)
    with pytest.raises(EyespotError) as caught:
        RunFolder(config, False, "")
    assert caught.value.code == "run-exists"
    assert "--resume auto" in caught.value.remedy


def test_resume_without_a_checkpoint_starts_afresh(config):
    with RunFolder(config, False, "") as run:
        run.log({"stage": "align", "step": 1})
    with RunFolder(config, True, "") as run:
        assert run.checkpoint is None
        assert list(run.rows()) == []


def test_resume_finds_the_checkpoint_and_notes_that_it_went_on(config):
    begin(config)
    with RunFolder(config, True, "again") as run:
        assert run.checkpoint.name == "00-align-00000003"
        assert run.facts()["resumed"][0]["command"] == "again"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed: 0 → 1"),
        ({"data": ("other",)}, "data"),
        ({"model": "other"}, "model"),
        ({"precision": "float32"}, "precision"),
        ({"stages": (Stage(name="align", steps=6), Stage(name="finetune", steps=5))}, "align.steps: 5 → 6"),
        ({"stages": (Stage(name="align", steps=5, lr=1.0), Stage(name="finetune", steps=5))}, "align.lr"),
        ({"stages": (Stage(name="align", steps=5),)}, "finetune"),
    ],
)
def test_resume_with_another_configuration_is_refused_naming_each_key(config, changed, named):
    begin(config)
    with pytest.raises(EyespotError) as caught:
        RunFolder(config.replace(**changed), True, "")
    assert caught.value.code == "run-mismatch"
    assert named in caught.value.message


def test_keys_that_change_nothing_about_the_training_may_differ(config):
    begin(config)
    RunFolder(config.replace(log_every=3, save_every=1, keep=5, workers=1, max_dropped=0.5), True, "").close()


def test_a_second_writer_is_refused_with_the_first_ones_process(config):
    code = (
        "import sys; from eyespot.train.folder import RunFolder; from eyespot.train.run import RunConfig\n"
        "run = RunFolder(RunConfig(model='m', data=('d',), out=sys.argv[1]), True, '')\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, config.out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(EyespotError) as caught:
            RunFolder(config, True, "")
        assert caught.value.code == "run-locked"
        assert str(other.pid) in caught.value.message
    finally:
        other.kill()
        other.communicate()
    RunFolder(config, True, "").close()  # a dead holder holds nothing


def test_an_error_while_opening_gives_the_lock_back(config):
    begin(config)
    with pytest.raises(EyespotError):
        RunFolder(config.replace(seed=9), True, "")
    RunFolder(config, True, "").close()


def test_a_log_is_cut_back_to_the_checkpoint(config):
    with RunFolder(config, False, "") as run:
        for stage in ("align", "finetune"):
            for step in range(1, 6):
                run.log({"stage": stage, "step": step, "loss": 1 / 3})
        run.cut_log("finetune", 2)
        rows = list(run.rows())
    assert [(r["stage"], r["step"]) for r in rows] == [
        *(("align", s) for s in range(1, 6)),
        ("finetune", 1),
        ("finetune", 2),
    ]
    assert rows[0]["loss"] == 1 / 3


def test_a_torn_last_line_of_the_log_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "a", "st')
    assert [r["step"] for r in read_log(path)] == [1]


def test_a_log_that_cannot_be_written_does_not_stop_the_run(config, caplog):
    with RunFolder(config, False, "") as run:
        (run.path / "log.jsonl").mkdir()
        run.log({"step": 1})
        run.log({"step": 2})
    assert caplog.text.count("training goes on") == 1


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(EyespotError) as caught:
        RunFolder(RunConfig(out=str(tmp_path / "run")), False, "")
    assert caught.value.code == "config-value"


def test_differences_name_the_path():
    assert list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})) == ["a.b: 1 → 3"]
    assert json.loads(json.dumps(list(differences({}, {"x": None})))) == []
