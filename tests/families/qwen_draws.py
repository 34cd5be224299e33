"""Weights, prompts and pictures that were given to the code of Qwen's authors and to ours; its numbers are goldens.

Everything follows from a name and a seed by NumPy's `RandomState`, whose stream is frozen, so that the files hold
nothing but what came out. Two draws, as for `transformers` (tests/parity/references.py).
"""

import zlib

import numpy as np
import torch

DRAWS = {"small": 1e-5, "wide": 1e-4}  # and the largest difference allowed, as a share of the largest number

TEXT = {
    "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": 80, "hidden_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "kv_channels": 16, "intermediate_size": 80,
    "layer_norm_epsilon": 1e-6, "no_bias": True, "rotary_emb_base": 10000, "rotary_pct": 1.0, "seq_length": 16,
    "max_position_embeddings": 128, "use_dynamic_ntk": True, "use_logn_attn": True, "tie_word_embeddings": False,
}  # fmt: skip
# What else a case says, and how many tokens it has; 16 are the trained length.
TEXTS = {
    "short": ({}, 12), "trained": ({}, 16), "three": ({}, 20), "seven": ({}, 40),
    "no log-n": ({"use_logn_attn": False}, 40), "no growth": ({"use_dynamic_ntk": False}, 40),
    "biased": ({"no_bias": False, "use_logn_attn": False, "use_dynamic_ntk": False}, 20),
}  # fmt: skip
PROMPT, ANSWER = 20, 24  # of the greedy answer, which grows beyond the next doubling


def numbers(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def weight(name: str, shape: tuple[int, ...], draw: str) -> torch.Tensor:
    """The parameter that the authors' code calls `name`."""
    values = numbers(name).randn(*shape) * 0.2
    norm = len(shape) == 1 and name.endswith("weight")
    table = any(word in name for word in ("wte", "lm_head", "positional_embedding", "pos_embed", "query"))
    if draw == "wide" and len(shape) > 1 and not table and "c_attn" not in name and "in_proj" not in name:
        values *= 2.5
    if draw == "small" and (any(w in name for w in ("wte", "c_proj", "out_proj", "ln_pre")) or name.endswith(".proj")):
        values *= 1e-2
    return torch.from_numpy(values + (1.0 if norm and "ln_pre" not in name else 0.0)).float()


def ids(name: str, count: int, vocab: int) -> list[int]:
    return numbers(name).randint(0, vocab, count).tolist()


def rows(count: int) -> list[int]:
    """The positions whose logits are kept."""
    return [count // 2, count - 1]


# What sees: two heads of the resampler, a tower whose table of 16 × 16 positions is stretched to 24 × 24 patches.
PIECES = [bytes([i]) for i in range(256)] + [b"re", b" re", b"\n\n", b" t", b" th", b" the", b"er", b"us", b"user"]
FIRST = len(PIECES)  # control tokens stand behind them
VISUAL = {
    "heads": 2, "image_size": 96, "image_start_id": FIRST + 214, "layers": 2, "mlp_ratio": 2.6, "output_dim": 256,
    "patch_size": 4, "width": 32, "n_queries": 16,
}  # fmt: skip
SEEING = TEXT | {
    "vocab_size": FIRST + 220, "hidden_size": 256, "kv_channels": 64, "intermediate_size": 96, "seq_length": 64,
    "max_position_embeddings": 512, "visual": VISUAL,
}  # fmt: skip
PICTURES = {"a": (60, 33), "b": (5, 3), "c": (400, 21), "d": (96, 96)}  # width and height
# Turns of questions and answers; a picture is its name in a list.
TALKS = {
    "one picture": [[["a"], "What is in the picture?"]],
    "a tiny picture": [[["b"], "그림?"]],
    "two pictures": [["First ", ["c"], "and ", ["d"], "which is <ref>the red one</ref>?"]],
    "no picture": [["What is  red?"]],
    "two turns": [[["d"], "What?"], "A <ref>star</ref><box>(1,20),(300,999)</box>.", ["And left of it?"]],
}  # fmt: skip
COLUMNS = slice(0, None, 5)  # of the logits that are kept
FEATURES = (slice(0, None, 5), slice(0, None, 9))  # of what the resampler gives for a picture


def pixels(name: str) -> np.ndarray:
    width, height = PICTURES[name]
    return numbers(f"picture {name}").randint(0, 256, (height, width, 3)).astype(np.uint8)
