"""Reads a vocabulary of ranked byte strings (``qwen.tiktoken``) into the form of ``tokenizer.json``.

Each line holds a byte string in base 64 and its rank, which is its id; what else a tokenizer is made of stands in the
authors' code: how text is cut before merging, and the control tokens behind the last rank. Two neighbours merge where
what they make has a rank, the lowest rank first. `tokenizers` wants pairs instead: every cut of a string into two that
have ranks is one. Of the cuts of one string only one can ever come up, as what merges inside it does not depend on what
stands around it, so that the others change nothing.

Qwen: Bai et al. 2023, tokenization_qwen.py, which also names the tokens around pictures and places.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

from eyespot.errors import EyespotError
from eyespot.runtime.small_files import read_bytes, read_json


@dataclass(frozen=True)
class Surroundings:
    """What stands in the authors' code beside a file of ranks.

    Attributes:
        pattern: the stretches that merges stay within.
        controls: control tokens, in order of ids behind the last rank.
        marks: tokens behind these that callers and answers write as they write text, of a model that takes pictures.
        picture: control tokens around and inside a picture, behind the marks.
        end: the control token that ends a text.
    """

    pattern: str
    controls: tuple[str, ...]
    marks: tuple[str, ...]
    picture: tuple[str, ...]
    end: str


FILES = {
    "qwen.tiktoken": Surroundings(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))),
        ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"),
        ("<img>", "</img>", "<imgpad>"),
        "<|endoftext|>",
    ),
}


def tokenizer_json_from_ranks(path: Path) -> tuple[str, dict[str, Any]]:
    """Content of ``tokenizer.json``, and what ``tokenizer_config.json`` leaves to the authors' code.

    Args:
        path: the file of ranks. Whether the model takes pictures is read from the ``config.json`` beside it, as the
            file is the same for both.
    """
    surroundings, ranks = FILES[path.name], _ranks(path)
    config = path.parent / "config.json"
    pictures = config.is_file() and bool((read_json(config) or {}).get("visual"))
    letters = _letters()
    spelled = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    special = dict.fromkeys(surroundings.controls, True)
    if pictures:
        special |= dict.fromkeys(surroundings.marks, False) | dict.fromkeys(surroundings.picture, True)
    split = {"type": "Split", "pattern": {"Regex": surroundings.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    data = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "NFC"},
        "added_tokens": [_added(len(ranks) + i, token, kind) for i, (token, kind) in enumerate(special.items())],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "vocab": {spelled[piece]: rank for piece, rank in ranks.items()},
            "merges": [[spelled[left], spelled[right]] for left, right in _pairs(ranks)],
            # A stretch that has a rank is one token, whether merges lead there or not.
            "ignore_merges": True, "byte_fallback": False, "fuse_unk": False,
        },
    }  # fmt: skip
    return json.dumps(data, ensure_ascii=False), {"eos_token": surroundings.end, "pad_token": surroundings.end}


def _ranks(path: Path) -> Mapping[bytes, int]:
    """Byte strings in order of their ranks, which count from 0 without gaps; every single byte is one of them."""
    try:
        lines = [line.split() for line in read_bytes(path).splitlines() if line]
        ranks = {base64.b64decode(piece, validate=True): int(rank) for piece, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise EyespotError("checkpoint-corrupt", f"not a file of ranks: {error}", where=str(path)) from None
    lost = [bytes([byte]) for byte in range(256) if bytes([byte]) not in ranks]
    if sorted(ranks.values()) != list(range(len(lines))) or lost:
        message = f"expected a rank from 0 up for each of {len(lines):,} byte strings, and for every single byte"
        raise EyespotError("checkpoint-corrupt", message, where=str(path))
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def _pairs(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every cut of a string into two that have ranks, in order of the whole's rank."""
    return [
        (piece[:cut], piece[cut:])
        for piece in ranks
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    ]


def _letters() -> list[str]:
    """The character that `tokenizers` writes each byte as: printable ones as they are, the rest from U+0100 on."""
    plain = {byte for byte in range(256) if chr(byte) in pre_tokenizers.ByteLevel.alphabet()}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _added(index: int, token: str, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": token, **flags, "special": special}
