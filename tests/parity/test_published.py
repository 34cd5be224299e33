"""Published sizes on the meta device: every tensor has the name and the shape that `transformers` gives it."""

from contextlib import suppress

import pytest
import torch
import transformers as hf

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families.table import TABLE, family_of
from tests.families.published import CONFIGS

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", CONFIGS)
def test_all_keys_and_shapes_are_theirs(name):
    architecture, raw = CONFIGS[name]
    kind = hf.CONFIG_MAPPING[raw["model_type"]]
    with torch.device("meta"):
        theirs = getattr(hf, architecture)(kind.from_dict(raw)).state_dict()
    family = family_of(raw)
    tied = raw.get("tie_word_embeddings", False)
    wanted = {n: tuple(t.shape) for n, t in theirs.items() if not (tied and n == "lm_head.weight")}
    config = family.config_from_hf(raw, tuple(wanted), {})
    ours = families.build(config, "meta").state_dict()
    shapes = []
    for layout in family.layouts.values():
        with suppress(EyespotError):  # a layout of older models that has no place for what newer ones have
            shapes.append({n: tuple(t.shape) for n, t in layout.keymap(config).to_theirs(ours).items()})
    assert wanted in shapes, min((wanted.items() ^ found.items() for found in shapes), key=len)


def test_every_family_that_transformers_has_is_here():
    here = {TABLE[raw["model_type"]] for _, raw in CONFIGS.values()}
    # Qwen3-VL has its own such test; BERT beside an image tower is put together from parts that are here.
    without = {"eyespot_native", "qwen", "open_clip", "qwen3_vl", "vision_text_dual_encoder"}
    without |= {"internvl_c", "intern_vit"}  # of the authors' own code
    assert {module for module in TABLE.values() if module.rpartition(".")[2] not in without} <= here
