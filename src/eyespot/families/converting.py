"""`convert`: a checkpoint to another layout, number type or file size, without the model in memory.

The module stands on the meta device, where loading is as strict and a layout refuses as much as ever; each tensor is
read when it is written.
"""

from os import PathLike

from eyespot.families.adapting import base_and_adapter
from eyespot.families.loading import Checkpoint, load, number_type, open_checkpoint
from eyespot.families.saving import save
from eyespot.families.table import all_families
from eyespot.weights import peft
from eyespot.weights.deferred import Deferred
from eyespot.weights.files import SHARD_BYTES


def convert(
    path_or_id: str | PathLike[str],
    out: str | PathLike[str],
    *,
    layout: str | None = None,
    dtype: str | None = None,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a checkpoint anew.

    Where one side is a layout that lacks parts or tokens which the other has (the authors' LLaVA), or where there is an
    adapter, whole tables change, and the model is loaded for it.

    Args:
        path_or_id: a folder, or a hub id.
        out: the folder, as of `save`.
        layout: as of `save`.
        dtype: of all weights; None: as each is stored.
        max_shard_bytes: larger models are cut into files of at most this size, with an index.

    Raises:
        EyespotError: as of `load` and `save`.
    """
    wide = "auto" if dtype is None else dtype
    if base_and_adapter(path_or_id, None)[1] is not None:
        save(load(path_or_id, dtype=wide), out, layout, max_shard_bytes=max_shard_bytes)
        return
    opened = open_checkpoint(path_or_id)
    if not isinstance(opened.tensors, Deferred) or _whole(opened, layout):
        save(load(path_or_id, dtype=wide), out, layout, max_shard_bytes=max_shard_bytes)
        return
    number = number_type(wide) or opened.family.layouts[opened.layout].dtype
    loaded = load(path_or_id, dtype=wide, device="meta")
    save(loaded, out, layout, max_shard_bytes=max_shard_bytes, weights=opened.tensors.cast(number))


def _whole(opened: Checkpoint, layout: str | None) -> bool:
    """Whether more than names and shapes change on the way."""
    adds = opened.family.layouts[opened.layout].adds_image_token
    kin = [opened.family, *(f for f in all_families() if f.holds(opened.config))]
    writer = next((f for f in kin if layout in f.layouts), None)
    adds |= writer is not None and writer.layouts[layout].adds_image_token
    return adds or bool(opened.sources) or peft.holds_adapter(opened.folder)
