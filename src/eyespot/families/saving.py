"""`save`: a model to a folder, complete or not at all, in a layout that can express it."""

import shutil
from os import PathLike
from pathlib import Path

from eyespot.errors import EyespotError, nearest
from eyespot.families import eyespot_native
from eyespot.families.exporting import Export
from eyespot.families.family import Loaded
from eyespot.families.loading import all_families
from eyespot.families.placing import check_place, put_in_place, workplace
from eyespot.families.vocabulary import check_rows
from eyespot.weights import seal
from eyespot.weights.files import SHARD_BYTES, read_json, write_json, write_tensors, write_text


def save(
    loaded: Loaded,
    path: str | PathLike[str],
    layout: str | None = None,
    *,
    card: str | None = None,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a self-contained checkpoint: weights, config, tokenizer, processor files, contract and checksums.

    Args:
        loaded: the model.
        path: a folder. A checkpoint that was saved there before is replaced when the new one is complete, and stays
            as it was if anything fails; files that a save did not write are left alone.
        layout: ``hf``, ``original``, ``eyespot``, or one of a family's own; None: the one that it came in.
        card: text of README.md.
        max_shard_bytes: larger models are cut into files of at most this size, with an index.

    Raises:
        EyespotError: ``checkpoint-exists`` where the folder holds files of a checkpoint that a save did not write,
            ``layout-unsupported`` naming the part that the layout cannot express, ``tokenizer-mismatch`` where tokens
            were added without rows for them; nothing is written.
    """
    path = Path(path).resolve()  # a link to a folder stays one
    check_place(path, {"README.md"} if card is not None else ())
    check_rows(loaded.tokenizer, loaded.config)
    export = _export(loaded, layout or loaded.layout)
    texts, tensors = export.texts, export.tensors  # what cannot be expressed fails here, before the first byte
    try:
        work = workplace(path)
    except OSError as error:
        raise EyespotError("argument", f"cannot write here: {error.strerror}", where=str(path)) from error
    try:
        write_tensors(work, tensors, max_shard_bytes)
        if loaded.tokenizer is not None:
            loaded.tokenizer.save(work)
        for name, content in texts.items():
            write_text(work / name, content) if isinstance(content, str) else write_json(work / name, content)
        if card is not None:
            write_text(work / "README.md", card)
        if "chat_template.jinja" in texts:
            _drop_old_template(work / "tokenizer_config.json", texts["chat_template.jinja"])
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
