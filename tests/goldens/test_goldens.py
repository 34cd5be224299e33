"""What the originals answered once, we answer; without the originals."""

import pytest
import torch

from eyespot import families
from tests.goldens.golden import BAR, DRAWS, apart, load, names, ours, restore, some


def compare(record, draw, folder) -> dict[str, float]:
    """Distance of each float answer; ids and places must be equal."""
    restore(record, draw, folder)
    answers = ours(folder, record["kind"])
    found = {}
    for key, expected in record["draws"][draw].items():
        expected, mine = torch.tensor(expected), answers[key]
        if not expected.is_floating_point():
            assert torch.equal(mine.expand_as(expected), expected), key
        else:
            found[key] = apart(some(mine) if key == "logits" and record["kind"] != "dual" else mine, expected)
    return found


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", names())
def test_we_answer_as_the_original_did(name, draw, tmp_path):
    found = compare(load(name), draw, tmp_path)
    assert found and max(found.values()) <= BAR[draw], found


@pytest.mark.parametrize("name", names())
def test_a_golden_says_where_it_comes_from(name):
    record = load(name)
    assert {"transformers", "torch", "date"} <= record["made"].keys()
    assert record["family"] in {f.name for f in families.all_families()}
    assert record["differences"].keys() == set(DRAWS)


def test_other_weights_are_seen(tmp_path):
    record = load(names()[0])
    record["draws"]["small"] = record["draws"]["wide"]
    assert max(compare(record, "small", tmp_path).values()) > 1e-2


@pytest.mark.parametrize("name", ["qwen2_vl"])
def test_a_wrong_eps_is_seen_on_the_small_draw(name, tmp_path):
    record = load(name)
    record["files"]["config.json"]["text_config"]["rms_norm_eps"] = 3e-6
    assert max(compare(record, "small", tmp_path).values()) > BAR["small"]
