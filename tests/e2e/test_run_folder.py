"""`eyespot train tiny`: what a run's folder holds, row for row, and how it takes a second run."""

import json
import math
import shutil

import pytest

import eyespot
from tests.e2e.rows import row, write_rows

STEPS = {"align": 3, "finetune": 2}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A finished run of the recipe."""
    from eyespot.cli.app import main

    out = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["train", "tiny", f"out={out}", "align.steps=3", "finetune.steps=2", "save_every=2", "seed=7"]
    assert main(words) == 0
    return out


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_it_holds_what_is_promised_and_nothing_half_done(out):
    names = {path.name for path in out.iterdir()}
    assert names == {"log.jsonl", "run.json", "result.json", "checkpoints", "model", "curves.svg", "lock"}
    assert not [path for path in out.rglob("*") if path.name.startswith(".") or path.suffix == ".tmp"]


def test_the_log_has_a_row_for_each_step_from_one_unrounded(out):
    rows = log(out)
    assert [(r["stage"], r["step"]) for r in rows] == [(s, i + 1) for s, n in STEPS.items() for i in range(n)]
    assert all(math.isfinite(r["loss"]) and r["tokens"] > r["supervised"] > 0 for r in rows)
    assert any(r["loss"] != round(r["loss"], 6) for r in rows)


def test_run_json_says_how_to_do_it_again(out):
    run = json.loads((out / "run.json").read_text())
    assert run["command"].startswith("eyespot ")
    assert run["seed"] == run["config"]["seed"] == 7
    assert {"python", "torch"} <= run["versions"].keys()
    assert "git" in run
    assert [stage["name"] for stage in run["config"]["stages"]] == list(STEPS)
    for stage in STEPS:
        assert all(source["hash"] for source in run["stages"][stage]["data"])
        assert run["stages"][stage]["trainable"]


def test_checkpoints_hold_model_and_state_each_whole(out):
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["00-align-00000002", "00-align-00000003-end", "01-finetune-00000002-end"]
    for name in names:
        assert (out / "checkpoints" / name / "complete.json").is_file()
        assert eyespot.load(out / "checkpoints" / name / "model", verify=True).processor.tokenizer is not None


def test_the_model_is_whole_and_answers_after_it_was_moved(out, tmp_path, command):
    shutil.copytree(out / "model", tmp_path / "elsewhere")
    names = {path.name for path in (tmp_path / "elsewhere").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "eyespot.json", "README.md"} <= names
    card = (tmp_path / "elsewhere" / "README.md").read_text()
    assert all(stage in card for stage in STEPS) and "world:scenes" in card
    assert json.loads((tmp_path / "elsewhere" / "config.json").read_text())["model_type"] == "eyespot"
    assert command("chat", tmp_path / "elsewhere", "How many objects are there?", "--max-new-tokens", 3).code == 0


def test_result_json_holds_seconds_hashes_and_what_became_of_every_row(out):
    result = json.loads((out / "result.json").read_text())
    assert set(result["seconds"]) == set(result["frozen"]) == set(result["data"]) == set(STEPS)
    for stage, parts in result["frozen"].items():
        assert set(parts) == {"vision_encoder", "connector", "decoder"}
        moved = {name for name, h in parts.items() if h["before"] != h["after"]}
        assert moved == ({"connector"} if stage == "align" else {"connector", "decoder"})
        assert all(len(h[side]) == 64 for h in parts.values() for side in h)
    for ledger in result["data"].values():
        assert ledger["read"] == ledger["used"] + ledger["truncated"] + sum(ledger["dropped"].values()) > 0


def test_a_second_run_into_it_is_refused_and_changes_nothing(out, command):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    result = command("train", "tiny", f"out={out}", "steps=2")
    assert result.code == 2
    assert "run-exists" in result.err and "--resume auto" in result.err and str(out) in result.err
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_resuming_with_another_configuration_is_refused_naming_the_key(out, command):
    result = command("train", "tiny", f"out={out}", "align.steps=3", "finetune.steps=2", "seed=8", "--resume", "auto")
    assert result.code == 2
    assert "run-mismatch" in result.err and "seed" in result.err


def test_json_prints_where_everything_is(tmp_path, home, command):
    words = ["train", "finetune", f"model={home / 'model'}", f"data={home / 'rows.json'}", f"out={tmp_path / 'run'}"]
    result = command(*words, "steps=2", "batch_tokens=400", "log_every=2", "--json")
    assert result.code == 0
    said = json.loads(result.out)
    assert said["model"] == str(tmp_path / "run" / "model")
    assert [r["step"] for r in log(tmp_path / "run")] == [2]


# ------------------------------------------------------------------------------------------------- rows that are lost


@pytest.fixture
def spoilt(home, tmp_path):
    """Forty rows, the third without an answer."""
    shutil.copy(home / "star.png", tmp_path)
    rows = [row(i) for i in range(40)]
    rows[2]["conversations"] = rows[2]["conversations"][:1]
    write_rows(tmp_path / "rows.json", rows)
    return ["train", "finetune", f"model={home / 'model'}", f"data={tmp_path / 'rows.json'}", f"out={tmp_path / 'run'}"]


def test_a_lost_row_within_the_limit_is_counted_and_named(spoilt, tmp_path, command):
    result = command(*spoilt, "steps=6", "batch_tokens=400", "max_dropped=0.05")
    assert result.code == 0
    ledger = json.loads((tmp_path / "run" / "result.json").read_text())["data"]["finetune"]
    assert ledger["dropped"].keys() == {"row-no-answer"}
    assert ledger["read"] == ledger["used"] + ledger["truncated"] + sum(ledger["dropped"].values())
    (lost,) = ledger["rows"]
    assert lost["id"] == "row-2" and lost["code"] == "row-no-answer"
    assert "rows.json: llava, 40 rows" in result.err
    times = lost["times"]
    told = f"{ledger['read']} read = {ledger['used']} used + 0 truncated + {times} dropped ({times} row-no-answer)"
    assert told in result.err


def test_a_lost_row_beyond_the_limit_stops_the_run_naming_it(spoilt, tmp_path, command):
    result = command(*spoilt, "steps=6", "batch_tokens=400")
    assert result.code == 2
    assert "data-dropped" in result.err and "row-2" in result.err and "max_dropped=0.01" in result.err
    assert not (tmp_path / "run" / "model").exists()


def test_a_repeated_id_is_said_and_is_no_fault(home, tmp_path, command, caplog):
    shutil.copy(home / "star.png", tmp_path)
    write_rows(tmp_path / "rows.json", [row(1), row(1), row(2)])
    words = [
        "train",
        "finetune",
        f"model={home / 'model'}",
        f"data={tmp_path / 'rows.json'}",
        f"out={tmp_path / 'run'}",
    ]
    assert command(*words, "steps=2", "batch_tokens=400").code == 0
    ledger = json.loads((tmp_path / "run" / "result.json").read_text())["data"]["finetune"]
    assert ledger["dropped"] == {} and "row-1" in ledger["warnings"][0]
    assert "row-1" in caplog.text
