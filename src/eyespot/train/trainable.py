"""What is trained: one list of (regex, learning rate or frozen); the first that is found in a name wins.

What nothing matches is frozen; a pattern that wins nothing is an error; parameters behind the encoder's tap are
never trained and are listed. Trained parameters become float32 masters, frozen ones stay as they were stored.
The form is big_vision's schedule list (Beyer et al.).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from eyespot.contracts.config import Config
from eyespot.errors import EyespotError, nearest


@dataclass(frozen=True)
class TrainableRow(Config):
    """One line of the table: what one pattern trains in one part. `lr` None: frozen; `pattern` empty: unmatched."""

    part: str
    pattern: str
    lr: float | None
    tensors: int
    parameters: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Trainable:
    """The outcome: learning rate of each trained parameter by name, in the model's order, and the table."""

    lrs: dict[str, float]
    rows: tuple[TrainableRow, ...]

    def to_text(self) -> str:
        """The table, aligned, for a terminal or a log."""
        lines = [f"{'part':<16} {'parameters':>12}  {'lr':<10} pattern"]
        for row in self.rows:
            lr = "frozen" if row.lr is None else f"{row.lr:.3g}"
            note = row.note or row.pattern or "(matched by no pattern)"
            lines.append(f"{row.part:<16} {row.parameters:>12,}  {lr:<10} {note}")
        return "\n".join(lines)


def split_pattern(text: str) -> tuple[str, float | str | None]:
    """``REGEX[:lr]`` or ``REGEX:frozen``; a colon that belongs to the regex is left alone."""
    regex, colon, tail = text.rpartition(":")
    if colon and tail == "frozen":
        return regex, "frozen"
    try:
        return (regex, float(tail)) if colon else (text, None)
    except ValueError:
        return text, None


def apply(module: nn.Module, patterns: Sequence[str], lr: float) -> Trainable:
    """Set `requires_grad` on every parameter of `module` and say what was done.

    Args:
        module: the model; its `unused()`, where it has one, names parameters that nothing reads.
        patterns: ``REGEX[:lr]`` or ``REGEX:frozen``, the first that is found in a name wins.
        lr: for patterns that give none.

    Raises:
        EyespotError: ``trainable-unmatched`` for a pattern that wins nothing, or when nothing is trained.
    """
    compiled = [_compile(text, lr) for text in patterns]
    unused = set(module.unused()) if hasattr(module, "unused") else set()
    lrs: dict[str, float] = {}
    counts: dict[tuple[str, str, float | None, str], list[int]] = {}
    wins = [0] * len(compiled)
    for name, parameter in module.named_parameters():
        index = next((i for i, (regex, _) in enumerate(compiled) if regex.search(name)), None)
        if index is not None:
            wins[index] += 1
        rate = compiled[index][1] if index is not None and name not in unused else None
        parameter.requires_grad_(rate is not None)
        if rate is not None:
            lrs[name] = rate
            parameter.data = parameter.data.to(torch.float32)
        pattern = patterns[index] if index is not None else ""
        note = "behind the tap: not used, kept for export" if name in unused else ""
        count = counts.setdefault((part_of(name), pattern, rate, note), [0, 0])
        count[0] += 1
        count[1] += parameter.numel()
    _check_wins(patterns, compiled, wins, [name for name, _ in module.named_parameters()])
    if not lrs:
        raise EyespotError("trainable-unmatched", "nothing is trained: every parameter is frozen", where="trainable")
    return Trainable(lrs, tuple(TrainableRow(*key[:3], *count, key[3]) for key, count in counts.items()))


def part_of(name: str) -> str:
    """The part that a parameter belongs to: ``vision_encoder``, ``connector``, ``decoder``, …"""
    return name.partition(".")[0]


def _compile(text: str, lr: float) -> tuple[re.Pattern[str], float | None]:
    regex, rate = split_pattern(text)
    try:
        return re.compile(regex), None if rate == "frozen" else float(rate if rate is not None else lr)
    except re.error as error:
        raise EyespotError("config-value", f"{regex!r} is no regular expression: {error}", where="trainable") from error


def _check_wins(
    patterns: Sequence[str], compiled: Sequence[tuple[re.Pattern[str], float | None]], wins: list[int], names: list[str]
) -> None:
    for text, (regex, _), won in zip(patterns, compiled, wins, strict=True):
        if won:
            continue
        if any(regex.search(name) for name in names):
            message = f"every parameter that {text!r} matches is taken by an earlier pattern"
        else:
            message = f"{text!r} matches no parameter{nearest(regex.pattern, _stems(names))}"
        raise EyespotError("trainable-unmatched", message, where="trainable")


def _stems(names: Iterable[str]) -> set[str]:
    """Every leading stretch of the names, so that a misspelt part finds the part and not one of its tensors."""
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}
