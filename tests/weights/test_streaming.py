"""Tensor by tensor: what is written is what the library reads, and what is deferred is what is done at once."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from eyespot.weights import files, streaming
from eyespot.weights.deferred import Deferred, metas
from eyespot.weights.files import read_tensors, write_tensors
from eyespot.weights.keymap import KeyMap, Rearrange, Reshape, Rule, Split

KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
MAP = KeyMap([
    Split("a.{}.qkv.{}", "b.{}.[].{}", ("q", "k", "v")), Reshape("conv.weight", "stem.weight", (-1, 2, 3, 3), (-1, 18)),
    Rearrange("turned", "straight", "(h two) d -> (two h) d", (("two", 2),)), Rule("plain.{}", "own.{}"),
])  # fmt: skip


def theirs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "a.0.qkv.weight": (6, 4),
        "a.0.qkv.bias": (6,),
        "conv.weight": (5, 2, 3, 3),
        "turned": (4, 2),
        "plain.x": (3,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_every_kind_and_shape_is_read_back_by_the_library(tmp_path):
    own = {f"{kind}": (torch.arange(6).reshape(2, 3) % 2).to(kind) for kind in KINDS}
    own |= {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "ü": torch.ones(1),
    }
    streaming.write(tmp_path / "x.safetensors", list(own), own, own)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in own.items())
    with safe_open(tmp_path / "x.safetensors", framework="pt") as handle:
        assert handle.metadata() == {"format": "pt"}


def test_a_tensor_that_is_not_what_was_announced_is_never_written(tmp_path):
    own = {"x": torch.ones(2)}
    with pytest.raises(AssertionError):
        streaming.write(tmp_path / "x.safetensors", ["x"], own, {"x": torch.ones(3)})


def test_deferred_names_are_the_names_at_once_both_ways(tmp_path):
    write_tensors(tmp_path, theirs())
    ours = MAP.deferred(read_tensors(tmp_path))
    expected = MAP.to_ours(theirs())
    assert dict(ours).keys() == expected.keys()
    assert all(torch.equal(ours[n], t) for n, t in expected.items())
    assert {n: t.shape for n, t in metas(ours).items()} == {n: t.shape for n, t in expected.items()}
    back = MAP.deferred_theirs(ours)
    assert all(torch.equal(back[n], t) for n, t in theirs().items()) and len(back) == len(theirs())
    narrow = back.cast(torch.bfloat16)
    assert {narrow[n].dtype for n in narrow} == {t.dtype for t in metas(narrow).values()} == {torch.bfloat16}


def test_nothing_is_read_for_names_and_shapes(tmp_path, monkeypatch):
    write_tensors(tmp_path, theirs())
    monkeypatch.setattr(files, "_read", lambda *_: torch.zeros(1, 1, 1))  # the checker of types looks at a first one
    back = MAP.deferred_theirs(MAP.deferred(read_tensors(tmp_path)))
    assert {n: t.shape for n, t in metas(back).items()} == {n: t.shape for n, t in theirs().items()}


def test_deferred_tensors_can_be_set_and_taken_away():
    some = Deferred({})
    some["x"] = torch.ones(2)
    assert torch.equal(some["x"], torch.ones(2)) and some.meta("x").is_meta
    del some["x"]
    assert not some
