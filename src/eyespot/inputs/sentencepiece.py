"""Reads a SentencePiece model (``tokenizer.model``, ``spiece.model``) into the form of ``tokenizer.json``.

For checkpoints in their authors' own layout, which often hold nothing else. Neither `sentencepiece` nor `protobuf` is
needed: the file is a list of pieces with scores and a handful of settings, and the few fields are read here by their
numbers (github.com/google/sentencepiece, src/sentencepiece_model.proto).
"""

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eyespot.errors import EyespotError
from eyespot.runtime.small_files import read_bytes

UNIGRAM, BPE = 1, 2
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
SPACE = "▁"


def tokenizer_json_from_model(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Content of ``tokenizer.json``, and what of ``tokenizer_config.json`` the model itself tells.

    Args:
        path: the model file.
        config: content of ``tokenizer_config.json``, or empty.
    """
    try:
        pieces, trainer, normalizer = _read(read_bytes(path))
        kind = trainer.get(3, UNIGRAM)
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise EyespotError("checkpoint-corrupt", f"not a SentencePiece model: {error}", where=str(path)) from None
    if kind not in (UNIGRAM, BPE) or not pieces:
        raise EyespotError("tokenizer-missing", f"SentencePiece model of kind {kind} is not read", where=str(path))
    named = {
        "unk_token": _named(pieces, trainer.get(40, 0), UNKNOWN),
        "bos_token": _named(pieces, trainer.get(41, 1), CONTROL),
        "eos_token": _named(pieces, trainer.get(42, 2), CONTROL),
        "pad_token": _named(pieces, trainer.get(43, -1), CONTROL),
    }
    found = {name: token for name, token in named.items() if token}
    # BPE models of this kind begin with BOS (Llama), unigram models end with EOS (T5, SigLIP).
    found["add_bos_token"], found["add_eos_token"] = kind == BPE, kind == UNIGRAM
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, *piece) for i, piece in enumerate(pieces) if piece[2] in (2, 3, 4)],
        "normalizer": _normalizer(kind, normalizer),
        "pre_tokenizer": _metaspace(kind, normalizer, config),
        "post_processor": None,
        "decoder": _decoder(kind),
        "model": _bpe(pieces, named["unk_token"]) if kind == BPE else _unigram(pieces),
    }
    return json.dumps(data, ensure_ascii=False), found


# -- the model in tokenizer.json's form --------------------------------------------------------------------------------


def _named(pieces: list[tuple[str, float, int]], index: int, kind: int) -> str | None:
    return pieces[index][0] if 0 <= index < len(pieces) and pieces[index][2] == kind else None


def _added(index: int, piece: str, _: float, kind: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": piece, **flags, "special": kind != USER_DEFINED}


def _bpe(pieces: list[tuple[str, float, int]], unknown: str | None) -> dict[str, Any]:
    """The merge that makes a piece ranks by the piece's score; every split into two pieces is a merge."""
    vocabulary = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    merges = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score, _ in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    return {
        "type": "BPE",
        "vocab": vocabulary,
        "merges": [[left, right] for _, _, left, right in sorted(merges)],
        "unk_token": unknown,
        "fuse_unk": True,
        "byte_fallback": "<0x00>" in vocabulary,
    }


def _unigram(pieces: list[tuple[str, float, int]]) -> dict[str, Any]:
    unknown = next((i for i, piece in enumerate(pieces) if piece[2] == UNKNOWN), None)
    vocabulary = [[piece, score] for piece, score, _ in pieces]
    fallback = any(piece == "<0x00>" for piece, _, _ in pieces)
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": fallback}


def _normalizer(kind: int, settings: Mapping[int, Any]) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if settings.get(2):
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(settings[2]).decode()})
    if settings.get(4, 1):  # remove_extra_whitespaces
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _metaspace(kind: int, settings: Mapping[int, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A space before the text as trained; before each stretch between special tokens under ``legacy`` only."""
    scheme = "never"
    if settings.get(3, 1) and config.get("add_prefix_space") is not False:
        scheme = "always" if config.get("legacy") or kind == UNIGRAM else "first"
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": kind == UNIGRAM}


def _decoder(kind: int) -> dict[str, Any]:
    if kind == UNIGRAM:
        return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
    steps = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {"type": "Sequence", "decoders": steps}


# -- the file ----------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> tuple[list[tuple[str, float, int]], dict[int, Any], dict[int, Any]]:
    """Pieces (text, score, kind), and the settings of trainer and normaliser by field number."""
    pieces, trainer, normalizer = [], {}, {}
    for number, value in _fields(data):
        if number == 1:
            piece = dict(_fields(value))
            score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
            pieces.append((piece[1].decode(), score, piece.get(3, 1)))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    # Ids that are absent (-1) are written as unsigned 64-bit numbers.
    return pieces, {k: v - (1 << 64) if isinstance(v, int) and v >> 63 else v for k, v in trainer.items()}, normalizer


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values of a protocol buffer message: integers, or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, position = data[position : position + size], position + size
        elif wire == 2:
            size, position = _varint(data, position)
            value, position = data[position : position + size], position + size
            if len(value) < size:
                raise ValueError("the file ends within a field")
        else:
            raise ValueError(f"wire type {wire}")
        yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        result |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return result, position
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
