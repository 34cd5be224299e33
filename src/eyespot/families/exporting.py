"""What a save writes: small files and tensors of a model in one layout. Nothing here touches the disk.

A file that the checkpoint came with is written as it came, as long as it still says what the model and its contract
are; else it is written anew over the keys that we do not know. Whether a layout can express something is not argued
but tried: what is written must read back as what it was written from.
"""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from eyespot.contracts.contract import Contract
from eyespot.contracts.shapes import Tensor
from eyespot.errors import EyespotError
from eyespot.families import eyespot_native, sidefiles
from eyespot.families.family import Context, Family, Loaded
from eyespot.families.loading import open_part
from eyespot.families.sealed import own_fields
from eyespot.families.vocabulary import shrink
from eyespot.models.vlm import VlmConfig
from eyespot.nn.adapters import own_parameters

# Spellings of the same thing in configs of several ages: a rewritten config must not keep the older beside the newer.
_SUPERSEDED = (
    "rope_theta", "rope_scaling", "rope_parameters", "text_config_dict", "vision_config_dict", "image_token_id",
)  # fmt: skip


@dataclass
class Export:
    """One model on its way into one layout.

    Raises:
        EyespotError: ``layout-unsupported``, from either property, naming what the layout cannot express.
    """

    loaded: Loaded
    family: Family
    layout: str

    def __post_init__(self) -> None:
        loaded, self.form = self.loaded, self.family.layouts[self.layout]
        # What came with the checkpoint is of use only in the layout that it came in.
        self.same = (self.family.name, self.layout) == (loaded.family, loaded.layout)
        self.came: dict[str, Any] = deepcopy(loaded.extra) if self.same else {}
        self.ours, self.config = own_parameters(loaded.module), loaded.config
        if self.form.adds_image_token and "vocab_size" in self.came:
            self.ours, self.config = shrink(self.ours, self.config, self.came["vocab_size"])
        self.keymap = self.form.keymap(self.config)
        self.fresh = self.form.config_to_hf(self.config, self._context())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights under the layout's names, without what the checkpoint only names."""
        return self.keymap.to_theirs({name: t for name, t in self.ours.items() if name not in self._borrowed})

    @cached_property
    def texts(self) -> dict[str, Any]:
        """JSON objects and texts by file name; the tokenizer writes its own."""
        files = {"config.json": self._config()}
        generation = self._generation()
        if generation:
            files["generation_config.json"] = generation
        return files | self._processor_files(files)

    def _says(self, raw: Mapping[str, Any]) -> bool:
        """Whether a config.json means this model."""
        parts = {"vision_encoder": self.config.vision} if self.family.absent else {}
        token, theirs = (r.get("image_token_index", r.get("image_token_id")) for r in (self.fresh, raw))
        if not self._says_tiles(raw):
            return False
        if any(raw.get(key, absent) != self.fresh.get(key, absent) for key, absent in self.form.of_contract.items()):
            return False
        names = tuple(self.keymap.their_name(name) for name in self.ours)
        return token in (None, theirs) and self.family.config_from_hf(raw, names, parts) == self.config

    def _says_tiles(self, raw: Mapping[str, Any]) -> bool:
        """Whether a config.json by itself means the contract's tiles, in whatever spelling."""
        image = self.loaded.contract.image
        if image is None or image.tiling is None:
            return True
        came = self.came.get("processor_config.json", {})
        tokens = {key: came[key] for key in ("image_token", "video_token") if key in came}
        names = {"processor_config.json": tokens, "tokenizer_config.json": self.came.get("tokenizer_config.json", {})}
        with suppress(EyespotError):
            again = self._contract_of({"config.json": raw, **names}).image
            return again is not None and again.tiling == image.tiling
        return False

    def _config(self) -> dict[str, Any]:
        raw = self.came.get("config.json")
        if raw is not None and not self._says(raw):
            raw = _merged(_stripped(raw), self.fresh)
            raw = raw if self._says(raw) else None
        if raw is None:
            raw = self.fresh | {"dtype": None}
        elif self.form.adds_image_token and not self._borrowed:
            raw.setdefault("vision_config", self.fresh["vision_config"])
        dtype = str(next(iter(self.ours.values())).dtype).removeprefix("torch.")
        return raw | {key: dtype for key in ("dtype", "torch_dtype") if key in raw}

    def _generation(self) -> dict[str, Any]:
        """generation_config.json, with the contract's end tokens."""
        if not isinstance(self.config, VlmConfig):
            return {}
        generation, context = dict(self.loaded.generation), self._context()
        source = {"config.json": self.came.get("config.json", {}), "generation_config.json": generation}
        fresh = not generation and not self.came
        if fresh:
            known = {"bos_token_id": context.bos, "pad_token_id": context.pad}
            generation = {key: value for key, value in known.items() if value is not None}
        if fresh or sidefiles.stop_tokens(source, self.loaded.tokenizer) != context.stops:
            generation["eos_token_id"] = sidefiles.one_or_many(context.stops)
        return generation

    def _processor_files(self, files: dict[str, Any]) -> dict[str, Any]:
        """Processor files and template."""
        if self.family is eyespot_native.FAMILY:
            return {}
        contract = self.loaded.contract
        came = {name: self.came[name] for name in sidefiles.OWN if name in self.came}
        tokenizers = {name: self.came[name] for name in ("tokenizer_config.json",) if name in self.came}
        if self.same:
            with suppress(EyespotError):  # files that contradict the config written now
                if self._contract_of(came | tokenizers | files) == contract:
                    return came
        fresh = (self.form.contract_to_hf or self.family.contract_to_hf)(contract, self.config)
        again = self._contract_of(fresh | files)
        if self.form.adds_image_token:  # no place for the template and the image token; pictures must agree
            again = again.replace(text=contract.text)
        try:
            contract.check_same(again)
        except EyespotError as error:
            message = f"its processor files cannot say: {error.message}"
            raise EyespotError("layout-unsupported", message, where=f"layout {self.layout}") from None
        return fresh

    def _contract_of(self, files: Mapping[str, Any]) -> Contract:
        contract = self.family.contract_from_hf(files, self.config, self.loaded.tokenizer)
        return own_fields(contract, self.loaded.contract)

    def _context(self) -> Context:
        text, tokenizer = self.loaded.contract.text, self.loaded.tokenizer
        bos = tokenizer.id_of(tokenizer.bos_token) if tokenizer else None
        pad = tokenizer.id_of(tokenizer.pad_token) if tokenizer else None
        return Context(
            bos, pad, text.stop_tokens, text.image_token_id, self.loaded.contract.image, tokenizer, text.video_token_id,
            text.max_length, text.template,
        )  # fmt: skip

    @cached_property
    def _borrowed(self) -> set[str]:
        """Tensors of a tower that the checkpoint only names, as long as they still are that tower's."""
        source = self.loaded.parts.get("vision_encoder")
        if not (self.form.adds_image_token and source and self._says(self.came.get("config.json", {}))):
            return set()
        with suppress(EyespotError):
            theirs, ours = open_part("vision_encoder", source).tensors, self.ours
            if all(torch.equal(ours[name].cpu(), t.to(ours[name].dtype)) for name, t in theirs.items()):
                return set(theirs)
        return set()


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
