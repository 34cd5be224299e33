"""Configurations of published checkpoints are read, and built without memory for their weights."""

import pytest

from eyespot import families
from eyespot.families.table import family_of
from tests.families.published import CONFIGS, PARAMETERS


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_model_has_as_many_parameters_as_it_was_counted_to_have(name):
    raw = CONFIGS[name][1]
    module = families.build(family_of(raw).config_from_hf(raw, (), {}), "meta")
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]
    assert all(p.is_meta for p in module.parameters())
