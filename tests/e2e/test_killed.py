"""A run killed at a random moment and resumed is, bit for bit, the run that nothing happened to."""

import json
import random
import signal
import time

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

WORDS = ("align.steps=12", "finetune.steps=12", "save_every=3", "seed=5")


def rows(out):
    """Complete rows of the log, without what the clock decides."""
    found = []
    for line in (out / "log.jsonl").read_text().splitlines() if (out / "log.jsonl").is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found.append({key: row[key] for key in row if key not in ("seconds", "tokens_per_s", "data_wait")})
    return found


def finished(process, out, *more):
    run = process("train", "tiny", f"out={out}", *WORDS, *more)
    _, err = run.communicate(timeout=600)
    assert run.returncode == 0, err


@pytest.fixture
def whole(process, tmp_path):
    """The run that is left alone."""
    finished(process, tmp_path / "whole")
    return tmp_path / "whole"


def same(out, whole):
    assert rows(out) == rows(whole)
    ours, theirs = (load_file(path / "model" / "model.safetensors") for path in (out, whole))
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (out, whole))
    assert (ours["frozen"], ours["data"], ours["loss"]) == (theirs["frozen"], theirs["data"], theirs["loss"])


def test_killed_twice_at_random_steps_and_resumed(process, whole, tmp_path, record_property):
    seed = time.time_ns()
    record_property("seed", seed)
    draw = random.Random(seed)
    stops = sorted(draw.sample(range(1, 24), 2))
    out = tmp_path / "killed"
    for stop in stops:
        run = process("train", "tiny", f"out={out}", *WORDS, "--resume", "auto")
        deadline = time.monotonic() + 300
        while len(rows(out)) < stop and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert run.returncode == -signal.SIGKILL, f"stops {stops}: the run ended before it was killed"
        assert not (out / "result.json").exists()
    finished(process, out, "--resume", "auto")
    same(out, whole)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]

    refused = process("train", "tiny", f"out={out}", *WORDS)
    out_text, err = refused.communicate(timeout=300)
    assert refused.returncode == 2 and out_text == ""
    assert [line[:5] for line in err.splitlines()] == ["error", "  -> "] and "run-exists" in err


def test_two_processes_cannot_write_one_run(process, tmp_path):
    out = tmp_path / "run"
    first = process("train", "tiny", f"out={out}", "steps=100000")
    try:
        deadline = time.monotonic() + 300
        while not rows(out) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        second = process("train", "tiny", f"out={out}", "steps=100000", "--resume", "auto")
        _, err = second.communicate(timeout=300)
        assert second.returncode == 2 and "run-locked" in err and str(first.pid) in err
    finally:
        first.kill()
        first.communicate()
