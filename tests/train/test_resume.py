"""Resumed = uninterrupted, bit for bit, wherever the run was stopped."""

import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tiny_run import ALIGN, FINETUNE, base, model, row, rows

from eyespot import families
from eyespot.contracts.message import Example
from eyespot.errors import EyespotError
from eyespot.train import checkpoint, finish
from eyespot.train.events import RunDone, Saved, StageDone, StepDone
from eyespot.train.loop import train
from eyespot.train.preflight import digests


def leave_after(config, stage, step, **options):
    """Run until `step` of `stage` is in a checkpoint, then vanish without a word."""
    run = train(config, **options)
    for event in run:
        if isinstance(event, Saved) and (event.stage, event.step) == (stage, step):
            break
    run.close()


def outcome(config):
    """What must be equal: the final weights, the log, the hashes, the ledger."""
    out = Path(config.out)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    result = json.loads((out / "result.json").read_text())
    return (
        digests(families.load(out / "model").module),
        [{k: r[k] for k in ("stage", "step", "loss", "lr", "grad_norm", "tokens", "samples")} for r in log],
        {k: result[k] for k in ("frozen", "data", "evaluations", "trainable")},
    )


STOPS = [("align", 1), ("align", 3), ("finetune", 2), ("finetune", 3)]


FAILS: set[tuple[str, int]] = set()


def evaluator(loaded, *, stage, step, out):
    if (stage, step) in FAILS:
        raise KeyboardInterrupt
    return float(loaded.module.connector.layers[0].weight.sum())


def saving_into(out):
    return base(out).replace(save_every=1, evaluator=evaluator, eval_every=2)


@pytest.fixture
def saving(tmp_path):
    """A run that saves after every step."""
    return saving_into(tmp_path / "run")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """What that run leaves when nothing stops it."""
    config = saving_into(tmp_path_factory.mktemp("straight") / "run")
    list(train(config))
    return outcome(config)


@pytest.mark.parametrize(("stage", "step"), STOPS)
def test_a_run_stopped_and_resumed_is_the_run_that_was_not(saving, events, straight, stage, step):
    leave_after(saving, stage, step)
    torch.rand(11)  # another process has another random state
    found = events(saving, resume=True)
    done = [(e.stage, e.step) for e in found if isinstance(e, StepDone)]
    assert (stage, step) not in done
    assert len(done) == 6 - (step + (3 if stage == "finetune" else 0))
    assert outcome(saving) == straight


def test_steps_after_the_checkpoint_are_done_again_and_logged_once(saving, events, straight):
    saving = saving.replace(save_every=2)
    run = train(saving)
    next(e for e in run if isinstance(e, StepDone) and e.step == 3)
    run.close()
    assert len(Path(saving.out, "log.jsonl").read_text().splitlines()) == 3
    found = events(saving, resume=True)
    assert next(e for e in found if isinstance(e, StepDone)).step == 3
    assert outcome(saving) == straight


def test_other_optimisers_and_schedules_go_on_too(saving, events, tmp_path):
    stage = FINETUNE.replace(optimizer="muon", accumulation=2, schedule="wsd")
    saving = saving.replace(stages=(stage,))
    events(saving)
    second = saving.replace(out=str(tmp_path / "b"))
    leave_after(second, "finetune", 2)
    events(second, resume=True)
    assert outcome(second) == outcome(saving)


def test_bfloat16_and_a_narrow_frozen_encoder_go_on_too(saving, events, tmp_path):
    def narrow():
        loaded = model()
        loaded.module.to(torch.bfloat16)
        return loaded

    saving = saving.replace(model=narrow, precision="bfloat16")
    events(saving)
    second = saving.replace(out=str(tmp_path / "b"))
    leave_after(second, "finetune", 2)
    events(second, resume=True)
    assert outcome(second) == outcome(saving)


def test_a_pipeline_with_models_of_its_own_goes_on_from_any_stage(config, events, tmp_path):
    encoder = FINETUNE.replace(name="encoder", model=model, trainable=(".*",), steps=2)
    align = ALIGN.replace(init_from={"vision_encoder": "stage:encoder"}, steps=2)
    aside = encoder.replace(name="aside")
    config = config.replace(save_every=1, stages=(encoder, align, aside, FINETUNE.replace(steps=2)))
    events(config)
    for stage, step in (("encoder", 2), ("align", 1), ("aside", 1)):
        second = config.replace(out=str(tmp_path / f"{stage}{step}"))
        leave_after(second, stage, step)
        events(second, resume=True)
        assert outcome(second) == outcome(config), (stage, step)


def test_resume_takes_the_older_checkpoint_where_the_newest_is_damaged(saving, events, straight, caplog):
    leave_after(saving, "finetune", 2)
    newest = checkpoint.newest(Path(saving.out, "checkpoints"))
    with (newest / "training.pt").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xff\xff\xff")
    found = events(saving, resume=True)
    assert next(e for e in found if isinstance(e, StepDone)).step == 2
    assert newest.name in caplog.text
    assert outcome(saving) == straight


