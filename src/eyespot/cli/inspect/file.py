"""`eyespot inspect file`: what a single file is — a picture, a weights file, a data file, a JSON file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from eyespot.cli.console import Json, say_json, table
from eyespot.errors import EyespotError

ROWS = (".jsonl",)
WEIGHTS = (".safetensors",)


def file(
    target: Annotated[str, typer.Argument(help="A file, or the URL of a picture.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say what a file is: a picture as the model gets it, the tensors of a weights file, the format of a data file.

    Example: `eyespot inspect file photo.jpg`
    """
    suffix = Path(target).suffix.lower()
    if suffix in WEIGHTS:
        facts, rows = _weights(Path(target))
    elif suffix in ROWS or suffix == ".json":
        facts, rows = _json(Path(target)), []
    else:
        facts, rows = _picture(target), []
    if as_json:
        say_json(facts | ({"tensors": rows} if rows else {}))
        return
    table(("file", target), [(key, str(value)) for key, value in facts.items()])
    if rows:
        table(("tensor", "shape", "dtype"), [(r["name"], "×".join(map(str, r["shape"])), r["dtype"]) for r in rows])


def _picture(target: str) -> dict[str, Any]:
    from eyespot.inputs.decode import decode_image

    media = decode_image(target)
    return {
        "kind": media.kind,
        "width": media.size[0],
        "height": media.size[1],
        "mean colour": tuple(round(float(c)) for c in media.data.reshape(-1, media.data.shape[-1]).mean(0)),
        "sha256": media.sha256,
    }


def _weights(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header of a safetensors file; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise EyespotError("checkpoint-missing", "no such file", where=str(path))
    try:
        with safe_open(path, framework="numpy") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)
            rows = [{"name": n, "shape": s.get_shape(), "dtype": s.get_dtype()} for n, s in slices.items()]
            metadata = tensors.metadata() or {}
    except SafetensorError as error:
        raise EyespotError("checkpoint-corrupt", f"not a safetensors file: {error}", where=str(path)) from error
    return {"kind": "weights", "tensors": len(rows), "bytes": path.stat().st_size, **metadata}, rows


def _json(path: Path) -> dict[str, Any]:
    from eyespot.data import sources

    if not path.is_file():
        raise EyespotError("media-missing", "no such file", where=str(path), remedy="Check the path.")
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise EyespotError("row-malformed", f"not JSON: {error}", where=str(path)) from error
        if isinstance(content, dict) and "messages" not in content and "conversations" not in content:
            known = {k: content[k] for k in ("model_type", "contract_id", "architectures") if k in content}
            return {"kind": "JSON object", "keys": ", ".join(map(str, content)), **known}
    source = sources.open_source(str(path))
    return {"kind": "data", "format": source.format, "rows": source.length}
