"""Golden samples: numbers that `transformers` gave once, on weights that follow from their names alone.

Each family has one file, made by `make.py`: the small files of a tiny checkpoint as `transformers` wrote them, names
and shapes of its tensors, and what the original answers to fixed questions. Nothing here needs `transformers`: the
weights are drawn again, the checkpoint is put together and asked through `eyespot.load`.
"""

import json
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import eyespot

HERE = Path(__file__).parent
LONG = 4000  # characters; files from there on stand by themselves, once for all families
DRAWS = ("small", "wide")
BAR = {"small": 1e-5, "wide": 1e-4}  # max |difference| ÷ max |reference|

PICTURES = ((60, 33), (30, 70), (5, 3))
# For the page of differences: lines, one pixel, larger than is allowed, exactly one tile.
EXTREMES = ((1, 1), (400, 21), (3, 300), (301, 227), (42, 42))
TEXT = "What is left of the red star in the picture?"


def fill(name: str, shape: tuple[int, ...], draw: str) -> torch.Tensor:
    """A tensor that follows from its name: N(0, 0.2²), norms around one.

    ``wide`` drives activations far from zero, where a wrong GELU shows; ``small`` keeps them near a norm's eps.
    """
    stream = np.random.RandomState(zlib.crc32(f"{draw} {name}".encode()))  # a stream that is frozen for ever
    values = 0.2 * stream.standard_normal(shape)
    if len(shape) == 1 and name.endswith("weight"):
        values += 1
    looked_up = any(word in name for word in ("embed", "lm_head", "position", "wte"))
    if len(shape) >= 2 and draw == "wide" and not looked_up and "qkv" not in name:
        values *= 2.5
    if draw == "small" and any(word in name for word in ("embed", "o_proj", "out_proj", "down_proj", "fc2", "proj.")):
        values *= 0.05
    return torch.from_numpy(np.asarray(values, np.float32).reshape(shape))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Ramps of three colours that wrap around, so that every filter and every crop shows."""
    y, x = np.mgrid[:height, :width]
    planes = [x * (c + 2) * 190 // width + y * (4 - c) * 130 // height + 50 * c + 90 * seed for c in range(3)]
    return Image.fromarray((np.stack(planes, axis=-1) % 256).astype(np.uint8))


def pictures(sizes: tuple[tuple[int, int], ...] = PICTURES) -> list[Image.Image]:
    return [picture(*size, seed) for seed, size in enumerate(sizes)]


def rows(vocab_size: int, length: int = 16) -> torch.Tensor:
    """Ids of three captions: the last id ends them, and fills them up."""
    ids = (torch.arange(3 * length).view(3, length) * 37 + 11) % (vocab_size - 2) + 1
    for row, stop in enumerate((5, 11, 15)):
        ids[row, stop:] = vocab_size - 1
    return ids


def conversation(kind: str, size: tuple[int, int] | None = None) -> list[dict[str, Any]]:
    """What is asked: text alone, or two pictures of unlike shape with text before, between and after, or one."""
    if kind == "text":
        return [{"role": "user", "content": TEXT}]
    first, second = pictures()[:2]
    parts = ["What?", picture(*size)] if size else ["First", first, "and second", second, "What is it?"]
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return [{"role": "user", "content": content}]


def some(logits: torch.Tensor) -> torch.Tensor:
    """Rows to the end, and columns, that are kept of logits (T, V)."""
    return logits[len(logits) % 8 :: max(len(logits) // 8, 1)][:, ::16]


def ours(folder: Path, kind: str, size: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """What we answer; with a `size` to one picture of that size."""
    model = eyespot.load(folder)
    shown = pictures((size,) if size else PICTURES)
    if kind in ("text", "chat"):
        trace = model.trace(conversation(kind, size), add_generation_prompt=True)
        return {"ids": trace.input_ids, "positions": trace.position_ids, "logits": trace.logits}
    images = model.encode_images(shown)
    if kind == "tower":
        return {"images": images}
    with torch.no_grad():
        texts = model.module.encode_texts(rows(model.module.config.text.vocab_size))
        return {"images": images, "texts": texts, "logits": model.module.similarity(images, texts)}


def names() -> list[str]:
    """Goldens that are whole checkpoints; other samples lie beside them."""
    return sorted(p.stem for p in HERE.glob("*.json") if "differences" in load(p.stem))


def load(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text("utf-8"))


def restore(record: Mapping[str, Any], draw: str, folder: Path) -> None:
    """The checkpoint, as it was when the original was asked."""
    for name, content in record["files"].items():
        stored = isinstance(content, str) and content.startswith("files/")
        content = (HERE / content).read_text("utf-8") if stored else content
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, "utf-8")
    weights = {name: fill(name, tuple(shape), draw) for name, shape in record["tensors"].items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def kept(name: str, text: str, where: Path = HERE) -> Any:
    """A small file as a record holds it: JSON as it is, long ones by reference."""
    if len(text) < LONG:
        return json.loads(text) if name.endswith(".json") else text
    stored = f"files/{sha256(text.encode()).hexdigest()[:12]}-{name}"
    (where / "files").mkdir(exist_ok=True)
    (where / stored).write_text(text, "utf-8")
    return stored


def numbers(tensor: torch.Tensor) -> Any:
    """A tensor as nested lists, floats to seven digits."""
    values = tensor.tolist()

    def short(value: Any) -> Any:
        return [short(v) for v in value] if isinstance(value, list) else float(f"{value:.7g}")

    return short(values) if tensor.is_floating_point() else values


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())
