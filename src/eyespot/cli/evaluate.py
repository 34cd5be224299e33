"""`eyespot eval`: a task's questions, a model's answers, a table with sample sizes and intervals.

Questions come from the world of the task's name (a split that training never draws), or from `data=FILE`.
"""

from itertools import islice
from typing import Annotated, Any

import typer

from eyespot.cli.console import Device, Dtype, Json, Pairs, err, integer, read_pairs, say_json, table
from eyespot.errors import EyespotError

KEYS = {"data", "image_root", "split", "n", "seed", "max_new_tokens", "blank"}
FROM_A_WORLD = 600


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    task: Annotated[str, typer.Argument(help="scenes, handwriting or vqa.", show_default=False)],
    pairs: Pairs = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Ask a model a task's questions and say how many it answers, beside a blank picture and the best constant answer.

    Keys: `data` (a file, for vqa), `image_root`, `split` (of a world), `n` (questions), `seed`, `max_new_tokens`,
    `blank=false` (leave the blank picture out).

    Example: `eyespot eval runs/demo/model scenes n=1200`

    Example: `eyespot eval runs/mine/model vqa data=rows.jsonl`
    """
    import eyespot
    from eyespot import tasks
    from eyespot.eval import run

    options = read_pairs(pairs, KEYS)
    codec = tasks.open_task(task)
    examples = _questions(task, options)
    if not as_json:
        err().print(f"{len(examples):,} questions", markup=False)
    evaluation = run.evaluate(
        eyespot.load(model, device=device, dtype=dtype),
        codec,
        examples,
        blank=_switch(options, "blank"),
        max_new_tokens=integer(options, "max_new_tokens") or 32,
    )
    figures = evaluation.figures()
    if as_json:
        say_json({"task": task, "model": model, "figures": figures})
        return
    rows = [(name, *_row(figure)) for name, figure in figures.items()]
    table(("type", "accuracy", "95 % interval", "n", "blank", "chance"), rows)


def _questions(task: str, options: dict[str, str]) -> list[Any]:
    from eyespot.data.sources import open_source
    from eyespot.eval.questions import questions

    if "data" not in options and task == "vqa":
        raise EyespotError("argument", "vqa asks about your own rows", where="data", remedy="Add data=FILE.")
    spec = options.get("data", f"world:{task}:{options.get('split', 'heldout')}")
    source = open_source(spec, image_root=options.get("image_root"), seed=integer(options, "seed") or 0)
    count = integer(options, "n") or (FROM_A_WORLD if source.length is None else None)
    return list(islice(questions(source.examples(), source.root), count))


def _switch(options: dict[str, str], key: str) -> bool:
    value = options.get(key, "true").lower()
    if value not in ("true", "false"):
        raise EyespotError("config-value", f"expected true or false, got {value!r}", where=key)
    return value == "true"


def _row(figure: dict[str, Any]) -> tuple[str, str, int, str, str]:
    """The cells of one line."""
    low, high = figure["interval"]
    blank = f"{figure['blank']:.3f}" if "blank" in figure else ""
    return f"{figure['accuracy']:.3f}", f"{low:.3f} – {high:.3f}", figure["n"], blank, f"{figure['chance']:.3f}"
