"""New tokens: rows of the embedding table and of the head, starting as the mean of the old rows."""

import torch

from eyespot.contracts.shapes import Tensor
from eyespot.models.vlm import VlmConfig

_TABLES = ("decoder.embed_tokens.weight", "lm_head.weight")


def grow(
    tensors: dict[str, Tensor], config: VlmConfig, used: int, wanted: int, multiple: int = 64
) -> tuple[dict[str, Tensor], VlmConfig]:
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
    tensors = dict(tensors)
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
