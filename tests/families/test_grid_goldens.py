"""Families with towers for pictures of any size, against numbers of `transformers` that are kept in a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eyespot.contracts.encoded import Encoded, EncodedMedia, MediaPlan
from eyespot.data.packing import pack
from tests.families import grid_draws as draws

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "grids.json").read_text())


def encoded(kind: str) -> Encoded:
    ids, found = draws.sequence(kind)
    plan = MediaPlan(merge_size=2, positions="grid")
    media = tuple(
        EncodedMedia(name, patches, np.array([grid]), slots, (1, 1), (1, 1), "", plan)
        for name, grid, slots, patches in found
    )
    return Encoded("golden", "test", ids, np.zeros(len(ids), np.float32), media=media)


def differs(ours: torch.Tensor, theirs: list) -> float:
    reference = torch.tensor(theirs)
    return float((ours - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("draw", draws.DRAWS)
@pytest.mark.parametrize("kind", draws.KINDS)
@torch.inference_mode()
def test_places_features_logits_and_loss_are_those_of_transformers(tmp_path, kind, draw):
    module, batch, wanted = draws.checkpoint(tmp_path, kind, draw).module, pack([encoded(kind)]), GOLDEN[kind][draw]
    assert batch.position_ids.tolist() == GOLDEN[kind]["positions"]
    made = module.encode(batch.media)["vision"]
    assert differs(made.main[: draws.ROWS], wanted["features"]) <= draws.DRAWS[draw]
    assert len(made.deep) == len(wanted["deep"])
    for layer, features in enumerate(wanted["deep"]):
        assert differs(made.deep[layer][: draws.ROWS], features) <= draws.DRAWS[draw]
    logits = module.logits(module(batch).last)
    assert differs(logits[-draws.ROWS :], wanted["logits"]) <= draws.DRAWS[draw]
    loss = float(F.cross_entropy(logits[:-1], batch.input_ids[1:]))
    assert loss == pytest.approx(wanted["loss"], rel=draws.DRAWS[draw])
