"""`Model`: what `eyespot.load` gives. Chat, stream, trace, contrastive vectors; one request at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch

from eyespot import families
from eyespot.contracts.batch import Batch, MediaBatch
from eyespot.contracts.message import Message
from eyespot.contracts.protocols import Reply, Usage
from eyespot.contracts.shapes import Float, Int, Tensor
from eyespot.data.packing import media_batch, pack
from eyespot.engine.features import PatchFeatures, patch_features
from eyespot.engine.generate import Sampling, answer_packed, decode
from eyespot.errors import EyespotError, nearest
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import as_list, read_messages
from eyespot.inputs.patches import prepare_image
from eyespot.models.dual import DualEncoder
from eyespot.models.encoders.vit import VisionEncoder
from eyespot.models.vlm import VisionLanguageModel
from eyespot.nn.adapters import merge

PIXELS = ("exact", "fast")  # ways to prepare a picture


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The whole-sequence logits of one conversation: the ground of parity and proof."""

    input_ids: Tensor  # (T,)
    position_ids: Tensor  # (A, T)
    logits: Tensor  # (T, V)


class Model:
    """A loaded checkpoint: module, processor and contract together.

    Args:
        loaded: what `families.load` or `families.compose` gives.
    """

    def __init__(self, loaded: families.Loaded) -> None:
        self.loaded = loaded
        self.module = loaded.module.eval()
        self.processor = loaded.processor
        self.contract = loaded.contract

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    # ------------------------------------------------------------------------------------------------------- answering

    def chat(
        self,
        text_or_messages: Any,
        images: Any = (),
        max_new_tokens: int = 256,
        temperature: float = 0,
        seed: int | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Reply:
        """One answer.

        Args:
            text_or_messages: a string, or messages `[{"role", "content"}]` with content a string or parts.
            images: pictures, or one, for a plain string (they go before it) or for parts `{"type": "image"}` that hold
                none.
            max_new_tokens: the answer ends there with finish_reason ``length``.
            temperature: 0 is greedy; only the end tokens of a checkpoint's generation config are used.
            seed: makes a draw repeatable.
            tools: OpenAI-shaped tool descriptions, where the template takes them.
            template: replaces the checkpoint's chat template.
            variables: further ones that the template knows, such as ``{"add_vision_id": True}`` (Qwen-VL).

        Raises:
            EyespotError: for every fault of the input, with what to do.
        """
        prompt = self._prompt(text_or_messages, images, tools, template, variables)
        tokens, room = self._tokens(prompt, max_new_tokens, temperature, seed)
        ids = list(tokens)
        reason = "length" if len(ids) == room else "stop"
        return Reply(self._text(ids), reason, Usage(prompt.segments.tokens, len(ids)))

    def stream(
        self,
        text_or_messages: Any,
        images: Any = (),
        max_new_tokens: int = 256,
        temperature: float = 0,
        seed: int | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """As `chat`, giving the text piece by piece; the pieces joined are the reply's text."""
        prompt = self._prompt(text_or_messages, images, tools, template, variables)
        return self._pieces(self._tokens(prompt, max_new_tokens, temperature, seed)[0])

    def generate(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int = 32) -> list[Reply]:
        """Greedy answers to many conversations in packed batches (the `Generator` protocol)."""
        module = self._vlm("generate")
        encoded = [
            self.processor.encode(messages, sample_id=str(i), add_generation_prompt=True)
            for i, messages in enumerate(prompts)
        ]
        room = min([max_new_tokens, *(self._room(len(e.input_ids)) for e in encoded)])
        answers = answer_packed(module, encoded, self._stops(), room)
        return [
            Reply(self._text(ids), "stop" if stopped else "length", Usage(len(e.input_ids), len(ids)))
            for e, (ids, stopped) in zip(encoded, answers, strict=True)
        ]

    @torch.inference_mode()
    def trace(
        self,
        messages: Any,
        images: Any = (),
        add_generation_prompt: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Logits of every position of one conversation."""
        module = self._vlm("trace")
        asked = {"add_generation_prompt": add_generation_prompt, "variables": variables}
        encoded = self.processor.encode(read_messages(messages, images), **asked)
        batch = pack([encoded]).to(self.device)
        return Trace(batch.input_ids, batch.position_ids, module.logits(module(batch).last))

    # ---------------------------------------------------------------------------------------------- vectors of pictures

    @torch.inference_mode()
    def encode_images(self, images: Any, queried: bool = False) -> Float[Tensor, "B D"]:
        """One vector for each picture (paths, PIL images, uint8 arrays, bytes, URLs).

        Of two towers: unit vectors in their common space. Of an image tower alone (DINOv2, ViT, CLIP's): the pooled
        vector as the published model gives it, of any length: only a common space says that length means nothing.
        `queried` (InternVL-G): joined with what the text tower's queries see of them.
        """
        if isinstance(self.module, VisionEncoder):
            return self.module.pooled(self._pictures(images))
        return self._dual("encode_images").encode_images(self._pictures(images), queried)

    @torch.inference_mode()
    def features(self, images: Any, layers: Sequence[int] = (-1,), norm: bool = False) -> PatchFeatures:
        """Patch features of any layer, with their grid: what the vision encoder sees at each place of a picture.

        Args:
            images: pictures, as of `encode_images`; prepared as the contract says.
            layers: indices into the L + 1 hidden states, as Hugging Face counts them: 0 goes into the first block, -1
                comes out of the last one.
            norm: let the encoder's final norm follow (``last_hidden_state`` of DINOv2 and ViT, whose layer is -1).

        Returns:
            `values` (layers, N, E) and the grids; `maps()` gives (layers, rows, columns, E) for each picture or tile.

        Raises:
            EyespotError: ``not-supported`` for a model without a vision encoder, or one without a final norm;
                ``argument`` for a layer that there is not.
        """
        encoder = getattr(self.module, "vision_encoder", self.module)
        if not hasattr(encoder, "features"):
            raise EyespotError("not-supported", f"this {self.loaded.family} model has no vision encoder")
        return patch_features(encoder, self._pictures(images), layers, norm)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """Unit vectors of texts, cleaned and padded as the contract says."""
        dual = self._dual("encode_texts")
        texts = [texts] if isinstance(texts, str) else list(texts)
        return dual.encode_texts(self._text_ids(texts))

    @torch.inference_mode()
    def similarity(self, images: Any, texts: Sequence[str]) -> Float[Tensor, "I J"]:
        """Logits of every picture with every text, as the published model gives them."""
        dual = self._dual("similarity")
        return dual.similarity(self.encode_images(images), self.encode_texts(texts))

    # -------------------------------------------------------------------------------------------------------- adapters

    def merge(self) -> "Model":
        """Add the adapters to the weights of their layers and take them off; this model, the same up to rounding.

        The sum is made in float32 and rounded once to each weight's own dtype.
        """
        if merge(self.module):
            self.loaded.source = ""
        return self

    # ----------------------------------------------------------------------------------------------------------- inside

    def _pictures(self, images: Any) -> MediaBatch:
        """Pictures prepared by the contract, as the encoder takes them."""
        rule = self.contract.image
        if rule is None:
            raise EyespotError("not-supported", f"this {self.loaded.family} model takes no pictures")
        items = [
            prepare_image(decode_image(image, rule=rule, name=f"image {i}"), rule)
            for i, image in enumerate(as_list(images))
        ]
        if not items:
            raise EyespotError("argument", "expected at least one image, got none", where="images")
        return media_batch(items).to(self.device)

    def _text_ids(self, texts: list[str]) -> Int[Tensor, "B l"]:
        return torch.as_tensor(self.processor.encode_texts(texts), device=self.device)

    def _prompt(
        self, text_or_messages: Any, images: Any, tools: Any, template: str | None, variables: Mapping[str, Any] | None
    ) -> Batch:
        self._vlm("chat")
        messages = read_messages(text_or_messages, images)
        asked = {"tools": tools, "template": template, "variables": variables}
        encoded = self.processor.encode(messages, add_generation_prompt=True, **asked)
        return pack([encoded]).to(self.device)

    def _room(self, tokens: int) -> int:
        """How many tokens may follow a prompt: beyond the positions that the model knows it only babbles."""
        decoder = self._vlm("chat").config.decoder
        stretched = decoder.rope.factor if decoder.rope.type in ("linear", "dynamic") else 1.0
        limit = int(decoder.max_position_embeddings * stretched)
        if tokens >= limit:
            message = f"the conversation has {tokens:,} tokens, the model takes fewer than {limit:,}"
            remedy = "Shorten the text, or use fewer pictures."
            raise EyespotError("too-long", message, where="messages", remedy=remedy)
        return limit - tokens

    def _tokens(
        self, prompt: Batch, max_new_tokens: int, temperature: float, seed: int | None
    ) -> tuple[Iterator[int], int]:
        """The tokens of an answer as they come, and how many there is room for."""
        sampling = _sampling(max_new_tokens, temperature, seed)
        room = min(max_new_tokens, self._room(prompt.segments.tokens))
        return decode(self._vlm("chat"), prompt, self._stops(), room, sampling), room

    def _pieces(self, tokens: Iterator[int]) -> Iterator[str]:
        """Text as it grows; a character whose bytes are not all there yet waits."""
        ids: list[int] = []
        given = ""
        for token in tokens:
            ids.append(token)
            text = self._text(ids)
            if not text.endswith("\ufffd") and len(text) > len(given) and text.startswith(given):
                yield text[len(given) :]
                given = text
        rest = self._text(ids)[len(given) :]
        if rest:
            yield rest

    def _text(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special=True)

    def _stops(self) -> frozenset[int]:
        stops = set(self.contract.text.stop_tokens)
        if not stops and self.contract.text.eos_token is not None:
            eos = self.processor.tokenizer.id_of(self.contract.text.eos_token)
            stops = {eos} if eos is not None else set()
        return frozenset(stops)

    def _vlm(self, verb: str) -> VisionLanguageModel:
        if isinstance(self.module, VisionLanguageModel):
            return self.module
        raise EyespotError(
            "not-supported",
            f"{verb} needs a model with a decoder; this is a {self.loaded.family} model, which has none",
            remedy="Use encode_images, encode_texts, similarity or features, or load a LLaVA-like model.",
        )

    def _dual(self, verb: str) -> DualEncoder:
        if isinstance(self.module, DualEncoder):
            return self.module
        raise EyespotError(
            "not-supported",
            f"{verb} needs a contrastive model with two towers; this is a {self.loaded.family} model",
            remedy="Load a CLIP or SigLIP checkpoint.",
        )


def _sampling(max_new_tokens: int, temperature: float, seed: int | None) -> Sampling:
    if max_new_tokens < 1:
        raise EyespotError("argument", f"expected at least 1, got {max_new_tokens}", where="max_new_tokens")
    if not 0 <= temperature < float("inf"):
        raise EyespotError("argument", f"expected a number from 0 up, got {temperature}", where="temperature")
    return Sampling(float(temperature), seed)


def load(
    path_or_hub_id: str | PathLike[str],
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "auto",
    pixels: str | None = None,
    parts: Mapping[str, str | PathLike[str]] | None = None,
    verify: bool = False,
    adapter: str | PathLike[str] | None = None,
) -> Model:
    """A checkpoint, recognised from its files, ready to answer.

    Args:
        path_or_hub_id: a folder, or an id on the hub; of a model, or of a LoRA adapter that names its model.
        device: where the weights go.
        dtype: ``"auto"`` keeps the stored type; else a torch dtype or its name, such as ``"float32"``.
        pixels: ``"exact"``: bit-equal to the reference's PIL preprocessing; ``"fast"``: quicker, and no value of a
            picture further than 1 of 255 from that. None: as the checkpoint's contract says, which is exact unless
            it was saved otherwise. What is chosen is part of the contract and of its id.
        parts: paths that supply or replace parts, such as ``{"vision_encoder": path}``.
        verify: check every file's sha256 again.
        adapter: folder or id of a LoRA in PEFT's format, for this model; `Model.merge` makes it part of the weights.

    Raises:
        EyespotError: what is wrong with the checkpoint, where, and what to do.
    """
    if pixels not in (None, *PIXELS):
        raise EyespotError("argument", f"unknown pixels {pixels!r}{nearest(str(pixels), PIXELS)}", where="pixels")
    how = {"dtype": _dtype(dtype), "device": device, "parts": parts, "verify": verify}
    return Model(families.load(path_or_hub_id, **how, adapter=adapter, pixels=pixels))


def save(model: Model, path: str | PathLike[str], layout: str | None = None, adapter: bool = False) -> None:
    """Write a self-contained checkpoint, or the adapter of one.

    Args:
        model: what to write.
        path: a folder, made where there is none. A checkpoint that was saved there before is replaced when the new one
            is complete, edits of its files included, and stays as it was if anything fails. Other files in the folder
            are left alone.
        layout: ``hf``, ``original`` (the authors' own, where the family has one) or ``eyespot``; by default the one
            that the model came in. A model with adapters goes out merged (`Model.merge`), or in ``eyespot``.
        adapter: write the model's adapter alone, in PEFT's format, under the names that `transformers` has for its
            layers; `layout` says otherwise.

    Raises:
        EyespotError: ``checkpoint-exists`` where the folder holds files of a checkpoint that `save` did not write, such
            as a downloaded one; ``layout-unsupported`` naming the part that the layout cannot express. Nothing is
            written then.
    """
    write = families.save_adapter if adapter else families.save
    write(model.loaded, path, layout)


def compose(
    vision: str | PathLike[str],
    decoder: str | PathLike[str],
    connector: str = "mlp2x_gelu",
    select_layer: int = -2,
    tiles: Sequence[tuple[int, int]] | None = None,
) -> Model:
    """A LLaVA from published parts: an image tower, a language model, and a fresh connector between them.

    Arguments as of `families.compose`; with `tiles` it is a LLaVA-NeXT.
    """
    return Model(families.compose(vision, decoder, connector, select_layer, tiles=tiles))


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    name = dtype.removeprefix("torch.")
    if name not in known:
        raise EyespotError("argument", f"unknown dtype {dtype!r}{nearest(name, [*known, 'auto'])}", where="dtype")
    return known[name]
