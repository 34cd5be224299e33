"""open_clip's layouts against what open_clip itself gave: vectors of pictures and texts, and logits, on three draws."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import eyespot
from tests.goldens.authors import BAR, distance, drawn, picture

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "open_clip.json").read_text("utf-8"))
CASES = GOLDEN["cases"]


def pictures(side: int) -> list[np.ndarray]:
    return [picture(side, side, k) for k in range(3)]


def load(folder: Path, case: dict, **changes: dict) -> eyespot.Model:
    """A case as open_clip writes it, with some sections of its model's config changed."""
    tensors = drawn(case["shapes"], case, GOLDEN["unmoved"])
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
