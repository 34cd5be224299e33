"""Weights in and out: one safetensors file or shards with an index, read lazily, written to a temporary name first.

Each tensor is mapped by itself and let go by itself: pages of a mapped file count as memory for as long as any of its
tensors lives, so a model loaded over one mapping would be there twice.

The one reader of weight files. Pickle is never run: `pytorch_model.bin` and `mm_projector.bin`, which only old
checkpoints need, go through `torch.load(weights_only=True)`. Names that an index gives are not trusted.
"""

import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.runtime import small_files
from eyespot.weights import streaming
from eyespot.weights.deferred import metas

STEM = "model"
SHARD_BYTES = 5 * 10**9
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# In this order; the first that is there is read. An index speaks for its shards.
_CANDIDATES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "mm_projector.safetensors", "mm_projector.bin", "open_clip_model.safetensors",
    "open_clip_model.safetensors.index.json", "open_clip_pytorch_model.bin",
)  # fmt: skip


class Tensors(Mapping[str, Tensor]):
    """All tensors of a checkpoint by name; each is read when it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._get: dict[str, Callable[[], Tensor]] = {}
        self._shape: dict[str, Callable[[], Tensor]] = {}
        for file in self.files:
            for name, get, shape in _open(file):
                if name in self._get:
                    raise EyespotError("checkpoint-corrupt", f"tensor {name} stands in two files", where=str(file))
                self._get[name], self._shape[name] = get, shape

    def __getitem__(self, name: str) -> Tensor:
        return self._get[name]()

    def meta(self, name: str) -> Tensor:
        """Shape and dtype of a tensor, on the meta device; nothing is read."""
        return torch.empty_like(self._shape[name](), device="meta")

    def __iter__(self) -> Iterator[str]:
        return iter(self._get)

    def __len__(self) -> int:
        return len(self._get)


def read_tensors(folder: Path) -> Tensors:
    """The tensors of a checkpoint's folder.

    Raises:
        EyespotError: ``checkpoint-missing`` without weights; ``checkpoint-path`` where an index names a file that is
            absent or outside the folder; ``checkpoint-corrupt`` naming a damaged file.
    """
    folder = Path(folder)
    found = _found(folder)
    if found is None:
        loose = sorted(p.name for p in folder.glob("*.safetensors"))
        hint = f"; {', '.join(loose[:4])} without {STEM}.safetensors.index.json" if loose else ""
        raise EyespotError("checkpoint-missing", f"no weights here{hint}", where=str(folder))
    return _indexed(folder, found) if found.name.endswith(".index.json") else Tensors([found])


def has_weights(folder: Path) -> bool:
    """Whether `read_tensors` would find something to read."""
    return _found(Path(folder)) is not None


def is_weights(name: str) -> bool:
    """Whether a file of this name is one that `read_tensors` reads, or a shard of one."""
    return (
        name in _CANDIDATES
        or re.fullmatch(r"(model|pytorch_model|open_clip_model)-\d+-of-\d+\.(safetensors|bin)", name) is not None
    )


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = SHARD_BYTES, stem: str = STEM
) -> list[Path]:
    """Write tensors to `folder`: one file `stem`, or shards of at most `max_shard_bytes` with an index.

    One tensor is asked for after another. Every file gets its name only when it is complete. Files of another number of
    shards are removed at the end.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = metas(tensors)
    shards = _shards(shapes, max_shard_bytes)
    names = [f"{stem}.safetensors"]
    if len(shards) > 1:
        names = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    writers = [partial(streaming.write, names=keys, tensors=tensors, shapes=shapes) for keys in shards]
    written = [replace_with(folder / name, write) for name, write in zip(names, writers, strict=True)]
    if len(shards) > 1:
        size = sum(map(streaming.size, shapes.values()))
        where = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
        written.append(write_json(folder / f"{stem}.safetensors.index.json", index))
    for path in folder.iterdir():
        if is_weights(path.name) and path not in written:
            path.unlink()
    return written


