"""The tests run with shapes and types checked; without that, annotations would be prose."""

import ast

import pytest
import torch

from eyespot.contracts.batch import MediaBatch, Segments
from eyespot.weights.keymap import KeyMap
from tests.conftest import SHAPED
from tests.structure.source import modules, tree


def test_a_wrong_rank_in_a_dataclass_is_refused():
    with pytest.raises(Exception, match="grid_thw"):
        MediaBatch("image", torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), (1,), torch.arange(4), (4,))


def test_a_wrong_argument_type_is_refused_where_no_shapes_are_stated():
    with pytest.raises(Exception, match="rules"):
        KeyMap(3)  # type: ignore[arg-type]


def test_every_module_that_states_shapes_has_them_checked():
    stating = set()
    for name, file in modules().items():
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ImportFrom) and node.module == "eyespot.contracts.shapes":
                stating |= {name} if {alias.name for alias in node.names} - {"Tensor"} else set()
    prefixes = tuple(f"eyespot.{name}." for name in SHAPED)
    assert {name for name in stating if not f"{name}.".startswith(prefixes)} == set()
    assert len(stating) > 30


def test_a_wrong_argument_type_is_refused():
    with pytest.raises(Exception, match="lens"):
        Segments.of("three")  # type: ignore[arg-type]
