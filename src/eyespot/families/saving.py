"""`save`: a model to a folder, complete or not at all, in a layout that can express it."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from eyespot.contracts.contract import Contract
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError, nearest
from eyespot.families import eyespot_native, sidefiles
from eyespot.families.family import Context, Family, Loaded
from eyespot.families.loading import all_families, open_part, own_fields
from eyespot.families.vocabulary import shrink
from eyespot.models.vlm import VlmConfig
from eyespot.weights import seal
from eyespot.weights.files import SHARD_BYTES, read_json, write_json, write_tensors, write_text

# Spellings of the same thing in configs of several ages: a rewritten config must not keep the older beside the newer.
_SUPERSEDED = (
    "rope_theta", "rope_scaling", "rope_parameters", "text_config_dict", "vision_config_dict", "image_token_id",
)  # fmt: skip


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
        path: a folder; files in it that are not part of the checkpoint are left alone.
        layout: ``hf``, ``original``, ``eyespot``, or one of a family's own; None: the one that it came in.
        card: text of README.md.
        max_shard_bytes: larger models are cut into files of at most this size, with an index.

    Raises:
        EyespotError: ``layout-unsupported`` naming the part that the layout cannot express; nothing is written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise EyespotError("argument", "a file stands where the checkpoint's folder should be", where=str(path))
    family, layout = _target(loaded, layout)
    # Everything that can fail for want of expression comes before the first byte.
    texts, tensors = _content(loaded, family, layout)
    if card is not None:
        texts["README.md"] = card
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}."))
    try:
        write_tensors(work, tensors, max_shard_bytes)
        if loaded.tokenizer is not None:
            loaded.tokenizer.save(work)
        for name, content in texts.items():
            write_text(work / name, content) if isinstance(content, str) else write_json(work / name, content)
        if "chat_template.jinja" in texts:
            _drop_old_template(work / "tokenizer_config.json", texts["chat_template.jinja"])
        seal.seal(work, loaded.contract)
        _put_in_place(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _target(loaded: Loaded, layout: str | None) -> tuple[Family, str]:
    """The family and the layout to write."""
    own = next((f for f in all_families() if f.name == loaded.family), eyespot_native.FAMILY)
    layout = layout or loaded.layout
    if layout == "eyespot":
        return eyespot_native.FAMILY, layout
    if layout == "hf" and loaded.layout in own.layouts and loaded.layout.startswith("hf"):
        return own, loaded.layout  # the layout it came in is one of Hugging Face's
    if layout in own.layouts:
        return own, layout
    kin = [f for f in all_families() if f.holds(loaded.config)]
    able = [f for f in kin if layout in f.layouts]
    if not able:
        known = {"eyespot", *own.layouts, *(name for f in kin for name in f.layouts)}
        message = f"a {loaded.family} model has no layout {layout!r}{nearest(layout, known)}"
        raise EyespotError("layout-unsupported", message)
    problems = []
    for family in able:
        try:
            family.layouts[layout].config_to_hf(loaded.config, _context(loaded))
        except EyespotError as error:
            problems.append(error.message)
        else:
            return family, layout
    raise EyespotError("layout-unsupported", " · ".join(problems), where=f"layout {layout}")


def _content(loaded: Loaded, family: Family, layout: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Every small file but the tokenizer's, and the tensors under the layout's names."""
    config, ours = loaded.config, loaded.module.state_dict()
    form = family.layouts[layout]
    if form.adds_image_token and "vocab_size" in loaded.extra and loaded.layout == layout:
        ours, config = shrink(ours, config, loaded.extra["vocab_size"])
    same = family.name == loaded.family and layout == loaded.layout
    if same and layout == "original":
        ours = _without_borrowed(ours, loaded.parts)
    tensors = form.keymap(config).to_theirs(ours)
    dtype = next(iter(ours.values())).dtype
    texts = {"config.json": _config(loaded, family, layout, config, same, tuple(tensors), dtype)}
    if isinstance(config, VlmConfig):
        texts["generation_config.json"] = _generation(loaded)
    texts |= _processor_files(loaded, family, layout, config, same, texts)
    return texts, tensors


