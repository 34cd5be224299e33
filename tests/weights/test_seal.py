"""The seal: a changed byte is found once, an unchanged file is not read twice."""

import json
import os

import pytest

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.weights import seal


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "a checkpoint, ü"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    seal.seal(made, Contract(image=ImageRule()))
    return made


@pytest.fixture
def reads(monkeypatch):
    seen, original = [], seal.sha256
    monkeypatch.setattr(seal, "sha256", lambda path: seen.append(path.name) or original(path))
    return seen


def flip(path, place: int = 100) -> None:
    """Another byte, the same size and time."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_the_record_holds_contract_version_id_and_every_file(folder):
    record = json.loads((folder / seal.SEAL).read_text())
    assert record["version"] == 1
    assert record["contract_id"] == Contract(image=ImageRule()).id
    assert set(record["files"]) == {"config.json", "model.safetensors"}
    assert record["files"]["config.json"]["size"] == 2
    assert seal.stored_contract(folder) == Contract(image=ImageRule())


@pytest.mark.parametrize("place", range(0, 2048, 97))
def test_one_flipped_bit_is_found_at_the_first_check(folder, place):
    flip(folder / "model.safetensors", place)
    with pytest.raises(EyespotError, match=r"model\.safetensors") as caught:
        seal.check(folder)
    assert caught.value.code == "checkpoint-seal"


def test_the_second_check_reads_nothing(folder, reads):
    assert seal.check(folder)
    assert sorted(reads) == ["config.json", "model.safetensors"]
    reads.clear()
    assert seal.check(folder)
    assert reads == []


def test_a_check_changes_nothing_in_the_folder(folder):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    seal.check(folder)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def test_a_new_time_or_size_is_read_again(folder, reads):
    seal.check(folder)
    reads.clear()
    os.utime(folder / "config.json", ns=(1, 1))
    assert seal.check(folder)
    assert reads == ["config.json"]
    (folder / "config.json").write_text("{ }")
    with pytest.raises(EyespotError, match=r"config\.json"):
        seal.check(folder)


def test_verify_reads_everything_whatever_is_remembered(folder):
    seal.check(folder)
    flip(folder / "model.safetensors")
    assert seal.check(folder)  # size and time are as they were
    with pytest.raises(EyespotError, match=r"model\.safetensors"):
        seal.check(folder, verify=True)


def test_an_absent_file_is_named(folder):
    (folder / "config.json").unlink()
    with pytest.raises(EyespotError, match=r"config\.json \(absent\)"):
        seal.check(folder)


def test_a_record_cannot_point_outside(folder):
    record = json.loads((folder / seal.SEAL).read_text())
    record["files"]["../../etc/passwd"] = {"sha256": "0", "size": 0}
    (folder / seal.SEAL).write_text(json.dumps(record))
    with pytest.raises(EyespotError, match="absent"):
        seal.check(folder)


def test_sealing_anew_takes_a_wanted_edit_and_keeps_the_contract(folder):
    (folder / "config.json").write_text('{"wanted": true}')
    seal.seal(folder)
    assert seal.check(folder)
    assert seal.stored_contract(folder) == Contract(image=ImageRule())


def test_what_came_after_the_save_is_sealed_but_not_saved(folder):
    (folder / "LICENSE").write_text("")
    seal.seal(folder)
    assert seal.saved_files(folder) == {"config.json", "model.safetensors"}
    assert "LICENSE" in json.loads((folder / seal.SEAL).read_text())["files"]


def test_a_folder_that_was_only_ever_sealed_holds_nothing_saved(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    seal.seal(tmp_path)
    assert seal.saved_files(tmp_path) == set()


def test_a_folder_without_a_record_is_not_checked(tmp_path):
    assert seal.check(tmp_path) is False
    assert seal.stored_contract(tmp_path) is None


def test_without_a_cache_every_check_reads(folder, reads, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert seal.check(folder)
    assert seal.check(folder)
    assert len(reads) == 4


def test_a_contract_that_was_edited_by_hand_is_refused(folder):
    record = json.loads((folder / seal.SEAL).read_text())
    record["contract"]["image"]["crop"] = False
    (folder / seal.SEAL).write_text(json.dumps(record))
    with pytest.raises(EyespotError) as caught:
        seal.stored_contract(folder)
    assert caught.value.code == "contract-mismatch"


def test_fields_that_came_later_leave_the_id_of_older_contracts_as_it_was():
    rule = ImageRule()
    assert Contract(image=rule).id == "63ebdb3f1ba08d4d96da2e405a8d05e07b73eb7748f3789a97d7901275588a1a"
    assert Contract(image=rule.replace(merge_size=2)).id != Contract(image=rule).id
