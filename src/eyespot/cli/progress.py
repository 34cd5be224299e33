"""What a person sees of a training run: a live line on a terminal, a line every ten seconds anywhere else.

Reads the events of the loop and decides nothing. Writes to stderr; what a run measures is in its `log.jsonl`.
"""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from eyespot.cli.console import err
from eyespot.train.events import Evaluated, Event, RunDone, Saved, StageDone, StageStarted, StepDone

EVERY_S = 10.0


class TrainingProgress:
    """Shows the events of one run; use as a context, so that the terminal is restored whatever happens.

    Args:
        quiet: show nothing (under `--json`).
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console: Console = err()
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,}/{task.total:,} {task.fields[shown]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.spoken = 0.0
        self.done: RunDone | None = None

    def __enter__(self) -> "TrainingProgress":
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def show(self, event: Event) -> None:
        """One event of the loop."""
        if isinstance(event, RunDone):
            self.done = event
        if self.quiet:
            return
        match event:
            case StageStarted():
                self._started(event)
            case StepDone():
                self._step(event)
            case Saved():
                self._say(f"{event.stage}: saved {event.path}")
            case Evaluated():
                self._say(f"{event.stage}: evaluated after step {event.step}: {_short(event.result)}")
            case StageDone():
                self._clear()
                rows = f" · rows: {event.rows}" if event.rows else ""
                self._say(f"{event.stage}: {event.steps:,} steps in {_duration(event.seconds)}{rows}")
            case RunDone():
                self._finished(event)

    def summary(self) -> dict[str, Any]:
        """What `--json` prints when the run is over."""
        if self.done is None:
            return {}
        out = Path(self.done.out)
        return {"out": str(out), "model": str(out / "model"), "result": self.done.result}

    def _started(self, event: StageStarted) -> None:
        self._clear()
        self.task = self.bars.add_task(event.stage, total=event.steps, completed=event.step, shown="")
        self._say(f"\nstage {event.stage}: {event.steps:,} steps" + (f", from {event.step:,}" if event.step else ""))
        self._say(event.trainable.to_text())
        for source in event.data:
            self._say(f"data {source}")

    def _clear(self) -> None:
        """The live line goes; what was said stays."""
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.bars.refresh()  # or the line would be drawn again under whatever is said next
            self.task = None

    def _step(self, event: StepDone) -> None:
        shown = describe(event)
        if self.task is not None:
            self.bars.update(self.task, completed=event.step, total=max(event.steps, event.step), shown=shown)
        now = time.monotonic()
        last = event.step == event.steps
        if not self.console.is_terminal and (last or now - self.spoken >= EVERY_S):
            self.spoken = now
            self._say(f"{event.stage} {event.step:,}/{event.steps:,} {shown}")

    def _finished(self, event: RunDone) -> None:
        out = Path(event.out)
        self.bars.stop()
        for answer in event.result.get("answers", ()):
            self._say(f"  {answer}")
        self._say(f"\nmodel: {out / 'model'}")
        for name in ("result.json", "report.html"):
            if (out / name).exists():
                self._say(f"{name.partition('.')[0]}: {out / name}")

    def _say(self, text: str) -> None:
        self.bars.console.print(text, markup=False, emoji=False)


def describe(event: StepDone) -> str:
    """Loss, speed, the share of time spent waiting for data, and what is left of the stage."""
    parts = [f"loss {event.loss:.4f}"]
    if "tokens_per_s" in event.row:
        parts.append(f"{event.row['tokens_per_s']:,.0f} tokens/s")
    if event.row.get("seconds"):
        parts.append(f"data wait {event.row.get('data_wait', 0.0) / event.row['seconds']:.0%}")
    return " · ".join([*parts, f"{_duration(event.seconds_left)} left"])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(result: Any, limit: int = 200) -> str:
    """The overall figure where the evaluator gives one, else the beginning of whatever it gave."""
    overall = result.get("overall") if isinstance(result, dict) else None
    text = str(overall if overall is not None else result)
    return text if len(text) <= limit else text[: limit - 1] + "…"
