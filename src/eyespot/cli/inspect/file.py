"""`eyespot inspect file`: what a single file is — a picture, a video, a weights file, a data file, a JSON file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from eyespot.cli.console import Json, say_json, table
from eyespot.errors import EyespotError

ROWS = (".jsonl",)
WEIGHTS = (".safetensors",)


def file(
    target: Annotated[str, typer.Argument(help="A file, or the URL of a picture or video.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say what a file is: a picture or video, the tensors of a weights file, the format of a data file.

    Example: `eyespot inspect file photo.jpg`
    """
    suffix = Path(target).suffix.lower()
    if suffix in WEIGHTS:
        facts, rows = _weights(Path(target))
    elif suffix in ROWS or suffix == ".json":
        facts, rows = _json(Path(target)), []
    else:
        facts, rows = _medium(target), []
    if as_json:
        say_json(facts | ({"tensors": rows} if rows else {}))
        return
    table(("file", target), [(key, str(value)) for key, value in facts.items()])
    if rows:
        table(("tensor", "shape", "dtype"), [(r["name"], "×".join(map(str, r["shape"])), r["dtype"]) for r in rows])


def _medium(target: str) -> dict[str, Any]:
    """A video where the first bytes are those of one (a GIF is a picture), else a picture."""
    from eyespot.inputs.containers import looks_like_video
    from eyespot.inputs.decode import decode_image
    from eyespot.inputs.fetch import fetch_file
    from eyespot.inputs.naming import shown
    from eyespot.runtime.limits import LIMITS

    with fetch_file(target) as file:
        if looks_like_video(file):
            return _video(file, shown(target))
        content = file.read(LIMITS.max_image_bytes + 1)
    media = decode_image(content, name=shown(target))
    return {
        "kind": media.kind,
        "width": media.size[0],
        "height": media.size[1],
        "mean colour": tuple(round(float(c)) for c in media.data.reshape(-1, media.data.shape[-1]).mean(0)),
        "sha256": media.sha256,
    }


def _video(file: Any, name: str) -> dict[str, Any]:
    """What a film holds, and how many frames a model takes of it that wants two a second."""
    from eyespot.contracts.contract import FrameRule
    from eyespot.inputs.film import Film
    from eyespot.inputs.frames import count_frames

    with Film(file, name=name) as film:
        return {
            "kind": "video",
            "width": film.size[0],
            "height": film.size[1],
            "frames": film.count,
            "frames a second": round(film.rate, 3),
            "seconds": round(film.seconds, 3),
            "container": film.format,
            "codec": film.codec,
            "frames taken at 2 a second": count_frames(film.count, film.rate, FrameRule()),
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
