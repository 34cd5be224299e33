"""The golden samples are what the installed `transformers` says, and every family that it has is among them."""

import pytest
import torch

from eyespot import families
from tests.goldens.golden import BAR, DRAWS, apart, load, names
from tests.goldens.make import REFERENCES, make

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", REFERENCES)
def test_a_golden_is_what_the_original_still_says(name, tmp_path):
    stored, again = load(name), make(name, tmp_path)
    assert again["tensors"] == stored["tensors"]
    assert again["family"] == stored["family"]
    for draw in DRAWS:
        assert again["differences"][draw] <= BAR[draw]
        assert again["draws"][draw].keys() == stored["draws"][draw].keys()
        for key, value in again["draws"][draw].items():
            new, old = torch.tensor(value), torch.tensor(stored["draws"][draw][key])
            assert (apart(new, old) <= BAR[draw] / 10) if new.is_floating_point() else torch.equal(new, old), key


def test_every_golden_has_its_reference():
    assert set(names()) == set(REFERENCES)


def test_every_family_that_transformers_has_is_here():
    # Ours has no original; those of the others are the authors' own code, whose goldens lie beside their tests.
    without = {"eyespot", "qwen", "open_clip", "internvl_c", "intern_vit"}
    assert {f.name for f in families.all_families()} - without == {load(name)["family"] for name in REFERENCES}
