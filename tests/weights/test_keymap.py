"""Key maps: both directions are one rule list."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.errors import EyespotError
from eyespot.weights.keymap import GroupSplit, KeyMap, Rearrange, Reshape, Rule, Split, within

MAP = KeyMap([
    Rule("model.embed.weight", "embed.weight"),
    *within([
        Rule("self_attn.{}_proj.{}", "attn.{}.{}"),
        Split("in_proj_weight", "pool.[].weight", ("q", "k", "v")),
        Reshape("patch.weight", "stem.weight", (-1, 3, 2, 2), (-1, 12)),
        Rearrange("map.weight", "map.weight", "e (p c) -> e (c p)", (("c", 3),)),
    ], "layers.{}.", "blocks.{}."),
    Reshape("scale", "scale", (1,), ()),
], ignore=[r"extra\..*"])  # fmt: skip


def theirs(layers: int, width: int) -> dict[str, torch.Tensor]:
    tensors = {"model.embed.weight": torch.randn(7, width), "scale": torch.randn(1)}
    for i in range(layers):
        tensors[f"layers.{i}.self_attn.q_proj.bias"] = torch.randn(width)
        tensors[f"layers.{i}.in_proj_weight"] = torch.randn(3 * width, width)
        tensors[f"layers.{i}.patch.weight"] = torch.randn(width, 3, 2, 2)
        tensors[f"layers.{i}.map.weight"] = torch.randn(width, 12)
    return tensors


@settings(deadline=None, max_examples=50)
@given(layers=st.integers(0, 13), width=st.integers(1, 5))
def test_there_and_back_is_the_identity(layers, width):
    tensors = theirs(layers, width)
    ours = MAP.to_ours(tensors)
    assert MAP.unknown(tensors) == []
    again = MAP.to_theirs(ours)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    back = MAP.to_ours(again)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_axes_are_put_in_another_order_and_what_does_not_fit_passes_unchanged():
    name = "layers.0.map.weight"
    ours = MAP.to_ours({name: torch.arange(12.0).view(1, 12)})["blocks.0.map.weight"]
    assert ours.view(3, 4).tolist() == torch.arange(12.0).view(4, 3).t().tolist()
    odd = torch.randn(2, 7)
    assert torch.equal(MAP.to_ours({name: odd})["blocks.0.map.weight"], odd)


def test_rows_that_lie_head_by_head_are_taken_apart_and_put_together():
    rule = GroupSplit("qkv.{}", "[].{}", ("q", "k", "v"), (2, 2, 2), 2)
    fused = torch.arange(12.0)  # two heads, each two rows of q, of k and of v
    q, k, v = rule.split(fused)
    assert (q.tolist(), k.tolist(), v.tolist()) == ([0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11])
    assert torch.equal(rule.merge([q, k, v]), fused)
    odd = torch.randn(7)
    assert all(torch.equal(piece, odd) for piece in rule.split(odd))


def test_our_names_and_shapes_are_what_the_rules_say():
    ours = MAP.to_ours(theirs(1, 2))
    assert {name: tuple(t.shape) for name, t in ours.items()} == {
        "embed.weight": (7, 2), "scale": (), "blocks.0.attn.q.bias": (2,), "blocks.0.stem.weight": (2, 12),
        "blocks.0.map.weight": (2, 12),
        "blocks.0.pool.q.weight": (2, 2), "blocks.0.pool.k.weight": (2, 2), "blocks.0.pool.v.weight": (2, 2),
    }  # fmt: skip


def test_a_fused_tensor_is_cut_in_order():
    fused = torch.arange(6.0).view(6, 1)
    ours = MAP.to_ours({"layers.0.in_proj_weight": fused})
    assert [ours[f"blocks.0.pool.{p}.weight"].flatten().tolist() for p in "qkv"] == [[0, 1], [2, 3], [4, 5]]


def test_derived_buffers_and_ignored_names_carry_nothing():
    names = ["a.position_ids", "layers.3.rotary_emb.inv_freq", "extra.thing"]
    assert MAP.unknown([*names, "stranger"]) == ["stranger"]
    assert MAP.to_ours({name: torch.zeros(1) for name in names}) == {}


def test_a_wildcard_is_one_piece_of_a_name():
    assert MAP.unknown(["layers.0.deeper.self_attn.q_proj.bias"]) == ["layers.0.deeper.self_attn.q_proj.bias"]


def test_a_tensor_without_a_place_is_named():
    with pytest.raises(EyespotError, match="stranger") as caught:
        MAP.to_theirs({"stranger": torch.zeros(1)})
    assert caught.value.code == "layout-unsupported"


def test_an_incomplete_fused_tensor_is_named():
    ours = MAP.to_ours(theirs(1, 2))
    del ours["blocks.0.pool.k.weight"]
    with pytest.raises(EyespotError, match=r"blocks\.0\.pool\.q\.weight"):
        MAP.to_theirs(ours)


def test_a_misshapen_tensor_passes_as_it_is_so_that_the_loader_can_say_so():
    ours = MAP.to_ours({"layers.0.patch.weight": torch.zeros(2, 3, 4, 4), "layers.0.in_proj_weight": torch.zeros(5, 2)})
    assert ours["blocks.0.stem.weight"].shape == (2, 3, 4, 4)
    assert ours["blocks.0.pool.q.weight"].shape == (5, 2)


def test_our_name_is_known_as_the_file_calls_it():
    assert MAP.their_name("blocks.11.pool.v.weight") == "layers.11.in_proj_weight"
    assert MAP.their_name("nobody") == "nobody"


@pytest.mark.parametrize("shape", [(), (3,)], ids=["bias", "weight"])
def test_rows_that_come_group_by_group_go_to_their_pieces_and_back(shape):
    """Two groups, each of two query heads, a key head and a value head of two rows."""
    rule = GroupSplit("wqkv.{}", "[].{}", ("q", "k", "v"), (4, 2, 2), 2)
    rows = torch.arange(16.0).view(16, *([1] * len(shape))).expand(16, *shape).contiguous()
    made = KeyMap([rule]).to_ours({"wqkv.x": rows})
    firsts = {name: t.flatten(1)[:, 0].tolist() if shape else t.tolist() for name, t in made.items()}
    assert firsts == {"q.x": [0, 1, 2, 3, 8, 9, 10, 11], "k.x": [4, 5, 12, 13], "v.x": [6, 7, 14, 15]}
    assert torch.equal(KeyMap([rule]).to_theirs(made)["wqkv.x"], rows)


def test_a_fused_tensor_of_another_size_passes_unchanged_to_the_strict_loader():
    rule = GroupSplit("wqkv", "[]", ("q", "k", "v"), (4, 2, 2), 2)
    assert KeyMap([rule]).to_ours({"wqkv": torch.zeros(15)})["k"].shape == (15,)
