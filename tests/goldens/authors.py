"""How far we are from the numbers of the authors' own code, kept for docs/parity.md: python -m tests.goldens.authors

The tests beside each family measure by `distance`, which notes the largest for each original and draw; this runs them
in one process and writes what was noted.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
TESTS = HERE.parent / "families"
# Golden: what it is of, its family, and the tests that hold us to it.
ORIGINALS = {
    "qwen_text": ("Qwen", "qwen", "test_qwen.py"),
    "qwen_visual": ("Qwen-VL-Chat", "qwen", "test_qwen_visual.py"),
    "internvl_chat": ("InternVLChatModel", "internvl", "test_internvl_original.py"),
    "internvl_c": ("InternVL-C and -G", "internvl_c", "test_internvl_c.py"),
    "intern_vit": ("InternViT", "intern_vit", "test_intern_vit.py"),
    "open_clip": ("open_clip: CLIP, SigLIP, BiomedCLIP", "open_clip", "test_open_clip_golden.py"),
}
FOUND: dict[str, dict[str, float]] = {}
BAR = {"small": 1e-5, "plain": 1e-5, "wide": 1e-4}  # by draw


def drawn(
    shapes: Mapping[str, Sequence[int]], case: Mapping[str, Any], unmoved: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Weights of a case, parameter by parameter in the order of their names.

    Args:
        shapes: by the authors' names.
        case: its seed, its scale and the gain of matrices and kernels.
        unmoved: words in names that the gain leaves alone: tables, and what attention compares, as a softmax far from
            zero would make noise of fp32's last digits.
    """
    rng, tensors = np.random.RandomState(case["seed"]), {}
    for name, shape in sorted(shapes.items()):
        moved = len(shape) >= 2 and not any(word in name for word in unmoved)
        values = case.get("scale", 0.2) * rng.standard_normal(tuple(shape)) * (case.get("gain", 1) if moved else 1)
        values = values + (1 if len(shape) == 1 and name.endswith("weight") else 0)
        tensors[name] = torch.from_numpy(np.asarray(values)).float()
    return tensors


def picture(width: int, height: int, k: int = 0) -> np.ndarray:
    """A pattern of which no two places are alike nearby; number `k` of its size."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * 7 + y * 13 + c * 50 + x * y * (k + 1)) % 256).astype(np.uint8)


def distance(ours: torch.Tensor, theirs: Any, original: str = "", draw: str = "") -> float:
    """Largest difference ÷ largest number of theirs; noted where an original is named."""
    ours = torch.as_tensor(ours).double()
    expected = torch.as_tensor(theirs, dtype=torch.float64).view(ours.shape)
    found = float((ours - expected).abs().max() / expected.abs().max())
    if original:
        noted = FOUND.setdefault(original, {})
        noted[draw] = max(noted.get(draw, 0.0), found)
    return found


def rows() -> list[dict[str, Any]]:
    """What was noted, for the page."""
    return json.loads((HERE / "authors.json").read_text("utf-8"))


def main() -> None:
    """Run the tests, and write what they noted if they pass."""
    from tests.goldens import authors  # the module that the tests import, which this one may not be

    files = [str(TESTS / file) for _, _, file in ORIGINALS.values()]
    if pytest.main(["-q", "-p", "no:xdist", "-p", "no:cacheprovider", *files]):
        raise SystemExit("nothing is written: tests fail")
    written = [
        {"golden": golden, "original": name, "family": family, "differences": authors.FOUND[golden]}
        for golden, (name, family, _) in ORIGINALS.items()
    ]
    (HERE / "authors.json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
