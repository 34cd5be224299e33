"""New tokens: rows of the embedding table and of the head, starting as the mean of the old rows."""

from typing import TypeVar

import torch

from eyespot.contracts.shapes import Tensor
from eyespot.models.vlm import VlmConfig

_TABLES = ("decoder.embed_tokens.weight", "lm_head.weight")
_Tensors = TypeVar("_Tensors", bound=dict[str, Tensor])


def grow(tensors: _Tensors, config: VlmConfig, vocab_size: int, multiple: int = 64) -> tuple[_Tensors, VlmConfig]:
    """Make room for ids below `vocab_size`, rounded up to a multiple; what is large enough stays as it is."""
    old = config.decoder.vocab_size
    if vocab_size <= old:
        return tensors, config
    size = -(-vocab_size // multiple) * multiple
    for name in _TABLES:
        if name in tensors:
            table = tensors[name]
            mean = table.float().mean(0, keepdim=True).to(table.dtype)
            tensors[name] = torch.cat([table, mean.expand(size - len(table), -1)])
    return tensors, config.replace(decoder=config.decoder.replace(vocab_size=size))


def shrink(tensors: _Tensors, config: VlmConfig, vocab_size: int) -> tuple[_Tensors, VlmConfig]:
    """Leave out the rows from `vocab_size` on."""
    tensors |= {name: tensors[name][:vocab_size] for name in _TABLES if name in tensors}
    return tensors, config.replace(decoder=config.decoder.replace(vocab_size=vocab_size))
