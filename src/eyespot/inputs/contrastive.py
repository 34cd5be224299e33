"""Captions for dual encoders: cleaned, cut and padded as CLIP and SigLIP were trained (no mask tells padding apart).

Not for conversations. `clip` cleans nothing here: its tokenizer.json normalises by itself.
Upstream: transformers tokenization_siglip.py, big_vision's prompt_engineering.
"""

import re
import string
from collections.abc import Sequence

import numpy as np

from eyespot.contracts.contract import TextRule
from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_text(text: str, how: str) -> str:
    """`text` as `TextRule.clean` says: ``siglip`` is lower case without ASCII punctuation, single spaces.

    ``canonicalize`` takes underscores for spaces first, as SigLIP's authors and open_clip do, and `transformers` not.
    ``lower`` lowers each character by itself, as normalisers of `tokenizers` do: no final sigma.
    """
    if how == "lower":
        return "".join(map(str.lower, text))
    if how == "canonicalize":
        text = text.replace("_", " ")
    elif how != "siglip":
        return text
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def text_ids(texts: Sequence[str], tokenizer: Tokenizer, rule: TextRule) -> np.ndarray:
    """int64 (B, L): L is `rule.max_length` where texts are padded to it, else the longest."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise EyespotError("argument", "expected a list of texts")
    end = [tokenizer.id_of(rule.eos_token)] if rule.ends else []
    if None in end:
        raise EyespotError("tokenizer-token", f"texts end with {rule.eos_token!r}, which the tokenizer does not know")
    room = rule.max_length and rule.max_length - len(end)
    rows = [tokenizer.encode_cut(rule.prefix + clean_text(text, rule.clean), room) + end for text in texts]
    pad = next((i for t in (rule.pad_token, rule.eos_token) if (i := tokenizer.id_of(t)) is not None), None)
    length = rule.max_length if rule.pad_to_max and rule.max_length else max(map(len, rows))
    if pad is None and any(len(row) < length for row in rows):
        raise EyespotError("tokenizer-token", "texts of several lengths need a pad token, and there is none")
    return np.array([row + [pad] * (length - len(row)) for row in rows], np.int64)
