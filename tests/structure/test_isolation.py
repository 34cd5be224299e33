"""Tests leave the machine that they run on as they found it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eyespot.weights import seal

CHECK = "import sys; from eyespot.weights import seal; assert seal.check(sys.argv[1])"
SRC = Path(__file__).parents[2] / "src"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's home, to see what is written there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    seal.seal(folder)
    return folder


def test_what_is_checked_is_remembered_below_the_tests_own_folder(home, checkpoint, tmp_path_factory):
    seal.check(checkpoint)
    assert not home.exists()
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tmp_path_factory.getbasetemp())


def test_processes_that_a_test_starts_leave_the_home_alone_too(home, checkpoint):
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    subprocess.run([sys.executable, "-c", CHECK, str(checkpoint)], env=environment, check=True)
    assert not home.exists()
