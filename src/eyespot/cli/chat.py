"""`eyespot chat`: one question, or a dialogue when there is none. Streams; media go before the first question."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from eyespot.cli.console import Device, Dtype, Json, Verify, err, fail, say, say_json
from eyespot.errors import EyespotError

HELP = "Type a question. /image PATH and /video PATH add to it, /new starts afresh, /quit (or end of input) leaves."
ADDED = {"/image": "image", "/video": "video"}


def chat(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    question: Annotated[str | None, typer.Argument(help="Without one: a dialogue.", show_default=False)] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="Path or URL; may be repeated.", show_default=False)
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option("--video", "-v", help="Path or URL; may be repeated.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The answer's limit.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the most likely token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)] = None,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    verify: Verify = False,
    as_json: Json = False,
) -> None:
    """Ask a model about pictures and videos.

    Example: `eyespot chat runs/demo/model "What color is the star?" -i photo.png`
    """
    import eyespot

    loaded = eyespot.load(model, device=device, dtype=dtype, verify=verify)
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    media = [("image", path) for path in image or ()] + [("video", path) for path in video or ()]
    if question is not None:
        _answer(loaded, [_turn(question, media)], options, as_json)
    else:
        _dialogue(loaded, media, options, as_json)


def _turn(text: str, media: list[tuple[str, str]]) -> dict[str, Any]:
    """A user's turn: pictures and videos, then the text."""
    parts = [{"type": kind, kind: path} for kind, path in media]
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


def _dialogue(model: Any, media: list[tuple[str, str]], options: dict[str, Any], as_json: bool) -> None:
    messages: list[dict[str, Any]] = []
    if sys.stdin.isatty():
        err().print(HELP, markup=False)
    for line in _lines():
        command, _, rest = line.partition(" ")
        if command == "/quit":
            return
        if command == "/new":
            messages, media = [], []
        elif command in ADDED:
            media.append((ADDED[command], rest.strip()))
        else:
            turn = _turn(line, media)
            try:
                text = _answer(model, [*messages, turn], options, as_json)
            except EyespotError as error:  # a wrong path ends the turn, not the dialogue
                fail(error, as_json=as_json)
            else:
                messages += [turn, {"role": "assistant", "content": text}]
            media = []


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
