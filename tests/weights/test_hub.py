"""Paths and hub ids."""

import pytest

from eyespot.errors import EyespotError
from eyespot.weights import hub


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    seen = []

    def download(repo, allow_patterns):
        seen.append((repo, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    return seen


def test_a_folder_is_itself(tmp_path, downloads):
    folder = tmp_path / "owner" / "with space, é"
    folder.mkdir(parents=True)
    assert hub.resolve(str(folder)) == folder
    assert downloads == []


@pytest.mark.parametrize("path", ["/no/such/folder", "./no", "a/b/c", "~/no-such", "x" * 300, "a b"])
def test_a_path_that_is_no_folder_is_never_asked_of_the_hub(path, downloads):
    with pytest.raises(EyespotError) as caught:
        hub.resolve(path)
    assert caught.value.code == "checkpoint-missing"
    assert downloads == []


def test_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EyespotError, match="a file"):
        hub.resolve(tmp_path / "model.safetensors")


def test_an_id_is_downloaded_without_code_or_pickle(downloads, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert hub.resolve("owner/name") == tmp_path
    ((repo, patterns),) = downloads
    assert repo == "owner/name"
    assert not any(p.endswith((".py", ".bin", ".pt", ".pth")) or p == "*" for p in patterns)


def test_old_weights_are_asked_for_only_where_there_are_no_others(downloads):
    hub.resolve("owner/name")
    assert len(downloads) == 2
    assert "pytorch_model*.bin" in downloads[1][1]


@pytest.mark.parametrize("config", [True, False])
def test_a_lone_file_of_weights_is_asked_for_only_where_no_config_is(downloads, tmp_path, config):
    if config:
        (tmp_path / "config.json").write_text("{}")
    hub.resolve("owner/name")
    assert ("*.pth" in downloads[1][1]) is not config


def test_what_the_hub_does_not_give_is_said(monkeypatch):
    def fail(repo, allow_patterns):
        raise OSError("offline")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(EyespotError, match="offline") as caught:
        hub.resolve("owner/name")
    assert caught.value.code == "hub-unavailable"
