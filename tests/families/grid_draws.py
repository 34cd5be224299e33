"""Configs, weights and inputs that `transformers` and we were given; its numbers are tests/goldens/grids.json.

Everything follows from a name by NumPy's `RandomState`, whose stream is frozen, so that the file holds nothing but what
came out. Two draws, as in tests/parity/references.py. Sequences are written as runs: a number of text tokens, or the
grid of a picture in patches; a grid with a word behind it is of a time of a video.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from eyespot import families
from tests.families.makers import family_named

DRAWS = {"small": 1e-5, "wide": 1e-4}  # and the largest difference allowed, as a share of the largest number
IMAGE, VIDEO = 70, 71

_TEXT = {
    "vocab_size": 80, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
_TOWER = {
    "depth": 3, "num_heads": 2, "in_channels": 3, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
    "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32,
}  # fmt: skip
_TOKENS = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 72, "vision_end_token_id": 73,
}  # fmt: skip
_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2]}
_TURNS = {"rope_type": "default", "mrope_section": [4, 1, 1], "mrope_interleaved": True}
KINDS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {
        **_TEXT, **_TOKENS, "model_type": "qwen2_vl", "rope_theta": 1e6, "rope_scaling": _ROPE,
        "vision_config": _TOWER | {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2, "hidden_act": "quick_gelu"},
    },
    "qwen2_5_vl": {
        **_TEXT, **_TOKENS, "model_type": "qwen2_5_vl", "rope_theta": 1e6, "rope_scaling": _ROPE,
        "vision_config": _TOWER | {
            "hidden_act": "silu", "window_size": 16, "fullatt_block_indexes": [1], "tokens_per_second": 2,
        },
    },
    "qwen3_vl": {
        **_TOKENS, "model_type": "qwen3_vl", "tie_word_embeddings": False,
        "text_config": _TEXT | {"head_dim": 12, "rope_theta": 5e6, "rope_scaling": _TURNS},
        "vision_config": _TOWER | {
            "hidden_act": "gelu_pytorch_tanh", "num_position_embeddings": 9, "deepstack_visual_indexes": [0, 2],
        },
    },
}  # fmt: skip
Run = int | tuple[int, int] | tuple[int, int, str]
RUNS: dict[str, tuple[Run, ...]] = {
    "qwen2_vl": (3, (4, 10), 2, (2, 6), 4),
    "qwen2_5_vl": (3, (4, 10), 2, (6, 6), 4),
    "qwen3_vl": (3, (4, 10), 2, (2, 6), 1, (4, 2, "video"), 3, (4, 2, "video"), 4),
}
ROWS = 3  # the last logits are kept, and the first features


def numbers(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def weight(name: str, shape: tuple[int, ...], draw: str) -> torch.Tensor:
    """The parameter that a checkpoint calls `name`."""
    values = numbers(name).randn(*shape) * 0.2
    table = any(word in name for word in ("embed", "lm_head"))
    if draw == "wide" and len(shape) > 1 and not table and "qkv" not in name:
        values *= 2.5
    quiet = ("embed", "o_proj", "down_proj", "fc2", ".attn.proj.", "mlp.2.")
    if draw == "small" and any(word in name for word in quiet):
        values *= 1e-2
    return torch.from_numpy(values + (1.0 if len(shape) == 1 and name.endswith("weight") else 0.0)).float()


def checkpoint(folder: Path, kind: str, draw: str) -> families.Loaded:
    """The files that both read, and what we make of them."""
    raw, family = KINDS[kind], family_named(kind)
    config = family.config_from_hf(raw, (), {})
    shapes = family.layouts["hf"].keymap(config).to_theirs(families.build(config, "meta").state_dict())
    made = {name: weight(name, tuple(t.shape), draw) for name, t in shapes.items()}
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(raw))
    return families.load(folder)


def sequence(kind: str) -> tuple[np.ndarray, list[tuple[str, tuple[int, int, int], np.ndarray, np.ndarray]]]:
    """Token ids, and of each picture or time of a video its kind, grid, slots and raw patches."""
    ids: list[int] = []
    media = []
    for i, run in enumerate(RUNS[kind]):
        source = numbers(f"{kind} {i}")
        if isinstance(run, int):
            ids += source.randint(0, IMAGE, run).tolist()
            continue
        count, name = run[0] * run[1], "video" if len(run) > 2 else "image"
        slots = np.arange(len(ids), len(ids) + count // 4)
        media.append((name, (1, run[0], run[1]), slots, source.randn(count, 96).astype(np.float32)))
        ids += [VIDEO if name == "video" else IMAGE] * (count // 4)
    return np.array(ids), media
