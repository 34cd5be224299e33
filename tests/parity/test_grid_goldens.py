"""The numbers of tests/goldens/grids.json, derived again; ``python -m tests.parity.test_grid_goldens`` writes them.

The checkpoints are files with their names and drawn weights, read by their classes.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from tests.families import grid_draws as draws

pytestmark = pytest.mark.parity
FILE = Path(__file__).parents[1] / "goldens" / "grids.json"


def rounded(values: torch.Tensor) -> list:
    return [[float(f"{value:.7g}") for value in row] for row in values.tolist()]


@torch.no_grad()
def derived(folder: Path, kind: str, draw: str) -> dict[str, Any]:
    """What their model gives."""
    draws.checkpoint(folder, kind, draw)
    (folder / "eyespot.json").unlink(missing_ok=True)
    model, info = hf.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, media = draws.sequence(kind)
    kinds = torch.zeros(1, len(ids), dtype=torch.int)
    inputs: dict[str, Any] = {"input_ids": torch.tensor(ids)[None], "mm_token_type_ids": kinds}
    for number, name, suffix in ((1, "image", ""), (2, "video", "_videos")):
        own = [(grid, slots, patches) for found, grid, slots, patches in media if found == name]
        for _, slots, _ in own:
            kinds[0, slots] = number
        if own:
            inputs[f"{name}_grid_thw"] = torch.tensor([grid for grid, _, _ in own])
            inputs[f"pixel_values{suffix}"] = torch.tensor(np.concatenate([patches for _, _, patches in own]))
    grids = {key: value for key, value in inputs.items() if key.endswith("thw")}
    places, _ = model.model.get_rope_index(inputs["input_ids"], kinds, **grids)
    found = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    made = model.eval()(**inputs, labels=inputs["input_ids"])
    deep = [torch.cat(features) for features in getattr(found, "deepstack_features", ())]
    return {
        "positions": places[:, 0].tolist(), "features": rounded(torch.cat(found.pooler_output)[: draws.ROWS]),
        "deep": [rounded(features[: draws.ROWS]) for features in deep],
        "logits": rounded(made.logits[0, -draws.ROWS :]), "loss": float(made.loss),
    }  # fmt: skip


@pytest.mark.parametrize("draw", draws.DRAWS)
@pytest.mark.parametrize("kind", draws.KINDS)
def test_transformers_still_gives_the_golden_numbers(tmp_path, kind, draw):
    golden, made = json.loads(FILE.read_text())[kind], derived(tmp_path, kind, draw)
    assert made["positions"] == golden["positions"]
    assert made["loss"] == pytest.approx(golden[draw]["loss"], rel=draws.DRAWS[draw])
    for key in ("features", "logits", "deep"):
        theirs = torch.tensor(golden[draw][key])
        if theirs.numel():
            difference = (torch.tensor(made[key]) - theirs).abs().max() / theirs.abs().max()
            assert difference <= draws.DRAWS[draw], key


def write() -> None:
    made: dict[str, Any] = {"provenance": {
        "made by": "transformers, in tests/parity/test_grid_goldens.py",
        "weights and inputs": "tests/families/grid_draws.py", "transformers": hf.__version__,
        "torch": torch.__version__.partition("+")[0],
    }}  # fmt: skip
    for kind in draws.KINDS:
        for draw in draws.DRAWS:
            with TemporaryDirectory() as folder:
                one = derived(Path(folder), kind, draw)
            made.setdefault(kind, {"positions": one.pop("positions")})[draw] = one
            one.pop("positions", None)
    FILE.write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    write()
