"""Where a stage's model comes from: its own builder, the run's model, an earlier stage; and parts taken from others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from eyespot import families
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError, nearest
from eyespot.nn import adapters
from eyespot.train import checkpoint, trainable
from eyespot.train.folder import RunFolder
from eyespot.train.names import resolve
from eyespot.train.run import Stage

ORIGIN = ("family", "layout", "generation", "extra", "parts", "source")
PROBE = "The quick brown fox jumps over 12 lazy dogs; a red circle? Yes, 345 (or 6789)."
CAME_IN = "dtype"  # in `Loaded.extra`: the number type that the final model is written in


def build(source: Any, where: str) -> Any:
    """A `families.Loaded` from a path, a hub id, a dotted name or a callable."""
    source = resolve(source, where)
    loaded = source() if callable(source) else families.load(source)
    loaded.extra.setdefault(CAME_IN, str(next(loaded.module.parameters()).dtype).removeprefix("torch."))
    return loaded


def restore(path: Path) -> Any:
    """The model of a checkpoint, every tensor as it was, and still knowing which layout it came in."""
    loaded = families.load(path / "model")
    loaded.source = ""
    for name, value in json.loads(checkpoint.read_state(path)["origin"]).items():
        setattr(loaded, name, value)
    return loaded


def origin(loaded: Any) -> str:
    """What `restore` needs beside the weights, as JSON: checkpoints are in our own layout, which holds every model."""
    return json.dumps({name: getattr(loaded, name) for name in ORIGIN})


def choose(loaded: Any, stage: Stage) -> trainable.Trainable:
    """Give the model the stage's adapters, merge those that an earlier stage trained, and set what is trained.

    A stage whose adapters are like those that are there goes on with them.
    """
    module = loaded.module
    if adapters.adapters(module) and not (stage.lora and adapters.attached(module, stage.lora)):
        adapters.merge(module)
        loaded.source = ""
    if stage.lora is not None and not adapters.adapters(module):
        adapters.attach(module, stage.lora)
    table = trainable.apply(module, stage.patterns, stage.lr)
    if table.lrs.keys() - adapters.parameters(module):
        loaded.source = ""  # no longer the model on the disk
    return table


def end_of(run: RunFolder, stage: str) -> Path:
    """The checkpoint that a stage ended with."""
    found = sorted(run.checkpoints.glob(f"??-{stage}-????????-end"))
    if not found:
        raise EyespotError("checkpoint-missing", f"stage {stage!r} left no checkpoint", where=str(run.checkpoints))
    return found[-1]


def fill_parts(loaded: Any, stage: Stage, run: RunFolder) -> None:
    """Overwrite parts of a fresh model with those that `stage.init_from` names."""
    for part, source in stage.init_from.items():
        where = f"{stage.name}.init_from.{part}"
        if isinstance(source, str) and source.startswith("stage:"):
            other = restore(end_of(run, source.removeprefix("stage:")))
            adapters.merge(other.module)
        elif part == "vision_encoder" and not callable(resolve(source, where)):
            _copy_tower(resolve(source, where), loaded.module, where)
            continue
        else:
            other = build(source, where)
        if part in ("decoder", "text_encoder"):
            _check_words(other.tokenizer, loaded.tokenizer, where)
        copy_part(other.module, loaded.module, part, where)


def _copy_tower(path: Any, target: nn.Module, where: str) -> None:
    """An encoder out of any checkpoint that holds one: a whole model, two towers (CLIP), or the tower alone."""
    tensors = families.open_part("vision_encoder", path).tensors
    _fill(
        {name.removeprefix("vision_encoder."): t for name, t in tensors.items()},
        _part(target, "vision_encoder", where),
        where,
    )


def copy_part(source: nn.Module, target: nn.Module, part: str, where: str) -> None:
    """Copy one part, strictly; an untied head goes along with its decoder.

    Raises:
        EyespotError: ``config-value`` where a model lacks the part, ``checkpoint-keys`` where the tensors do not fit.
    """
    names = [part]
    if part == "decoder" and (getattr(source, "lm_head", None) or getattr(target, "lm_head", None)) is not None:
        names.append("lm_head")
    for name in names:
        _fill(_part(source, name, where, "the source").state_dict(), _part(target, name, where), where)


def _part(module: nn.Module, name: str, where: str, side: str = "this model") -> nn.Module:
    found = getattr(module, name, None)
    if not isinstance(found, nn.Module):
        known = [child for child, _ in module.named_children()]
        raise EyespotError("config-value", f"{side} has no part {name!r}{nearest(name, known)}", where=where)
    return found


def _check_words(theirs: Any, ours: Any, where: str) -> None:
    """Rows of an embedding table mean nothing under another vocabulary, even where the sizes agree."""
    if theirs is None or ours is None:
        return
    if theirs.vocab_size != ours.vocab_size or theirs.encode(PROBE).ids != ours.encode(PROBE).ids:
        raise EyespotError("compose-mismatch", "the source has another vocabulary than this model", where=where)


def _fill(theirs: Mapping[str, Tensor], target: nn.Module, where: str) -> None:
    ours = target.state_dict()
    faults = [f"{name}: missing in the source" for name in ours.keys() - theirs.keys()]
    faults += [f"{name}: unexpected in the source" for name in theirs.keys() - ours.keys()]
    faults += [
        f"{name}: {tuple(theirs[name].shape)} in the source, {tuple(ours[name].shape)} here"
        for name in ours.keys() & theirs.keys()
        if theirs[name].shape != ours[name].shape
    ]
    if faults:
        shown = "\n  ".join(sorted(faults)[:12])
        raise EyespotError("checkpoint-keys", f"{len(faults)} tensor(s) do not fit:\n  {shown}", where=where)
    target.load_state_dict(dict(theirs))