def _config(
    loaded: Loaded, family: Family, layout: str, config: Any, same: bool, names: tuple[str, ...], dtype: torch.dtype
) -> dict[str, Any]:
    """config.json: as it came where it still says what the model is, else written anew over the unknown keys."""
    fresh = family.layouts[layout].config_to_hf(config, _context(loaded))
    came = deepcopy(loaded.extra.get("config.json")) if same else None
    parts = {"vision_encoder": config.vision} if family.absent else {}

    def says(raw: Mapping[str, Any]) -> bool:
        token, theirs = fresh.get("image_token_index"), raw.get("image_token_index", raw.get("image_token_id"))
        return token in (None, theirs) and family.config_from_hf(raw, names, parts) == config

    if came is not None and not says(came):
        merged = _merged(_stripped(came), fresh)
        came = merged if says(merged) else None
    raw = fresh if came is None else came
    key = "torch_dtype" if "torch_dtype" in raw else "dtype"
    if key in raw or came is None:
        raw[key] = str(dtype).removeprefix("torch.")
    return raw


def _generation(loaded: Loaded) -> dict[str, Any]:
    """generation_config.json, with the contract's end tokens."""
    generation = dict(loaded.generation)
    stops = loaded.contract.text.stop_tokens
    if sidefiles.stop_tokens({"generation_config.json": generation}) != stops:
        generation["eos_token_id"] = list(stops) if len(stops) != 1 else stops[0]
    context = _context(loaded)
    for key, value in (("bos_token_id", context.bos), ("pad_token_id", context.pad)):
        if value is not None and not loaded.generation:
            generation[key] = value
    return generation


def _processor_files(
    loaded: Loaded, family: Family, layout: str, config: Any, same: bool, texts: Mapping[str, Any]
) -> dict[str, Any]:
    """Processor files and template: as they came where they still say what the contract is, else written anew.

    Raises:
        EyespotError: ``layout-unsupported`` where the published files cannot express the contract.
    """
    if family is eyespot_native.FAMILY:
        return {}
    came = {name: loaded.extra[name] for name in sidefiles.OWN if name in loaded.extra} if same else {}
    known = {name: loaded.extra[name] for name in ("tokenizer_config.json",) if name in loaded.extra and same}
    if same and _contract_of(came | known | texts, family, config, loaded) == loaded.contract:
        return came
    fresh = family.contract_to_hf(loaded.contract, config)
    again = _contract_of(fresh | texts, family, config, loaded)
    if family.layouts[layout].adds_image_token:  # it has no place for template and image token; pictures must agree
        again = again.replace(text=loaded.contract.text)
    try:
        loaded.contract.check_same(again)
    except EyespotError as error:
        raise EyespotError("layout-unsupported", f"the layout's processor files cannot say: {error.message}") from None
    return fresh


def _contract_of(files: Mapping[str, Any], family: Family, config: Any, loaded: Loaded) -> Contract:
    return own_fields(family.contract_from_hf(files, config, loaded.tokenizer), loaded.contract)


def _context(loaded: Loaded) -> Context:
    text, tokenizer = loaded.contract.text, loaded.tokenizer
    if tokenizer is None:
        return Context(None, None, text.stop_tokens, text.image_token_id, loaded.contract.image)
    bos, pad = tokenizer.id_of(tokenizer.bos_token), tokenizer.id_of(tokenizer.pad_token)
    return Context(bos, pad, text.stop_tokens, text.image_token_id, loaded.contract.image)


def _without_borrowed(ours: dict[str, Tensor], parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Leave out the tower that the checkpoint only names, as long as it still is that one."""
    if "vision_encoder" not in parts:
        return ours
    with suppress(EyespotError):
        borrowed = open_part("vision_encoder", parts["vision_encoder"]).tensors
        if all(key in ours and torch.equal(ours[key].cpu(), t.to(ours[key].dtype)) for key, t in borrowed.items()):
            return {key: t for key, t in ours.items() if not key.startswith("vision_encoder.")}
    return ours


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`, nested objects too; keys that only `old` has are kept."""
    result = dict(old)
    for key, value in new.items():
        nested = isinstance(value, Mapping) and isinstance(old.get(key), Mapping)
        result[key] = _merged(old[key], value) if nested else value
    return result


def _stripped(raw: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in raw.items() if key not in _SUPERSEDED}
    return {key: _stripped(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def _drop_old_template(path: Path, template: str) -> None:
    """A tokenizer's config that names another template than the file written beside it."""
    config = read_json(path) if path.is_file() else {}
    if config.get("chat_template", template) != template:
        del config["chat_template"]
        write_json(path, config)


def _put_in_place(work: Path, path: Path) -> None:
    """Move a finished folder to its name; into one that is there already, file by file, the seal last."""
    work.chmod(0o755)
    if not path.exists() or not any(path.iterdir()):
        work.replace(path)
        return
    new = {p.name for p in work.iterdir()}
    old = seal.recorded_files(path)
    for file in sorted(work.iterdir(), key=lambda p: p.name == seal.SEAL):
        file.replace(path / file.name)
    for name in old - new:
        (path / name).unlink(missing_ok=True)
