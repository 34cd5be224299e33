"""Reversible rules from a checkpoint's tensor names to ours, as data.

A pattern names one tensor per layer with ``{}``, which stands for one dot-free piece of a name. Every rule works in
both directions, so an export is the import read backwards and cannot drift from it. A tensor whose shape does not
fit its rule passes unchanged: the strict loader then reports the shape that the file really holds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import einops
import torch

from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.weights.deferred import Deferred, Entry, metas

# Buffers that old files store although they follow from the config.
DERIVED = (r".*\bposition_ids", r".*\brotary_emb\.inv_freq")


@dataclass(frozen=True)
class Rule:
    """One tensor of theirs is one of ours under another name."""

    theirs: str
    ours: str

    def names(self) -> tuple[str, ...]:
        """The patterns of our side."""
        return (self.ours,)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Their tensor as ours, in the order of `names`."""
        return (tensor,)

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """Our tensors as theirs."""
        return tensors[0]

    def within(self, theirs: str, ours: str) -> "Rule":
        """The same rule below a prefix on each side."""
        return replace(self, theirs=theirs + self.theirs, ours=ours + self.ours)


@dataclass(frozen=True)
class Reshape(Rule):
    """The same numbers in another shape: a convolution's kernel is a linear layer on raw patches. -1 is any size."""

    their_shape: tuple[int, ...] = ()
    our_shape: tuple[int, ...] = ()

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Their shape to ours."""
        return (_reshaped(tensor, self.their_shape, self.our_shape),)

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """Our shape to theirs."""
        return _reshaped(tensors[0], self.our_shape, self.their_shape)


@dataclass(frozen=True)
class Rearrange(Rule):
    """The same numbers in another order of axes, as einops writes it (``e (r c) -> e (c r)``); `sizes` name axes."""

    pattern: str = ""
    sizes: tuple[tuple[str, int], ...] = ()

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Their order to ours."""
        return (_rearranged(tensor, self.pattern, self.sizes),)

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """Our order to theirs."""
        theirs, _, ours = self.pattern.partition(" -> ")
        return _rearranged(tensors[0], f"{ours} -> {theirs}", self.sizes)


@dataclass(frozen=True)
class Split(Rule):
    """One fused tensor of theirs is several equal pieces of ours, `pieces` filling the ``[]`` of the pattern."""

    pieces: tuple[str, ...] = ()
    dim: int = 0

    def names(self) -> tuple[str, ...]:
        """One pattern for each piece."""
        return tuple(self.ours.replace("[]", piece) for piece in self.pieces)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """The pieces of the fused tensor."""
        if tensor.shape[self.dim] % len(self.pieces):
            return (tensor,) * len(self.pieces)
        return tensor.chunk(len(self.pieces), dim=self.dim)

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """The fused tensor."""
        return torch.cat(list(tensors), dim=self.dim)


@dataclass(frozen=True)
class GroupSplit(Rule):
    """One fused tensor of theirs whose rows come group by group, in each group some rows of every piece of ours.

    How grouped-query attention is fused where a group is some query heads, their key head and their value head; with
    one query head to a key head, rows lie head by head.
    `rows` are those of each piece in one group, `groups` how many groups there are.
    """

    pieces: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    groups: int = 1

    def names(self) -> tuple[str, ...]:
        """One pattern for each piece."""
        return tuple(self.ours.replace("[]", piece) for piece in self.pieces)

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """The rows of each piece, from all groups."""
        if len(tensor) != self.groups * sum(self.rows):
            return (tensor,) * len(self.pieces)
        grouped = tensor.unflatten(0, (self.groups, sum(self.rows)))
        return [piece.flatten(0, 1) for piece in grouped.split(self.rows, dim=1)]

    def merge(self, tensors: Sequence[Tensor]) -> Tensor:
        """Group after group."""
        parts = [t.unflatten(0, (self.groups, n)) for t, n in zip(tensors, self.rows, strict=True)]
        return torch.cat(parts, dim=1).flatten(0, 1)


