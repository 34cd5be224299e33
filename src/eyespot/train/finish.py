"""What a run leaves: ``out/model``, ``out/result.json``, ``out/curves.svg``, and the report that a recipe asks for."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from eyespot import families
from eyespot.data.ledger import Ledger
from eyespot.errors import EyespotError
from eyespot.nn.adapters import adapters, merge
from eyespot.runtime.log import log
from eyespot.train.curves import draw
from eyespot.train.folder import RunFolder, write_json, write_text
from eyespot.train.models import CAME_IN
from eyespot.train.names import name_of, resolve
from eyespot.train.run import RunConfig
from eyespot.train.trainable import Trainable


def empty_result() -> dict[str, Any]:
    """Figures of a run that has not begun."""
    return {"steps": {}, "seconds": {}, "frozen": {}, "trainable": {}, "data": {}, "evaluations": []}


def record(
    result: dict[str, Any],
    stage: str,
    steps: int,
    seconds: float,
    frozen: Mapping[str, Any],
    table: Trainable,
    batches: Any,
) -> None:
    """Add what a finished stage has to say."""
    result["steps"][stage], result["seconds"][stage] = steps, seconds
    result["frozen"][stage] = frozen
    result["trainable"][stage] = [row.to_dict() for row in table.rows]
    result["data"][stage] = batches.ledger.to_dict()


def judge(config: RunConfig, run: RunFolder, result: Mapping[str, Any], stage: str) -> None:
    """Stop a run that lost too many rows in a finished stage, whose checkpoint is on the disk by now.

    The verdict needs only what the run's folder says, so that a resumed run, which does not do the stage again, comes
    to the same one: it stops here each time until a larger ``max_dropped`` says that losing the rows was wanted.

    Raises:
        EyespotError: ``data-dropped`` naming the rows.
    """
    sources = run.facts()["stages"][stage]["data"]
    ledger = Ledger({source["name"]: source["rows"] for source in sources})
    ledger.load_state(result["data"][stage])
    try:
        ledger.check(config.max_dropped, final=True)
    except EyespotError as error:
        kept = (
            f"What {stage} has trained is kept in {run.checkpoints}: --resume auto with a larger max_dropped uses it."
        )
        raise EyespotError(error.code, error.message, where=error.where, remedy=f"{error.remedy} {kept}") from None


def write(config: RunConfig, run: RunFolder, loaded: Any, result: dict[str, Any]) -> None:
    """The final model in the number type that it came in, its adapter alone, the figures, the curves, the report."""
    _part_with_adapters(loaded, run)
    loaded.module.eval().to(getattr(torch, loaded.extra[CAME_IN]))
    families.save(loaded, run.path / "model", config.layout, card=card(config, result))
    rows = list(run.rows())
    write_text(run.path / "curves.svg", draw(rows))
    last = {row["stage"]: row["loss"] for row in rows}
    write_json(run.path / "result.json", {**result, "loss": last})
    if config.report is not None:
        resolve(config.report, "report")(run.path)


def _part_with_adapters(loaded: Any, run: RunFolder) -> None:
    """Write the adapter, where the model that it belongs to still lies somewhere, and merge it into the final model."""
    if adapters(loaded.module) and loaded.source:
        try:
            families.save_adapter(loaded, run.path / "adapter")
        except EyespotError as error:
            if error.code != "adapter-format":
                raise
            log.warning("no adapter is written, only the merged model: %s", error.message)
    merge(loaded.module)


def card(config: RunConfig, result: Mapping[str, Any]) -> str:
    """The model's README: what it is, how it came about, what a recipe has to say about it."""
    lines = ["# A model trained with eyespot", "", config.card.strip(), ""] if config.card else []
    lines = lines or ["# A model trained with eyespot", ""]
    lines += ["| stage | steps | seconds | trained | objective |", "|--|--|--|--|--|"]
    for stage in config.stages:
        rows = [row for row in result["trainable"].get(stage.name, ()) if row["lr"] is not None]
        trained = ", ".join(dict.fromkeys(row["part"] for row in rows))
        seconds = result["seconds"].get(stage.name, 0.0)
        steps = result["steps"].get(stage.name, 0)
        lines.append(f"| {stage.name} | {steps:,} | {seconds:.0f} | {trained} | {name_of(stage.objective)} |")
    data = dict.fromkeys(source for ledger in result["data"].values() for source in ledger["sources"])
    lines += ["", f"Data: {', '.join(f'`{name}`' for name in data)}.", "", f"Seed: {config.seed}.", ""]
    lines += ["```python", "import eyespot", "", 'model = eyespot.load("PATH")', "```", ""]
    return "\n".join(lines)


def read(run: RunFolder) -> dict[str, Any]:
    """The figures as they stand in ``result.json``, the report's own included."""
    return json.loads((run.path / "result.json").read_text(encoding="utf-8"))