def test_a_failure_while_the_final_model_is_written_is_made_good_by_resume(saving, events, straight, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(finish, "draw", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            events(saving)
    found = events(saving, resume=True)
    assert [type(e) for e in found] == [RunDone]
    assert outcome(saving) == straight


def test_resuming_a_finished_run_changes_nothing(config, events):
    events(config)
    before = {p: p.stat().st_mtime_ns for p in Path(config.out, "model").iterdir()}
    assert [type(e) for e in events(config, resume=True)] == [RunDone]
    assert before == {p: p.stat().st_mtime_ns for p in Path(config.out, "model").iterdir()}


def test_resume_without_a_checkpoint_starts_afresh(config, events):
    run = train(config)
    next(e for e in run if isinstance(e, StepDone))
    run.close()
    found = events(config, resume=True)
    assert len([e for e in found if isinstance(e, StepDone)]) == 6
    assert len(Path(config.out, "log.jsonl").read_text().splitlines()) == 6


def test_a_second_run_into_the_same_folder_is_refused(config, events):
    events(config)
    with pytest.raises(EyespotError) as caught:
        events(config)
    assert caught.value.code == "run-exists"


def test_other_data_on_resume_are_refused(saving, events):
    leave_after(saving, "align", 2)
    with pytest.raises(EyespotError) as caught:
        events(saving.replace(data=(rows(23),)), resume=True)
    assert caught.value.code in ("run-mismatch", "data-changed")


class Spoilt:
    """Endless rows, the first three without an answer: within a stage nobody can say how many more will come."""

    name = "spoilt"

    def examples(self, split, seed, start=0):
        for i in itertools.count(start):
            example = row(i)
            yield Example(example.id, example.messages[:1] if i < 3 else example.messages)


SPOILT = Spoilt()


def test_too_many_lost_rows_at_the_end_of_a_stage_lose_no_weights(config, events):
    run = train(config.replace(data=(SPOILT,)))
    seen = []
    with pytest.raises(EyespotError, match="3 of .* rows read so far were dropped") as caught:
        seen.extend(run)
    assert caught.value.code == "data-dropped"
    assert "00-align-00000003-end" in [p.name for p in Path(config.out, "checkpoints").iterdir()]
    assert str(Path(config.out, "checkpoints")) in caught.value.remedy


@pytest.mark.parametrize("stages", [(ALIGN,), (ALIGN, FINETUNE)])
def test_resume_does_not_pass_over_the_verdict_and_a_larger_limit_goes_on_from_there(config, events, tmp_path, stages):
    config = config.replace(data=(SPOILT,), stages=stages)
    allowed = config.replace(max_dropped=0.5, out=str(tmp_path / "allowed"))
    events(allowed)
    with pytest.raises(EyespotError):
        events(config)
    with pytest.raises(EyespotError) as caught:
        events(config, resume=True)
    assert caught.value.code == "data-dropped"
    assert not Path(config.out, "model").exists()
    found = events(config.replace(max_dropped=0.5), resume=True)
    assert not [e for e in found if isinstance(e, StepDone) and e.stage == "align"]
    assert outcome(config) == outcome(allowed)


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("stage", ["align", "finetune"])
def test_a_run_killed_in_the_evaluation_at_a_stages_end_loses_no_step(saving, events, straight, stage, every):
    saving = saving.replace(save_every=every)
    FAILS.add((stage, 3))
    try:
        with pytest.raises(KeyboardInterrupt):
            events(saving)
    finally:
        FAILS.clear()
    found = events(saving, resume=True)
    assert not [e for e in found if isinstance(e, StepDone) and e.stage == stage]
    assert outcome(saving) == straight
    names = sorted(p.name for p in Path(saving.out, "checkpoints").iterdir())
    assert names[-1] == "01-finetune-00000003-end" and not {"00-align-00000003", "01-finetune-00000003"} & set(names)


def test_only_so_many_checkpoints_are_kept(saving, events):
    events(saving.replace(keep=1))
    names = sorted(p.name for p in Path(saving.out, "checkpoints").iterdir())
    assert names == ["00-align-00000003-end", "01-finetune-00000002", "01-finetune-00000003-end"]


def test_a_checkpoint_is_a_model_that_can_be_loaded(saving):
    leave_after(saving, "align", 2)
    loaded = families.load(Path(saving.out, "checkpoints", "00-align-00000002", "model"), verify=True)
    assert loaded.processor.tokenizer.id_of("<image>") == loaded.contract.text.image_token_id


def test_a_failing_save_leaves_the_older_checkpoint(saving, events, straight, monkeypatch):
    real, calls = torch.save, []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("no space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="no space"):
            events(saving)
    assert sorted(p.name for p in Path(saving.out, "checkpoints").iterdir()) == [
        "00-align-00000001",
        "00-align-00000002",
    ]
    events(saving, resume=True)
    assert outcome(saving) == straight


def test_sigterm_saves_at_the_next_step_and_then_ends_as_asked(config, events, straight):
    handled = []
    before = signal.signal(signal.SIGTERM, lambda *_: handled.append(1))
    try:
        found = []
        for event in train(config):
            found.append(event)
            if isinstance(event, StepDone) and event.step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [1]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(found[-1], Saved)
    assert not [e for e in found if isinstance(e, StageDone)]
    events(config, resume=True)
    assert outcome(config)[:2] == straight[:2]


def test_a_run_can_be_moved_and_resumed_elsewhere(saving, events, tmp_path, straight):
    leave_after(saving, "align", 2)
    shutil.move(saving.out, tmp_path / "c")
    moved = saving.replace(out=str(tmp_path / "c"))
    events(moved, resume=True)
    assert outcome(moved) == straight
