"""Checkpoints are whole or absent, whatever happens while they are written."""

import json
import os
import random
import stat

import pytest
import torch

from eyespot.errors import EyespotError
from eyespot.train import checkpoint

STATE = {"step": 3, "moments": torch.arange(4.0)}


def write_model(folder):
    folder.mkdir()
    (folder / "weights").write_bytes(b"w" * 1000)


def saved(folder, name="00-a-00000003", state=STATE):
    return checkpoint.save(folder / name, write_model, state)


def test_a_checkpoint_holds_model_state_and_manifest(tmp_path):
    path = saved(tmp_path)
    assert checkpoint.problem(path) == ""
    assert torch.equal(checkpoint.read_state(path)["moments"], STATE["moments"])
    assert set(json.loads((path / "complete.json").read_text())["files"]) == {
        "model/weights",
        "training.pt",
        "run.json",
    }


def test_a_failure_while_writing_leaves_nothing_and_the_old_one_intact(tmp_path):
    path = saved(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def fails(folder):
        write_model(folder)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "00-a-00000006", fails, STATE)
    assert sorted(tmp_path.rglob("*")) == before
    assert checkpoint.newest(tmp_path) == path


@pytest.mark.parametrize("moment", ["model/weights", "training.pt", "complete.json"])
def test_a_process_killed_at_any_moment_leaves_the_older_checkpoint(tmp_path, moment):
    """A kill runs no clean-up: what lies there is a folder under its temporary name, cut after some file."""
    old, new = saved(tmp_path), saved(tmp_path, "00-a-00000006")
    torn = new.rename(tmp_path / ".tmp-00-a-00000006-123")
    order = ["model/weights", "training.pt", "complete.json"]
    for name in order[order.index(moment) :]:
        (torn / name).unlink()
    assert checkpoint.newest(tmp_path) == old
    checkpoint.clean(tmp_path)
    assert not torn.exists()


@pytest.mark.parametrize("name", ["model/weights", "training.pt", "complete.json"])
def test_a_missing_file_sends_us_to_the_older_one_aloud(tmp_path, name, caplog):
    old, new = saved(tmp_path), saved(tmp_path, "00-a-00000006")
    (new / name).unlink()
    assert checkpoint.newest(tmp_path) == old
    assert new.name in caplog.text


@pytest.mark.parametrize("name", ["model/weights", "training.pt"])
@pytest.mark.parametrize("place", [0, 17, -1])
def test_one_flipped_bit_is_found(tmp_path, name, place):
    path = saved(tmp_path)
    content = bytearray((path / name).read_bytes())
    content[place] ^= 1
    (path / name).write_bytes(content)
    assert checkpoint.problem(path) == f"{name} was changed"


def test_a_file_cut_short_is_found(tmp_path):
    path = saved(tmp_path)
    os.truncate(path / "training.pt", 100)
    assert "cut" in checkpoint.problem(path)


def test_saving_again_replaces_what_was_there(tmp_path):
    saved(tmp_path)
    path = saved(tmp_path, state={"step": 4})
    assert checkpoint.read_state(path) == {"step": 4}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Gadget:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/ran",))

    torch.save({"step": Gadget()}, tmp_path / "training.pt")
    with pytest.raises(EyespotError) as caught:
        checkpoint.read_state(tmp_path)
    assert caught.value.code == "checkpoint-corrupt"
    assert not (tmp_path / "ran").exists()


def test_the_newest_are_kept_and_so_are_all_at_a_stage_end(tmp_path):
    names = ["00-a-00000001", "00-a-00000002", "00-a-00000003-end", "01-b-00000001", "01-b-00000002", "01-b-00000003"]
    for name in names:
        saved(tmp_path, name)
    checkpoint.prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [names[2], *names[4:]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete anything")
def test_a_checkpoint_that_cannot_be_deleted_stops_nothing(tmp_path, caplog):
    paths = [saved(tmp_path, f"00-a-0000000{i}") for i in range(3)]
    paths[0].chmod(stat.S_IRUSR | stat.S_IXUSR)
    checkpoint.prune(tmp_path, 1)
    paths[0].chmod(stat.S_IRWXU)
    assert "cannot remove" in caplog.text
    assert checkpoint.newest(tmp_path) == paths[2]


def test_a_failing_delete_is_said_and_survived(tmp_path, caplog, monkeypatch):
    paths = [saved(tmp_path, f"00-a-0000000{i}") for i in range(3)]

    def fails(path):
        raise OSError("busy")

    monkeypatch.setattr(checkpoint.shutil, "rmtree", fails)
    checkpoint.prune(tmp_path, 1)
    assert "busy" in caplog.text
    assert checkpoint.newest(tmp_path) == paths[2]


def test_what_is_drawn_inside_leaves_no_trace():
    with checkpoint.undisturbed():
        first = torch.rand(3), random.random()
    assert torch.equal(torch.rand(3), first[0])
    assert random.random() == first[1]


def test_saving_draws_nothing(tmp_path):
    random.seed(5)
    expected = random.random()
    random.seed(5)
    saved(tmp_path)
    assert random.random() == expected


def test_random_states_survive_the_disk(tmp_path):
    torch.rand(5)
    random.random()
    path = saved(tmp_path, state={"rng": checkpoint.rng_state()})
    expected = torch.rand(3), random.random()
    checkpoint.set_rng_state(checkpoint.read_state(path)["rng"])
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]
