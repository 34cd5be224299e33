"""`save`: a model to a folder, complete or not at all, in a layout that can express it."""

import os
import shutil
import tempfile
from os import PathLike
from pathlib import Path

from eyespot.errors import EyespotError, nearest
from eyespot.families import eyespot_native, sidefiles
from eyespot.families.exporting import Export
from eyespot.families.family import Loaded
from eyespot.families.loading import all_families
from eyespot.families.vocabulary import check_rows
from eyespot.weights import seal
from eyespot.weights.files import SHARD_BYTES, is_weights, read_json, write_json, write_tensors, write_text


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
        path: a folder; a checkpoint in it is replaced, other files are left alone.
        layout: ``hf``, ``original``, ``eyespot``, or one of a family's own; None: the one that it came in.
        card: text of README.md.
        max_shard_bytes: larger models are cut into files of at most this size, with an index.

    Raises:
        EyespotError: ``layout-unsupported`` naming the part that the layout cannot express, ``tokenizer-mismatch``
            where tokens were added without rows for them; nothing is written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise EyespotError("argument", "a file stands where the checkpoint's folder should be", where=str(path))
    check_rows(loaded.tokenizer, loaded.config)
    export = _export(loaded, layout or loaded.layout)
    texts, tensors = export.texts, export.tensors  # what cannot be expressed fails here, before the first byte
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}."))
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
        _put_in_place(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _export(loaded: Loaded, layout: str) -> Export:
    """The model on its way into `layout`, of its own family or of one that can hold it."""
    if layout == "eyespot":
        return Export(loaded, eyespot_native.FAMILY, layout)
    own = next(f for f in all_families() if f.name == loaded.family)
    if layout == "hf" and loaded.layout.startswith("hf"):
        layout = loaded.layout  # one of Hugging Face's already
    if layout in own.layouts:
        return Export(loaded, own, layout)
    kin = [f for f in all_families() if f.holds(loaded.config)]
    able = [f for f in kin if layout in f.layouts]
    if not able:
        known = {"eyespot", *own.layouts, *(name for f in kin for name in f.layouts)}
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


def _put_in_place(work: Path, path: Path) -> None:
    """Move a finished folder to its name.

    A folder that holds nothing but a sealed checkpoint is exchanged as a whole. Among other files ours are exchanged
    one by one, the seal last: until then the old seal tells every reader that the folder is not whole.
    """
    mask = os.umask(0)
    os.umask(mask)
    work.chmod(0o777 & ~mask)
    there = {p.name for p in path.iterdir()} if path.exists() else set()
    if there <= seal.recorded_files(path) | {seal.SEAL}:
        old = work.with_name(f"{work.name}.old")
        if there:
            path.replace(old)
        work.replace(path)
        shutil.rmtree(old, ignore_errors=True)
        return
    new = {p.name for p in work.iterdir()}
    for name in sorted(new, key=lambda name: name == seal.SEAL):
        (work / name).replace(path / name)
    for name in there - new:
        if is_weights(name) or name in (*sidefiles.JSON_FILES, *sidefiles.OWN):
            (path / name).unlink(missing_ok=True)
