"""BERT's ``vocab.txt`` as a ``tokenizer.json``: one token a line, words cut greedily into the longest pieces.

Which characters are cleaned away, split and lowered follows `transformers` tokenization_bert.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from eyespot.errors import EyespotError
from eyespot.runtime.small_files import read_text

VOCABULARY = "vocab.txt"
SPECIALS = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


def tokenizer_json_from_vocabulary(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The content of ``tokenizer.json``, and what a ``tokenizer_config.json`` that lacks it should say.

    Args:
        path: of the vocabulary.
        config: of the tokenizer: ``do_lower_case``, ``strip_accents``, ``tokenize_chinese_chars``, special tokens.

    Raises:
        EyespotError: ``tokenizer-token`` naming a special token that the vocabulary lacks.
    """
    lines = read_text(path).split("\n")
    vocabulary = {line: i for i, line in enumerate(lines if lines[-1] else lines[:-1])}
    named = {name: _content(config.get(name), token) for name, token in SPECIALS.items()}
    absent = [token for name, token in named.items() if token not in vocabulary and name != "mask_token"]
    if absent:
        raise EyespotError("tokenizer-token", f"the vocabulary has no {', '.join(absent)}", where=str(path))
    lower = bool(config.get("do_lower_case", True))
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=named["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        strip_accents=config.get("strip_accents"),
        lowercase=lower,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = named["cls_token"], named["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(token, vocabulary[token]) for token in (cls, sep)],
    )
    backend.decoder = decoders.WordPiece(prefix="##")
    known = [token for token in named.values() if token in vocabulary]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in known])
    found = {name: token for name, token in named.items() if token in vocabulary}
    return backend.to_str(), {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, **found}


def _content(token: Any, usual: str) -> str:
    token = token.get("content") if isinstance(token, Mapping) else token
    return token if isinstance(token, str) else usual