def load_into(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    where: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    unexpected: Sequence[str] = (),
    their_name: Callable[[str], str] = str,
) -> None:
    """Give a module (built on the meta device) its weights, strictly; no second copy of the model is made.

    Args:
        module: whose tensors are replaced.
        tensors: under the module's own names.
        where: the checkpoint, for errors.
        dtype: None keeps what is stored.
        device: where the weights go; ``meta``: nowhere, only shapes and dtypes are set.
        unexpected: names of the file that nothing has a place for.
        their_name: our name as the file calls it, for the table.

    Raises:
        EyespotError: ``checkpoint-keys`` with a table of every missing, unexpected and misshapen tensor;
            ``checkpoint-dtype`` for weights that are not floating point.
    """
    wanted, found = module.state_dict(), metas(tensors)
    rows = [f"missing     {their_name(n)} {_shape(t)}" for n, t in wanted.items() if n not in tensors]
    rows += [f"unexpected  {n}" for n in (*unexpected, *(n for n in tensors if n not in wanted))]
    rows += [
        f"misshapen   {their_name(n)} is {_shape(t)}, the config asks for {_shape(wanted[n])}"
        for n, t in found.items()
        if n in wanted and t.shape != wanted[n].shape
    ]
    if rows:
        shown = rows[:40] + ([f"… and {len(rows) - 40} more"] if len(rows) > 40 else [])
        message = f"{len(rows)} tensor(s) do not fit the config:\n    " + "\n    ".join(shown)
        raise EyespotError("checkpoint-keys", message, where=where)
    wrong = [f"{their_name(n)} ({t.dtype})" for n, t in found.items() if t.dtype not in _FLOATS]
    if wrong:
        raise EyespotError("checkpoint-dtype", f"not floating point: {', '.join(wrong[:6])}", where=where)
    # A copy each, so that nothing hangs on the mapped file afterwards.
    source = found if torch.device(device).type == "meta" else tensors
    own = {name: source[name].to(device, dtype, copy=True).contiguous() for name in wanted}
    module.load_state_dict(own, strict=True, assign=True)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EyespotError: ``checkpoint-corrupt`` or ``checkpoint-too-large``, naming the file.
    """
    data = small_files.read_json(path)
    if not isinstance(data, dict):
        raise EyespotError("checkpoint-corrupt", "a JSON object was expected", where=str(path))
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> Path:
    """Write a JSON object under a temporary name, then give it its own."""
    text = json.dumps(data, indent=2, ensure_ascii=False, sort_keys=False) + "\n"
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    """Write text under a temporary name, then give it its own."""
    return replace_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def replace_with(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def umask() -> int:
    """Permissions that new files and folders of this process do not get."""
    current = os.umask(0)
    os.umask(current)
    return current


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        own = streaming.size(tensor)
        if shards[-1] and size + own > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += own
    return shards


def _indexed(folder: Path, index: Path) -> Tensors:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise EyespotError("checkpoint-corrupt", "an index needs weight_map: {tensor: file}", where=str(index))
    files = {name: _inside(folder, name, index) for name in dict.fromkeys(weight_map.values())}
    tensors = Tensors(list(files.values()))
    absent = [name for name in weight_map if name not in tensors]
    if absent:
        message = f"the index places {absent[0]} in {weight_map[absent[0]]}, which lacks it"
        raise EyespotError("checkpoint-corrupt", message, where=str(index))
    return tensors


def _inside(folder: Path, name: str, index: Path) -> Path:
    """The shard's path, only if it is a plain file name in this folder."""
    if not name or name in (".", "..") or any(c in name for c in "/\\\0:"):
        message = f"the index names {name!r}, which is no plain file name"
        raise EyespotError("checkpoint-path", message, where=str(index))
    path = folder / name
    if not path.is_file():
        raise EyespotError("checkpoint-path", f"the index names {name}, which is absent", where=str(index))
    target, home = path.resolve(), folder.resolve()
    # The hub's cache links a snapshot's files to the blobs of the same repository.
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if target.parent not in homes:
        raise EyespotError("checkpoint-path", f"the index names {name}, a link out of the folder", where=str(index))
    return path


def _open(file: Path) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Names of one file, what reads each tensor, and what tells its shape and dtype."""
    if file.suffix in (".bin", ".pt", ".pth"):
        for name, tensor in _unpickled(file).items():
            yield name, lambda t=tensor: t, lambda t=tensor: t
        return
    try:
        handle = safe_open(file, framework="pt")
        names = list(handle.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise EyespotError("checkpoint-corrupt", f"not a whole safetensors file: {error}", where=str(file)) from error
    for name in names:
        yield name, partial(_read, file, name), partial(handle.get_tensor, name)  # the second is never looked into


def _read(file: Path, name: str) -> Tensor:
    """One tensor over a mapping of its own."""
    with safe_open(file, framework="pt") as handle:
        return handle.get_tensor(name)


def _found(folder: Path) -> Path | None:
    """The file that holds the weights, or their index; some models are a lone .pt or .pth with no config beside it."""
    found = next((folder / name for name in _CANDIDATES if (folder / name).exists()), None)
    bare = found is None and not (folder / "config.json").exists()
    lone = sorted(p for p in folder.iterdir() if p.suffix in (".pt", ".pth")) if bare and folder.is_dir() else []
    return lone[0] if len(lone) == 1 else found


def _unpickled(file: Path) -> dict[str, Tensor]:
    if _holds_code(file):
        remedy = f"Write its weights out: torch.save(torch.jit.load({file.name!r}).state_dict(), 'pytorch_model.bin')."
        message = "a TorchScript archive, which holds code; no code of a checkpoint is run"
        raise EyespotError("checkpoint-corrupt", message, where=str(file), remedy=remedy)
    try:
        data = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EyespotError(
            "checkpoint-corrupt", f"not plain weights: {reason[:200]}", where=str(file),
            remedy="Use the safetensors files of this checkpoint; a pickle that holds more than tensors is never run.",
        ) from error  # fmt: skip
    if isinstance(data, dict) and isinstance(data.get("state_dict"), dict):  # as open_clip's training writes it
        data = {name.removeprefix("module."): tensor for name, tensor in data["state_dict"].items()}
    if not isinstance(data, dict) or not all(isinstance(t, Tensor) for t in data.values()):
        raise EyespotError("checkpoint-corrupt", "not a dictionary of tensors", where=str(file))
    return data


def _holds_code(file: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):  # an older pickle, or damaged: what reads it says so
        return False


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
