"""Reads ``vocab.json`` and ``merges.txt`` (byte-level BPE in the form of Qwen2's slow tokenizer) as ``tokenizer.json``.

Checkpoints of authors who work with slow tokenizers often hold nothing else (InternVL with a Qwen2 decoder). How text
is split before merging is in no file but in the tokenizer's class, so only classes whose split is known are read.
Upstream: transformers tokenization_qwen2.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from eyespot.errors import EyespotError
from eyespot.runtime.small_files import read_json, read_text

FILES = ("vocab.json", "merges.txt")
_SPLITS = {
    "Qwen2Tokenizer": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def has_pairs(folder: Path) -> bool:
    """Whether both files are there, of a class whose split is known."""
    return all((folder / name).is_file() for name in FILES) and _class(folder) in _SPLITS


def _class(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    return str(config.get("tokenizer_class") if isinstance(config, Mapping) else None).removesuffix("Fast")


def tokenizer_json_from_pairs(folder: Path) -> str:
    """Content of ``tokenizer.json``.

    Raises:
        EyespotError: ``checkpoint-corrupt`` for files that are no vocabulary and no list of merges.
    """
    vocabulary = read_json(folder / "vocab.json")
    lines = read_text(folder / "merges.txt").splitlines()
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    known = isinstance(vocabulary, Mapping) and all(isinstance(i, int) for i in vocabulary.values())
    if not known or not all(len(pair) == 2 for pair in merges):
        raise EyespotError("checkpoint-corrupt", "no vocabulary with merges of two pieces", where=str(folder))
    split = {"type": "Split", "pattern": {"Regex": _SPLITS[_class(folder)]}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
    return json.dumps(data, ensure_ascii=False)
