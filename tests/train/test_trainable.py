"""The trainable list: order, freezing, errors that name what was meant, and the table."""

import pytest
import torch
from torch import nn

from eyespot.errors import EyespotError
from eyespot.train.trainable import apply, split_pattern


class Parts(nn.Module):
    """A model with three parts, one of whose tensors nothing reads."""

    def __init__(self):
        super().__init__()
        self.vision_encoder = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.connector = nn.Linear(2, 2, dtype=torch.bfloat16)
        self.decoder = nn.Linear(2, 3)

    def unused(self):
        return ["vision_encoder.1.weight", "vision_encoder.1.bias"]


def trained(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connector", ("connector", None)),
        ("connector:1e-4", ("connector", 1e-4)),
        ("connector:frozen", ("connector", "frozen")),
        (r"(?:connector|decoder)", (r"(?:connector|decoder)", None)),
        (r"(?:a|b):2", (r"(?:a|b)", 2.0)),
    ],
)
def test_a_pattern_keeps_its_own_colons(text, expected):
    assert split_pattern(text) == expected


def test_what_nothing_matches_is_frozen():
    module = Parts()
    apply(module, ["connector"], 1e-3)
    assert trained(module) == {"connector.weight", "connector.bias"}


def test_the_first_match_wins():
    lrs = apply(Parts(), [r"decoder\.bias:frozen", "decoder:1e-5", ".*"], 1e-3).lrs
    assert lrs["decoder.weight"] == 1e-5
    assert "decoder.bias" not in lrs
    assert lrs["connector.weight"] == 1e-3


def test_parameters_behind_the_tap_are_never_trained_and_are_listed():
    table = apply(Parts(), ["vision_encoder"], 1e-3)
    assert set(table.lrs) == {"vision_encoder.0.weight", "vision_encoder.0.bias"}
    assert any("behind the tap" in row.note and row.parameters == 6 for row in table.rows)


def test_trained_parameters_become_float32_masters_and_frozen_ones_stay():
    module = Parts()
    apply(module, ["decoder"], 1e-3)
    assert module.connector.weight.dtype == torch.bfloat16
    apply(module, ["connector"], 1e-3)
    assert module.connector.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["conector"], "'connector'"),
        (["decoder", r"decoder\.bias"], "earlier pattern"),
        (["decoder:frozen"], "nothing is trained"),
        ([], "nothing is trained"),
    ],
)
def test_a_pattern_that_wins_nothing_is_an_error(patterns, said):
    with pytest.raises(EyespotError) as caught:
        apply(Parts(), patterns, 1e-3)
    assert caught.value.code == "trainable-unmatched"
    assert said in caught.value.message


def test_a_broken_pattern_is_refused():
    with pytest.raises(EyespotError) as caught:
        apply(Parts(), ["(decoder"], 1e-3)
    assert caught.value.code == "config-value"


def test_the_table_counts_every_parameter_once():
    module = Parts()
    table = apply(module, ["decoder:1e-5", "connector"], 1e-3)
    assert sum(row.parameters for row in table.rows) == sum(p.numel() for p in module.parameters())
    text = table.to_text()
    for word in ("vision_encoder", "frozen", "1e-05", "0.001"):
        assert word in text
