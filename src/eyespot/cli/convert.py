"""`eyespot build`, `convert`, `export`, `merge`, `seal`: checkpoints from parts, in another form, sealed."""

import re
from pathlib import Path
from typing import Annotated

import typer

from eyespot.cli.console import Json, say, say_json
from eyespot.errors import EyespotError


def build(
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    vision: Annotated[str, typer.Option(help="A CLIP or SigLIP checkpoint: folder or hub id.", show_default=False)],
    decoder: Annotated[str, typer.Option(help="A Llama, Mistral, Qwen2 or Qwen3 checkpoint.", show_default=False)],
    connector: Annotated[str, typer.Option(help="linear or mlp2x_gelu; starts from random.")] = "mlp2x_gelu",
    select_layer: Annotated[int, typer.Option(help="The encoder's layer that the connector reads.")] = -2,
    tiles: Annotated[str | None, typer.Option(help="Rows x columns, such as 1x2,2x1,2x2.", show_default=False)] = None,
    layout: Annotated[str | None, typer.Option(help="hf, original or eyespot.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Join a published vision encoder and a published decoder into a model that can be trained.

    Example: `eyespot build out/clip-qwen --vision openai/clip-vit-base-patch32 --decoder Qwen/Qwen2-0.5B-Instruct`
    """
    import eyespot

    parts = {"vision": vision, "decoder": decoder, "connector": connector, "select_layer": select_layer}
    model = eyespot.compose(**parts, tiles=_tiles(tiles))
    eyespot.save(model, out, layout=layout)
    _report(as_json, out=out, message=f"built {out}; the connector is untrained: run the stages align and finetune")


def export(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help="hf, original or eyespot; none keeps the one it has.")] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint in another layout: `convert` without its other choices.

    Example: `eyespot export runs/mine/model out/mine --layout hf`
    """
    convert(model, out, layout=layout, as_json=as_json)


def convert(
    model: Annotated[str, typer.Argument(help="A checkpoint: folder or hub id.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help="hf, original or eyespot; none keeps the one it has.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; none keeps what is stored.")] = None,
    shard_size: Annotated[str, typer.Option(help="Largest weights file, such as 500MB; then an index.")] = "5GB",
    as_json: Json = False,
) -> None:
    """Write a checkpoint in another layout, number type or file size, tensor by tensor: it may be larger than memory.

    Example: `eyespot convert Qwen/Qwen2-0.5B-Instruct out/small --dtype float16 --shard-size 500MB`
    """
    from eyespot import families

    families.convert(model, out, layout=layout, dtype=dtype, max_shard_bytes=_bytes(shard_size))
    _report(as_json, out=out, message=f"wrote {out}")


def merge(
    model: Annotated[str, typer.Argument(help="The model that the adapter is for.", show_default=False)],
    adapter: Annotated[str, typer.Argument(help="A LoRA in PEFT's format: folder or hub id.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help="hf, original or eyespot; none keeps the model's own.")] = None,
    as_json: Json = False,
) -> None:
    """Make a LoRA adapter part of a model's weights, in the number type that these have.

    Example: `eyespot merge Qwen/Qwen2-0.5B-Instruct runs/mine/adapter out/merged`
    """
    import eyespot

    eyespot.save(eyespot.load(model, adapter=adapter).merge(), out, layout=layout)
    _report(as_json, out=out, message=f"wrote {out}")


def seal(
    path: Annotated[Path, typer.Argument(help="A checkpoint folder.", show_default=False)], as_json: Json = False
) -> None:
    """Record the checksums of a checkpoint anew, after an edit that was wanted.

    Example: `eyespot seal runs/mine/model`
    """
    from eyespot.weights import seal as seals

    seals.seal(path)
    _report(as_json, out=path, message=f"sealed {path}")


def _tiles(text: str | None) -> list[tuple[int, int]] | None:
    """``1x2,2x1`` as rows and columns."""
    if text is None:
        return None
    pairs = [re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", pair) for pair in text.split(",")]
    if not all(pairs):
        raise EyespotError("argument", f"expected rows x columns, such as 1x2,2x1, got {text!r}", where="--tiles")
    return [(int(pair[1]), int(pair[2])) for pair in pairs if pair]


def _bytes(text: str) -> int:
    """``500MB`` as a number of bytes; in powers of ten, as disks and the hub count."""
    match = re.fullmatch(r"([1-9]\d*)\s*(|K|M|G|T)B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise EyespotError("argument", f"expected a size such as 500MB or 5GB, got {text!r}", where="--shard-size")
    return int(match[1]) * 10 ** (3 * " KMGT".index(match[2].upper() or " "))


def _report(as_json: bool, *, out: Path, message: str) -> None:
    if as_json:
        say_json({"out": str(out)})
    else:
        say(message)
