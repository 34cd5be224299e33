"""Worlds are found by name, with the fields of their configuration as options."""

import pytest

from eyespot.contracts.protocols import World
from eyespot.errors import EyespotError
from eyespot.worlds import TABLE, get


@pytest.mark.parametrize("name", TABLE)
def test_every_world_of_the_table_keeps_the_protocol(name):
    assert isinstance(get(name), World)
    assert get(name).name == name


def test_options_fill_the_configuration():
    assert get("handwriting", sides=(32, 32)).config.sides == (32, 32)


def test_an_unknown_world_or_option_names_the_nearest():
    with pytest.raises(EyespotError, match="did you mean 'scenes'"):
        get("scene")
    with pytest.raises(EyespotError, match="did you mean 'sides'"):
        get("scenes", side=3)
