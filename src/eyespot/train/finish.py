"""What a run leaves: ``out/model``, ``out/result.json``, ``out/curves.svg``, and the report that a recipe asks for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from eyespot import families
from eyespot.train.checkpoint import whole_folder
from eyespot.train.curves import draw
from eyespot.train.folder import RunFolder, write_json, write_text
from eyespot.train.names import resolve
from eyespot.train.run import RunConfig
from eyespot.train.trainable import Trainable


def empty_result() -> dict[str, Any]:
    """Figures of a run that has not begun."""
    return {"seconds": {}, "frozen": {}, "trainable": {}, "data": {}, "evaluations": []}


def record(
    result: dict[str, Any], stage: str, seconds: float, frozen: Mapping[str, Any], table: Trainable, batches: Any
) -> None:
    """Add what a finished stage has to say."""
    result["seconds"][stage] = seconds
    result["frozen"][stage] = frozen
    result["trainable"][stage] = [row.to_dict() for row in table.rows]
    result["data"][stage] = batches.ledger.to_dict()


def save_model(loaded: Any, path: Path, layout: str | None = None) -> None:
    """The self-contained folder of a model: weights, tokenizer, contract."""
    families.save(loaded, path, layout=layout)


def write(config: RunConfig, run: RunFolder, loaded: Any, stored: str, result: dict[str, Any]) -> None:
    """The final model in the number type that it came in, the figures, the curves, the report."""
    loaded.module.eval().to(getattr(torch, stored))
    with whole_folder(run.path / "model") as work:
        save_model(loaded, work, config.layout)
    rows = list(run.rows())
    write_text(run.path / "curves.svg", draw(rows))
    last = {row["stage"]: row["loss"] for row in rows}
    write_json(run.path / "result.json", {**result, "loss": last})
    if config.report is not None:
        resolve(config.report, "report")(run.path)


def read(run: RunFolder) -> dict[str, Any]:
    """The figures as they stand in ``result.json``, the report's own included."""
    return json.loads((run.path / "result.json").read_text(encoding="utf-8"))