class KeyMap:
    """An ordered list of rules; the first that matches a name decides.

    Args:
        rules: from the file's names to ours.
        ignore: regular expressions of names that may stand in a file and carry nothing.
    """

    def __init__(self, rules: Iterable[Rule], ignore: Iterable[str] = ()) -> None:
        self.rules = tuple(rules)
        self.ignore = (*DERIVED, *ignore)

    def __or__(self, other: "KeyMap") -> "KeyMap":
        return KeyMap((*self.rules, *other.rules), dict.fromkeys((*self.ignore, *other.ignore)))

    @cached_property
    def _theirs(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_regex(rule.theirs), rule) for rule in self.rules]

    @cached_property
    def _ours(self) -> list[tuple[re.Pattern[str], Rule]]:
        return [(_regex(name), rule) for rule in self.rules for name in rule.names()]

    @cached_property
    def _ignored(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?:{pattern})" for pattern in self.ignore))

    def ignores(self, name: str) -> bool:
        """Whether a name of the file carries nothing."""
        return self._ignored.fullmatch(name) is not None

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Names of the file that no rule knows."""
        return [name for name in names if not self.ignores(name) and _find(self._theirs, name) is None]

    def found(self, theirs: str) -> tuple[Rule, tuple[str, ...]] | None:
        """The rule of one of the file's tensors, and our names of what it holds."""
        found = None if self.ignores(theirs) else _find(self._theirs, theirs)
        return (found[0], tuple(name.format(*found[1]) for name in found[0].names())) if found else None

    def holding(self, ours: str) -> tuple[Rule, str, tuple[str, ...]] | None:
        """The rule of one of our tensors: its name in the file, and our names of all that the file's tensor holds."""
        if (found := _find(self._ours, ours)) is None:
            return None
        rule, parts = found
        return rule, rule.theirs.format(*parts), tuple(name.format(*parts) for name in rule.names())

    def their_name(self, ours: str) -> str:
        """The name in the file of one of our tensors; our own where no rule knows it."""
        found = self.holding(ours)
        return found[1] if found else ours

    def to_ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors under our names; what no rule knows is left out (see `unknown`)."""
        result = {}
        for name in tensors:
            if (found := self.found(name)) is not None:
                rule, ours = found
                result.update(zip(ours, rule.split(tensors[name]), strict=True))
        return result

    def deferred(self, tensors: Any) -> Deferred:
        """As `to_ours`, each made when it is asked for, from `tensors` that tell shapes without reading (`meta`)."""
        entries: dict[str, Entry] = {}
        for name in tensors:
            found = self.found(name)
            if found is not None:
                rule, ours = found
                shapes = rule.split(tensors.meta(name))
                entries |= {o: (partial(_piece, rule, tensors, name, i), shapes[i]) for i, o in enumerate(ours)}
        return Deferred(entries)

    def deferred_theirs(self, tensors: Deferred) -> Deferred:
        """As `to_theirs`, each made when it is asked for."""
        shapes = self.to_theirs(metas(tensors))
        entries: dict[str, Entry] = {}
        for name in tensors:
            found = self.holding(name)
            if found is not None and found[1] not in entries:
                rule, theirs, pieces = found
                entries[theirs] = (partial(_whole, rule, tensors, pieces), shapes[theirs])
        return Deferred(entries)

    def to_theirs(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors under the file's names.

        Raises:
            EyespotError: ``layout-unsupported`` naming the tensors that this layout has no place for.
        """
        result, homeless = {}, []
        for name in tensors:
            if (found := self.holding(name)) is None:
                homeless.append(name)
                continue
            rule, theirs, pieces = found
            if theirs not in result:
                if any(piece not in tensors for piece in pieces):
                    homeless.append(name)
                else:
                    result[theirs] = rule.merge([tensors[piece] for piece in pieces])
        if homeless:
            shown = ", ".join(homeless[:6]) + (f" and {len(homeless) - 6} more" if len(homeless) > 6 else "")
            raise EyespotError("layout-unsupported", f"this layout has no place for {shown}")
        return result


def within(rules: Iterable[Rule], theirs: str = "", ours: str = "") -> list[Rule]:
    """The rules below a prefix on each side."""
    return [rule.within(theirs, ours) for rule in rules]


def _piece(rule: Rule, tensors: Mapping[str, Tensor], name: str, index: int) -> Tensor:
    return rule.split(tensors[name])[index]


def _whole(rule: Rule, tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return rule.merge([tensors[name] for name in names])


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("([^.]+)".join(map(re.escape, pattern.split("{}"))))


def _find(table: list[tuple[re.Pattern[str], Rule]], name: str) -> tuple[Rule, tuple[str, ...]] | None:
    for regex, rule in table:
        if match := regex.fullmatch(name):
            return rule, match.groups()
    return None


def _reshaped(tensor: Tensor, expected: tuple[int, ...], target: tuple[int, ...]) -> Tensor:
    fits = len(expected) == tensor.ndim and all(e in (-1, s) for e, s in zip(expected, tensor.shape, strict=True))
    return tensor.reshape(target) if fits else tensor


def _rearranged(tensor: Tensor, pattern: str, sizes: tuple[tuple[str, int], ...]) -> Tensor:
    try:
        return einops.rearrange(tensor, pattern, **dict(sizes)).contiguous()
    except einops.EinopsError:
        return tensor
