"""What `train` yields. The log, the progress line, evaluation and tests all read these; there are no callbacks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eyespot.train.trainable import Trainable


@dataclass(frozen=True, slots=True, eq=False)
class StageStarted:
    """A stage begins, or goes on after `step` steps. `loaded` is the live model: look, do not touch.

    `data` says for each source what it was read as, and how many rows it has.
    """

    stage: str
    step: int
    steps: int
    trainable: Trainable
    loaded: Any
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimiser step. `row` is what the log holds.

    Attributes:
        stage: its name.
        step: in the stage, from 1.
        steps: of the stage.
        loss: weighted mean over the step.
        row: stage, step, loss, lr, tokens, supervised, samples, grad_norm, seconds, tokens_per_s, data_wait.
        seconds_left: of this stage, at the pace so far.
    """

    stage: str
    step: int
    steps: int
    loss: float
    row: Mapping[str, Any]
    seconds_left: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved:
    """A complete checkpoint lies at `path`."""

    stage: str
    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the evaluator gave after `step` steps (0: before the first)."""

    stage: str
    step: int
    result: Any


@dataclass(frozen=True, slots=True, eq=False)
class StageDone:
    """A stage is over.

    Attributes:
        stage: its name.
        steps: that it took.
        seconds: of training, without evaluation and saving.
        frozen: sha256 of every part before and after, by part.
        loaded: the live model.
        rows: what became of the data's rows, in a line.
    """

    stage: str
    steps: int
    seconds: float
    frozen: Mapping[str, Mapping[str, str]]
    loaded: Any
    rows: str = ""


@dataclass(frozen=True, slots=True)
class RunDone:
    """Everything is written: the model in ``out/model``, the figures in ``out/result.json``."""

    out: Path
    result: Mapping[str, Any] = field(default_factory=dict)


Event = StageStarted | StepDone | Saved | Evaluated | StageDone | RunDone
