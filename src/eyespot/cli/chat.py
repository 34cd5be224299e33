"""`eyespot chat`: one question, or a dialogue when there is none. Streams; pictures go before the first question."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from eyespot.cli.console import Device, Dtype, Json, Verify, err, fail, say, say_json
from eyespot.errors import EyespotError

HELP = "Type a question. /image PATH adds a picture, /new starts afresh, /quit (or end of input) leaves."


def chat(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    question: Annotated[str | None, typer.Argument(help="Without one: a dialogue.", show_default=False)] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="Path or URL; may be repeated.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The answer's limit.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the most likely token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)] = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Ask a model about pictures.

    Example: `eyespot chat runs/demo/model "What color is the star?" -i photo.png`
    """
    import eyespot

    loaded = eyespot.load(model, device=device, dtype=dtype, verify=verify)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    pictures = list(image or ())
    if question is not None:
        _answer(loaded, [_turn(question, pictures)], options, as_json)
    else:
        _dialogue(loaded, pictures, options, as_json)


def _turn(text: str, pictures: list[str]) -> dict[str, Any]:
    """A user's turn: the pictures, then the text."""
    parts = [{"type": "image", "image": picture} for picture in pictures]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def _answer(model: Any, messages: list[dict[str, Any]], options: dict[str, Any], as_json: bool) -> str:
    """Write one answer, piece by piece or as an object; returns its text."""
    if as_json:
        reply = model.chat(messages, **options)
        say_json(dataclasses.asdict(reply))
        return reply.text
    text = ""
    for piece in model.stream(messages, **options):
        text += piece
        say(piece, end="")
    say()
    return text


def _dialogue(model: Any, pictures: list[str], options: dict[str, Any], as_json: bool) -> None:
    messages: list[dict[str, Any]] = []
    if sys.stdin.isatty():
        err().print(HELP, markup=False)
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command == "/new":
            messages, pictures = [], []
        elif command == "/image":
            pictures.append(rest.strip())
        else:
            turn = _turn(line, pictures)
            try:
                text = _answer(model, [*messages, turn], options, as_json)
            except EyespotError as error:  # a wrong path ends the turn, not the dialogue
                fail(error, as_json=as_json)
            else:
                messages += [turn, {"role": "assistant", "content": text}]
            pictures = []


def _lines() -> Iterator[str]:
    """What the user types, without empty lines; a prompt only where somebody sees it."""
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
