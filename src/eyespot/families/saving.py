"""`save`: a model to a folder, complete or not at all, in a layout that can express it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from eyespot.errors import EyespotError, nearest
from eyespot.families import eyespot_native
from eyespot.families.adapting import write_adapters
from eyespot.families.exporting import Export
from eyespot.families.family import Loaded
from eyespot.families.placing import check_place, put_in_place, workplace
from eyespot.families.table import all_families
from eyespot.families.vocabulary import check_rows
from eyespot.nn.adapters import adapters
from eyespot.weights import seal
from eyespot.weights.deferred import Deferred
from eyespot.weights.files import SHARD_BYTES, read_json, write_json, write_tensors, write_text


def save(
    loaded: Loaded,
    path: str | PathLike[str],
    layout: str | None = None,
    *,
    card: str | None = None,
    max_shard_bytes: int = SHARD_BYTES,
    weights: Deferred | None = None,
) -> None:
    """Write a self-contained checkpoint: weights, config, tokenizer, processor files, contract and checksums.

    Args:
        loaded: the model.
        path: a folder. A checkpoint that was saved there before is replaced when the new one is complete, and stays
            as it was if anything fails; files that a save did not write are left alone.
        layout: ``hf``, ``original``, ``eyespot``, or one of a family's own; None: the one that it came in.
        card: text of README.md.
        max_shard_bytes: larger models are cut into files of at most this size, with an index.
        weights: under our names, where the module itself is on the meta device; each is read when it is written.

    Raises:
        EyespotError: ``checkpoint-exists`` where the folder holds files of a checkpoint that a save did not write,
            ``layout-unsupported`` naming the part that the layout cannot express, ``tokenizer-mismatch`` where tokens
            were added without rows for them; nothing is written.
    """
    path = Path(path).resolve()  # a link to a folder stays one
    check_place(path, {"README.md"} if card is not None else ())
    check_rows(loaded.tokenizer, loaded.config)
    export = _export(loaded, layout or loaded.layout)
    if adapters(loaded.module) and export.layout != "eyespot":
        message = f"layout {export.layout!r} has no place for adapters"
        remedy = "Merge them first, or save the adapter alone (adapter=True)."
        raise EyespotError("layout-unsupported", message, remedy=remedy)
    texts, tensors = export.texts, export.tensors  # what cannot be expressed fails here, before the first byte
    if weights is not None:
        tensors = export.keymap.deferred_theirs(weights.ordered(export.ours))
    with _whole(path, loaded) as work:
        if adapters(loaded.module):
            write_adapters(work, loaded, export.keymap)
        write_tensors(work, tensors, max_shard_bytes, export.form.weights)
        if loaded.tokenizer is not None:
            loaded.tokenizer.save(work)
        for name, content in texts.items():
            name = export.form.config_name if name == "config.json" else name
            write_text(work / name, content) if isinstance(content, str) else write_json(work / name, content)
        if card is not None:
            write_text(work / "README.md", card)
        if "chat_template.jinja" in texts:
            _drop_old_template(work / "tokenizer_config.json", texts["chat_template.jinja"])


def save_adapter(loaded: Loaded, path: str | PathLike[str], layout: str | None = None) -> None:
    """Write the adapters of a model, and nothing else, in PEFT's format: what `load` and PEFT put onto the base again.

    Args:
        loaded: a model with adapters.
        path: a folder, as of `save`.
        layout: whose names the layers get; None: those of `transformers`' modules, or our own for our own models.

    Raises:
        EyespotError: ``adapter-format`` where there is no adapter or a layer is none in this layout, and as of `save`.
    """
    path = Path(path).resolve()
    if not adapters(loaded.module):
        raise EyespotError("adapter-format", "this model has no adapters", remedy="Train some, or load an adapter.")
    own = next(f for f in all_families() if f.name == loaded.family)
    layout = layout or own.modules or next(iter(own.layouts))
    if layout not in own.layouts:
        raise EyespotError("argument", f"unknown layout {layout!r}{nearest(layout, own.layouts)}", where="layout")
    check_place(path)
    with _whole(path, loaded) as work:
        write_adapters(work, loaded, own.layouts[layout].keymap(loaded.config))


@contextmanager
def _whole(path: Path, loaded: Loaded) -> Iterator[Path]:
    """A folder to fill, which is then sealed and put in place; nothing changes at `path` if anything fails."""
    try:
        work = workplace(path)
    except OSError as error:
        raise EyespotError("argument", f"cannot write here: {error.strerror}", where=str(path)) from error
    try:
        yield work
        seal.seal(work, loaded.contract)
        put_in_place(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _export(loaded: Loaded, layout: str) -> Export:
    """The model on its way into `layout`, of its own family or of one that can hold it."""
    if layout == "eyespot":
        return Export(loaded, eyespot_native.FAMILY, layout)
    own = next(f for f in all_families() if f.name == loaded.family)
    if layout == "hf" and loaded.layout.startswith("hf"):
        layout = loaded.layout  # one of Hugging Face's already
    kin = [own, *(f for f in all_families() if f is not own and f.holds(loaded.config))]
    able = [f for f in kin if layout in f.layouts]
    if not able:
        known = {"eyespot", *(name for f in kin for name in f.layouts)}
        message = f"a {loaded.family} model has no layout {layout!r}{nearest(layout, known)}"
        raise EyespotError("layout-unsupported", message)
    problems = []
    for family in able:
        try:
            return Export(loaded, family, layout)
        except EyespotError as error:
            problems.append(error.message)
    raise EyespotError("layout-unsupported", " · ".join(problems), where=f"layout {layout}")


def _drop_old_template(path: Path, template: str) -> None:
    """A tokenizer's config that holds another template than the file written beside it."""
    config = read_json(path) if path.is_file() else {}
    if config.get("chat_template", template) != template:
        del config["chat_template"]
        write_json(path, config)
