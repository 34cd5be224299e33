"""open_clip's layouts against what open_clip itself gave: vectors of pictures and texts, and logits, on three draws."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import eyespot
from tests.goldens.authors import distance

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "open_clip.json").read_text("utf-8"))
CASES = GOLDEN["cases"]
BAR = {"small": 1e-5, "plain": 1e-5, "wide": 1e-4}


def pictures(side: int) -> list[np.ndarray]:
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    return [((x * 7 + y * 13 + c * 50 + x * y * (k + 1)) % 256).astype(np.uint8) for k in range(3)]


def load(folder: Path, case: dict, **changes: dict) -> eyespot.Model:
    """A case as open_clip writes it, with some sections of its model's config changed."""
    rng, tensors = np.random.RandomState(case["seed"]), {}
    for name, shape in sorted(case["shapes"].items()):
        values = case["scale"] * rng.standard_normal(tuple(shape))
        moved = len(shape) >= 2 and not any(word in name for word in GOLDEN["unmoved"])
        values = values * (case["gain"] if moved else 1) + (1 if len(shape) == 1 and name.endswith("weight") else 0)
        tensors[name] = torch.from_numpy(np.asarray(values)).float()
    save_file(tensors, folder / "open_clip_model.safetensors")
    model = {key: {**part, **changes.get(key, {})} if isinstance(part, dict) else part
             for key, part in case["config"]["model_cfg"].items()}  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(case["config"] | {"model_cfg": model}))
    return eyespot.load(folder)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_vectors_and_logits_are_those_of_open_clip(name, tmp_path):
    case, draw = CASES[name], name.rpartition("-")[2]
    model = load(tmp_path, case)
    images, texts = model.encode_images(pictures(case["size"])), model.module.encode_texts(torch.tensor(case["ids"]))
    for key, ours in (("images", images), ("texts", texts), ("logits", model.module.similarity(images, texts))):
        assert distance(ours, case[key], "open_clip", draw) <= BAR[draw], key


@pytest.mark.parametrize(("name", "changes"), [
    ("clip-plain", {"vision_cfg": {"head_width": 24}}),
    ("clip-text-wide", {"text_cfg": {"heads": 2}}),
    ("siglip-small", {"text_cfg": {"norm_kwargs": {"eps": 1e-5}}}),
    ("siglip-plain", {"text_cfg": {"no_causal_mask": False}}),
    ("biomed-plain", {"text_cfg": {"hf_pooler_type": "mean_pooler"}}),
])  # fmt: skip
@torch.no_grad()
def test_a_wrong_word_of_the_config_is_seen(name, changes, tmp_path):
    case, draw = CASES[name], name.rpartition("-")[2]
    model = load(tmp_path, case, **changes)
    images, texts = model.encode_images(pictures(case["size"])), model.module.encode_texts(torch.tensor(case["ids"]))
    assert max(distance(images, case["images"]), distance(texts, case["texts"])) > BAR[draw]
