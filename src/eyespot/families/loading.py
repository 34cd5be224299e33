"""`load`: a folder or hub id to a model, recognised from its files alone, strictly."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from eyespot.contracts.contract import Contract
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError, nearest
from eyespot.families import adapting, sidefiles
from eyespot.families.family import Family, Json, Loaded, ModelConfig, build
from eyespot.families.sealed import contract_of
from eyespot.families.table import DESCRIBED, all_families, family_of
from eyespot.families.vocabulary import check_rows, grow
from eyespot.inputs.bytepairs import has_pairs
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import MODEL_FILES, Tokenizer
from eyespot.models.dual import DualConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.runtime.log import log
from eyespot.weights import hub, peft, seal
from eyespot.weights.files import Tensors, has_weights, load_into, read_tensors

PARTS = {
    "vision_encoder": ("vision_encoder.",),
    "connector": ("connector.", "deep_connectors."),
    "decoder": ("decoder.", "lm_head."),
}
Parts = Mapping[str, str | PathLike[str]]


@dataclass
class Checkpoint:
    """An opened checkpoint: everything known, no weight read yet. Tensors are mapped, under our names."""

    folder: Path
    family: Family
    layout: str
    config: Any
    files: dict[str, Any]
    tensors: MutableMapping[str, Tensor]
    unexpected: list[str]
    sources: dict[str, str]


def load(
    path_or_id: str | PathLike[str],
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    parts: Parts | None = None,
    verify: bool = False,
    layout: str | None = None,
    adapter: str | PathLike[str] | None = None,
    pixels: Literal["exact", "fast"] | None = None,
) -> Loaded:
    """A checkpoint with its processor and contract.

    Args:
        path_or_id: a folder, or a hub id; of a model, or of an adapter that names its model.
        dtype: ``"auto"`` keeps what is stored; else a torch dtype or its name.
        device: where the weights go.
        parts: checkpoints that supply or replace parts: ``{"vision_encoder": path, "connector": …, "decoder": …}``.
        verify: check every file's sha256 again, and warn of weights that are not finite.
        layout: the layout to read it as, where its tensor names should not decide.
        adapter: folder or id of a LoRA in PEFT's format, put onto the model's layers without changing them.
        pixels: how pictures are prepared; None: as the checkpoint's contract says.

    Raises:
        EyespotError: ``contract-mismatch`` naming the fields in which the files and the sealed contract differ;
            ``checkpoint-…``, ``unknown-family``, ``family-config``, ``hub-unavailable``, ``adapter-…`` and what the
            tokenizer's files may raise; the message names the file or key.
    """
    path_or_id, adapter = adapting.base_and_adapter(path_or_id, adapter)
    opened = open_checkpoint(path_or_id, parts=parts or {}, verify=verify, layout=layout)
    tokenizer = _tokenizer(opened, parts or {})
    contract = contract_of(
        opened.folder, opened.family, opened.layout, opened.config, opened.files, tokenizer, replaced=bool(parts)
    )
    contract = contract if pixels is None else contract.with_pixels(pixels)
    check_rows(tokenizer, opened.config, str(opened.folder))  # before a weight is read or a row added
    extra = dict(opened.files)
    if opened.family.layouts[opened.layout].adds_image_token and tokenizer is not None:
        extra["vocab_size"] = opened.config.decoder.vocab_size
        contract = _add_image_token(opened, tokenizer, contract)
    module, form = build(opened.config, "meta"), opened.family.layouts[opened.layout]
    load_into(
        module, opened.tensors, str(opened.folder), dtype=number_type(dtype) or form.dtype, device=device,
        unexpected=opened.unexpected, their_name=form.keymap(opened.config).their_name,
    )  # fmt: skip
    if verify:
        _warn_of_nonfinite(module, str(opened.folder))
    loaded = Loaded(
        module=module.eval(), processor=Processor(contract, tokenizer), contract=contract,
        family=opened.family.name, layout=opened.layout, extra=extra, parts=opened.sources,
        generation=dict(opened.files.get("generation_config.json", {})), source=str(path_or_id),
    )  # fmt: skip
    if opened.layout == "eyespot" and peft.holds_adapter(opened.folder):
        adapting.put_adapters(loaded, opened.folder, [opened.family])
    if adapter is not None:
        kin = [opened.family, *(f for f in all_families() if f is not opened.family and f.holds(opened.config))]
        adapting.put_adapters(loaded, adapting.checked(adapter, loaded, verify), kin)
    return loaded


def open_checkpoint(
    path_or_id: str | PathLike[str], *, parts: Parts | None = None, verify: bool = False, layout: str | None = None
) -> Checkpoint:
    """Find out what a checkpoint is and map its tensors, without reading weights. Arguments as of `load`."""
    folder = hub.resolve(path_or_id if isinstance(path_or_id, str) else Path(path_or_id))
    seal.check(folder, verify)
    files = sidefiles.read(folder)
    raw, stored = _config_and_tensors(folder, files, parts or {})
    family = family_of(raw, where=str(folder))
    try:
        supplied, sources = _supplied(raw, family, tuple(stored), parts or {})
        config = family.config_from_hf(raw, tuple(stored), {name: part.config for name, part in supplied.items()})
    except EyespotError as error:
        raise error.at(str(folder)) from None
    layout = layout or family.layout_of(raw, tuple(stored), config)
    if layout not in family.layouts:
        raise EyespotError("argument", f"unknown layout {layout!r}{nearest(layout, family.layouts)}", where="layout")
    keymap = family.layouts[layout].keymap(config)
    tensors = keymap.deferred(stored)
    opened = Checkpoint(folder, family, layout, config, files, tensors, keymap.unknown(stored), sources)
    for name, part in supplied.items():
        _put(opened, name, part, replace=name in (parts or {}))
    return opened


def _config_and_tensors(folder: Path, files: dict[str, Any], parts: Parts) -> tuple[Json, Mapping[str, Tensor]]:
    """The weights and their config.json, or what a family makes of a folder that has none it could read."""
    raw = files.get("config.json")
    known = raw is not None and (raw.get("model_type") is not None or not _other_configs(files))
    if known or not has_weights(folder):
        if raw is None:
            raise EyespotError("checkpoint-missing", "no config.json here", where=str(folder))
        family_of(raw, where=str(folder))  # an unknown one is said before missing weights are
        return raw, _stored_tensors(folder, parts)
    stored = read_tensors(folder)
    try:
        described = (family_of({"model_type": name}).describe for name in DESCRIBED)
        raw = next((found for describe in described if describe and (found := describe(files, stored))), None)
    except EyespotError as error:
        raise error.at(str(folder)) from None
    except (KeyError, IndexError, StopIteration) as error:
        message = f"the weights are not whole: {error} is what their config would follow from"
        raise EyespotError("checkpoint-keys", message, where=str(folder)) from error
    if raw is None:
        raise EyespotError("checkpoint-missing", "no config.json here", where=str(folder))
    files["config.json"] = raw
    return raw, stored


def _other_configs(files: Mapping[str, Any]) -> bool:
    names = {layout.config_name for name in DESCRIBED for layout in family_of({"model_type": name}).layouts.values()}
    return bool((names - {"config.json"}) & files.keys())


@dataclass
class Part:
    """One part of another checkpoint, its tensors under the names that they have in a whole model."""

    config: Any
    tensors: dict[str, Tensor]
    files: dict[str, Any]
    folder: Path


def open_part(name: str, path_or_id: str | PathLike[str]) -> Part:
    """A part of a checkpoint that may be a whole model, two towers, or that part alone.

    Raises:
        EyespotError: ``argument`` for an unknown part, ``compose-mismatch`` where the checkpoint has no such part.
    """
    if name not in PARTS:
        raise EyespotError("argument", f"unknown part {name!r}{nearest(name, PARTS)}", where="parts")
    opened = open_checkpoint(path_or_id)
    config, tensors = _part_config(name, opened.config), opened.tensors
    where = str(opened.folder)
    if opened.unexpected:
        raise EyespotError("checkpoint-keys", f"unexpected: {', '.join(opened.unexpected[:6])}", where=where)
    if isinstance(opened.config, VitConfig):
        tensors = {f"vision_encoder.{key}": tensor for key, tensor in tensors.items()}
    tensors = {key: tensors[key] for key in tensors if key.startswith(PARTS[name])}
    if config is None or not tensors:
        raise EyespotError("compose-mismatch", f"this {opened.family.name} checkpoint has no {name}", where=where)
    if isinstance(config, VitConfig):  # a tower inside a larger model has no place for the contrastive projection
        projects = config.pool == "mean_query"
        config = config.replace(projection_size=None, **({"pool": "none"} if projects else {}))
        gone = ("vision_encoder.projection.", *(["vision_encoder.pool."] if projects else []))
        tensors = {key: t for key, t in tensors.items() if not key.startswith(gone)}
    return Part(config, tensors, opened.files, opened.folder)


def _part_config(name: str, config: ModelConfig) -> Any:
    if isinstance(config, VitConfig):
        return config if name == "vision_encoder" else None
    if isinstance(config, DualConfig):
        return config.vision if name == "vision_encoder" else None
    return {"vision_encoder": config.vision, "connector": config.connector, "decoder": config.decoder}[name]


def _supplied(
    raw: Json, family: Family, names: tuple[str, ...], parts: Parts
) -> tuple[dict[str, Part], dict[str, str]]:
    """The parts asked for, and those that the checkpoint needs but does not hold."""
    supplied = {name: open_part(name, path) for name, path in parts.items()}
    sources = {name: str(path) for name, path in parts.items()}
    for name, source in (family.absent(raw, names) if family.absent else {}).items():
        if name in supplied:
            continue
        remedy = f"Pass parts={{{name!r}: PATH}} with the checkpoint that it comes from."
        if not source:
            raise EyespotError("checkpoint-missing", f"no {name} in this checkpoint, and none named", remedy=remedy)
        try:
            supplied[name] = open_part(name, source)
        except EyespotError as error:
            message = f"no {name} in this checkpoint; it names {source!r}: {error.message}"
            raise EyespotError(error.code, message, remedy=remedy) from error
        sources[name] = source
    return supplied, sources


def _put(opened: Checkpoint, name: str, part: Part, replace: bool) -> None:
    """Let a part fill what the checkpoint lacks, or take the place of what it has."""
    if not isinstance(opened.config, VlmConfig):
        raise EyespotError("compose-mismatch", f"a {opened.family.name} checkpoint takes no part {name}", where="parts")
    held = [key for key in opened.tensors if key.startswith(PARTS[name])]
    if replace or not held:
        for key in held:
            del opened.tensors[key]
        opened.tensors.update(part.tensors)
        field = {"vision_encoder": "vision"}.get(name, name)
        opened.config = opened.config.replace(**{field: part.config})
    if name == "vision_encoder" and (replace or not sidefiles.image_processor(opened.files)):
        opened.files = sidefiles.with_image_processor(opened.files, sidefiles.image_processor(part.files))
    connector, wanted = opened.config.connector, opened.config
    if connector is not None and wanted.vision is not None:
        width = wanted.vision.hidden_size * len(wanted.select_layers)
        if (connector.input_size, connector.output_size) != (width, wanted.decoder.hidden_size):
            raise EyespotError(
                "compose-mismatch",
                f"the connector maps {connector.input_size} to {connector.output_size}, the parts have "
                f"{width} and {wanted.decoder.hidden_size}",
                where=f"parts[{name!r}]",
            )


def _stored_tensors(folder: Path, parts: Parts) -> Tensors:
    """The weights; a folder that has none is fine where parts supply everything but the connector's own file."""
    return Tensors([]) if "decoder" in parts and not has_weights(folder) else read_tensors(folder)


