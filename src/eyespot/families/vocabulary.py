"""Tokens and the rows of the embedding table and of the head: whether they fit, and new rows for new tokens.

New rows start as the mean of the old ones.
"""

from collections.abc import MutableMapping
from copy import copy

import torch

from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.vlm import VlmConfig

_TABLES = ("decoder.embed_tokens.weight", "lm_head.weight")


def rows_of(config: Config) -> int | None:
    """Rows of the table in which a model looks tokens up; None where it takes no text."""
    if isinstance(config, VlmConfig):
        return config.decoder.vocab_size
    return config.text.vocab_size if isinstance(config, DualConfig) else None


def check_rows(tokenizer: Tokenizer | None, config: Config, where: str = "") -> None:
    """Refuse a tokenizer with tokens that the model's table has no rows for.

    More rows than tokens is how tables are padded. Special tokens above the table are how many a decoder's tokenizer
    was extended later (a ``<pad>`` above Llama 2's 32,000 rows). In conversations typed special tokens are text, so
    they do no harm unless a template writes one, which the processor refuses; in captions they are what they spell.

    Raises:
        EyespotError: ``tokenizer-mismatch`` naming the largest such id.
    """
    rows = rows_of(config)
    beyond = tokenizer.tokens_from(rows) if tokenizer is not None and rows is not None else {}
    if not beyond:
        return
    kept = () if isinstance(config, DualConfig) else tokenizer.special_tokens
    needed = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token)
    wrong = [token for token in beyond if token in needed or token not in kept]
    if wrong:
        message = (
            f"the tokenizer's ids go up to {beyond[wrong[-1]]:,} ({wrong[-1]!r}), the model's table has {rows:,} rows; "
            f"{len(wrong):,} tokens have none"
        )
        raise EyespotError("tokenizer-mismatch", message, where=where)


def check_image_token(
    token: str, token_id: int, tokenizer: Tokenizer, config: VlmConfig, key: str = "image_token_index"
) -> None:
    """Refuse a config whose image token (or another; `key` names it) is not the tokenizer's, or has no row.

    Raises:
        EyespotError: ``tokenizer-token`` with both ids.
    """
    own, size = tokenizer.id_of(token), config.decoder.vocab_size
    if own != token_id or token_id >= size:
        message = f"config.json says {key} {token_id} of {size}; the tokenizer has {token!r} as {own}"
        raise EyespotError("tokenizer-token", message)


def grow(
    tensors: MutableMapping[str, Tensor], config: VlmConfig, used: int, wanted: int, multiple: int = 64
) -> tuple[MutableMapping[str, Tensor], VlmConfig]:
    """Give ids from `used` to `wanted` the mean row; a table that is too small grows to a multiple.

    Args:
        tensors: under our names.
        config: of the model that they belong to.
        used: ids that had a meaning before.
        wanted: ids that have one now.
        multiple: table sizes that hardware likes.
    """
    old = config.decoder.vocab_size
    size = old if wanted <= old else -(-wanted // multiple) * multiple
    tensors = copy(tensors)
    for name in _TABLES if wanted > used else ():
        if name in tensors:
            table = tensors[name]
            mean = table[:used].float().mean(0, keepdim=True).to(table.dtype)
            new, kept = mean.expand(max(wanted - used, 0), -1), table[wanted:]
            tensors[name] = torch.cat([table[:used], new, kept, mean.expand(size - max(old, wanted), -1)])
    return tensors, config.replace(decoder=config.decoder.replace(vocab_size=size))


def shrink(tensors: dict[str, Tensor], config: VlmConfig, vocab_size: int) -> tuple[dict[str, Tensor], VlmConfig]:
    """Leave out the rows from `vocab_size` on."""
    tensors = tensors | {name: tensors[name][:vocab_size] for name in _TABLES if name in tensors}
    return tensors, config.replace(decoder=config.decoder.replace(vocab_size=vocab_size))
