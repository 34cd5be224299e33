"""`eyespot eval`: a task's questions, a model's answers, a table with sample sizes and intervals."""

from typing import Annotated

import typer

from eyespot.cli.console import Json, Pairs


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    task: Annotated[str, typer.Argument(help="scenes, handwriting or vqa.", show_default=False)],
    pairs: Pairs = None,
    as_json: Json = False,
) -> None:
    """Ask a model a task's questions and say how many it answers.

    Example: `eyespot eval runs/demo/model scenes`
    """
    raise NotImplementedError  # replaced when eyespot.eval lands