def _tokenizer(opened: Checkpoint, parts: Parts) -> Tokenizer | None:
    """The checkpoint's own, else that of the decoder it was given; None where there are no files."""
    if isinstance(opened.config, VitConfig):
        return None
    folders = [opened.folder, *(hub.resolve(parts[name]) for name in ("decoder",) if name in parts)]
    for folder in folders:
        if any((folder / name).is_file() for name in ("tokenizer.json", *MODEL_FILES)) or has_pairs(folder):
            return Tokenizer.load(folder)
    return None


def _add_image_token(opened: Checkpoint, tokenizer: Tokenizer, contract: Contract) -> Contract:
    token = contract.text.image_token or "<image>"
    used = min(tokenizer.vocab_size, opened.config.decoder.vocab_size)
    video = contract.text.video_token
    token_id, *others = tokenizer.add_tokens([token] if video is None else [token, video])
    opened.tensors, opened.config = grow(opened.tensors, opened.config, used, tokenizer.vocab_size)
    own = {"image_token": token, "image_token_id": token_id, "video_token_id": next(iter(others), None)}
    return contract.replace(text=contract.text.replace(**own))


def _warn_of_nonfinite(module: nn.Module, where: str) -> None:
    bad = [name for name, tensor in module.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        log.warning("%s: NaN or infinite weights in %s", where, ", ".join(bad[:8]))


def number_type(dtype: str | torch.dtype) -> torch.dtype | None:
    """A dtype by its name; None for ``auto``, which keeps what is stored."""
    if dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if dtype == "auto" else dtype
    known = {"float64", "float32", "float16", "bfloat16"}
    if dtype not in known:
        raise EyespotError("argument", f"unknown dtype {dtype!r}{nearest(str(dtype), known)}", where="dtype")
    return getattr(torch, dtype)
