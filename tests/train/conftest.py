"""Lets the tests of this folder import `tiny_run` beside them; runs that do not wait for the disk."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_run import base

from eyespot.train import checkpoint
from eyespot.train.events import Event
from eyespot.train.loop import train
from eyespot.train.run import RunConfig


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """These runs are over in a moment; a power cut is not among the faults that they try."""
    monkeypatch.setattr(checkpoint.os, "fsync", lambda handle: None)


@pytest.fixture
def config(tmp_path) -> RunConfig:
    """`base` in a folder of its own."""
    return base(tmp_path / "run")


@pytest.fixture
def events() -> Callable[..., list[Event]]:
    """Run to the end and give every event."""

    def run(config: RunConfig, **options) -> list[Event]:
        return list(train(config, **options))

    return run
