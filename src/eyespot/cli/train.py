"""`eyespot train`: a recipe by name or dotted path, `key=value` on top, and a live line of progress.

The loop yields events and knows no terminal; this file turns them into what a person sees.
"""

import importlib
import pkgutil
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from eyespot.cli.console import Json, Pairs, say_json
from eyespot.errors import EyespotError, nearest


def train(
    recipe: Annotated[
        str, typer.Argument(help="demo, scenes, handwriting, finetune, tiny, or package.module:function.")
    ],
    pairs: Pairs = None,
    resume: Annotated[
        str | None, typer.Option(help="auto: from the last checkpoint in out, afresh where there is none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: stages over one model, with checkpoints, a log, an evaluation and a report in `out`.

    `KEY=VALUE` changes a key of the run (`out seed model data image_root save_every log_every eval_every max_dropped`)
    or of its stages (`steps lr batch_tokens max_length trainable`): `align.steps=10` for the stage called align,
    `steps=10` for every stage.

    Example: `eyespot train demo out=runs/demo`

    Example: `eyespot train finetune model=runs/demo/model data=rows.jsonl out=runs/mine steps=100 lr=3e-4`
    """
    if resume not in (None, "auto"):
        raise EyespotError("argument", f"--resume takes auto, got {resume!r}", remedy="Write --resume auto.")
    from eyespot.cli.progress import TrainingProgress
    from eyespot.train import loop, run

    config = run.read_overrides(find_recipe(recipe)(), pairs or ())
    command = shlex.join(["eyespot", "train", recipe, *(pairs or ()), *(("--resume", resume) if resume else ())])
    with TrainingProgress(quiet=as_json) as progress:
        for event in loop.train(config, resume=resume == "auto", command=command):
            progress.show(event)
    if as_json:
        say_json(progress.summary())


def find_recipe(name: str) -> Callable[[], Any]:
    """The function of a recipe: `package.module:function`, a file of `eyespot.recipes`, or an entry point."""
    if ":" in name:
        return _dotted(name)
    import eyespot.recipes

    ours = {m.name for m in pkgutil.iter_modules(eyespot.recipes.__path__) if not m.name.startswith("_")}
    if name in ours:
        return getattr(importlib.import_module(f"eyespot.recipes.{name}"), name)
    others = {entry.name: entry for entry in entry_points(group="eyespot.recipes")}
    if name in others:
        return others[name].load()
    raise EyespotError("recipe-unknown", f"no recipe {name!r}{nearest(name, ours | set(others))}", where=name)


def _dotted(name: str) -> Callable[[], Any]:
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a recipe beside the user, as `python -m` finds it
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise  # the recipe was found; something that it imports was not
        raise EyespotError("recipe-unknown", f"no module {module!r}", where=name) from error
    except AttributeError as error:
        known = nearest(function, (n for n in dir(sys.modules[module]) if not n.startswith("_")))
        raise EyespotError("recipe-unknown", f"{module} has no {function!r}{known}", where=name) from error
