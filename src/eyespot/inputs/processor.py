"""`Processor`: a conversation with its pictures → `Encoded`, at its final length. Picklable, holds no model.

The one road from messages to tokens, for training, evaluation and serving alike. Placeholders are expanded here and
nowhere else; what comes out never changes its length again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eyespot.contracts.contract import Contract, FrameRule, ImageRule, TextRule
from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Example, Message, Text, Turns
from eyespot.contracts.shapes import Int, Tensor
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import embeddings_of
from eyespot.inputs.chat import render_all
from eyespot.inputs.contrastive import text_ids
from eyespot.inputs.decode import decode_image
from eyespot.inputs.frames import wanted_frames
from eyespot.inputs.messages import NOUNS
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.places import write_places
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.inputs.tokens import Conversation, tokenise
from eyespot.inputs.turns import pairs, prefix_length
from eyespot.inputs.unfolding import pieces_of, unfold
from eyespot.inputs.video import FILE, decode_video, prepare_video
from eyespot.runtime.limits import LIMITS, Limits

# Short conversations are kept as tokens: the same questions come again and again in training.
KEPT_CONVERSATIONS = 8192
KEPT_CHARACTERS = 2048
TOGETHER = 32  # conversations rendered at once; they share the time that a template may take


class Processor:
    """Preprocessing of one model.

    Args:
        contract: everything about its input that is not a weight.
        tokenizer: None for a vision tower alone.
        rows: of the model's table of tokens, where it is known: ids beyond them are refused.
    """

    def __init__(self, contract: Contract, tokenizer: Tokenizer | None = None, rows: int | None = None) -> None:
        self.contract = contract
        self.tokenizer = tokenizer
        self.rows = rows
        self._kept: dict[Any, Conversation] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"contract": self.contract, "tokenizer": self.tokenizer, "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files; the contract is written by families and the seal."""
        if self.tokenizer is not None:
            self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: str | Path, contract: Contract) -> "Processor":
        """Read the tokenizer's files beside a contract."""
        return cls(contract, Tokenizer.load(folder))

    # -- conversations ------------------------------------------------------------------------------------------------

    def encode(
        self,
        messages: Sequence[Message],
        *,
        sample_id: str = "",
        source: str = "",
        turns: Turns = "dialogue",
        add_generation_prompt: bool = False,
        max_length: int | None = None,
        root: Path | None = None,
        allow_private: bool = False,
        limits: Limits = LIMITS,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        close_answers: bool = False,
    ) -> Encoded:
        """One conversation at its final length.

        Args:
            messages: from `read_messages`, a data row or a world.
            sample_id: names it in errors.
            source: for the ledger.
            turns: ``independent`` makes each user–assistant pair a branch of the prefix that they share.
            add_generation_prompt: end where the assistant is to speak; then nothing is learnt or truncated.
            max_length: tokens at most. Text at the end is cut off (never a picture), whole branches are left out;
                `Encoded.truncated` counts what is lost.
            root: folder below which data rows may name pictures.
            allow_private: whether URLs may lead to private addresses.
            limits: of sizes and times.
            tools: schemas for templates that take them.
            template: Jinja source, or a name of `inputs.templates`, instead of the checkpoint's own.
            variables: further ones that the template knows, such as ``{"add_vision_id": True}``.
            close_answers: end with EOS each answer that the template leaves open, for training.

        Raises:
            EyespotError: naming `sample_id` and the item.
        """
        messages = tuple(messages)
        rule = self.contract.text if template is None else self.contract.text.replace(template=template)
        asked = {"add_generation_prompt": add_generation_prompt, "close_answers": close_answers}
        asked |= {"tools": tools, "variables": variables}
        try:
            if turns == "independent" and not add_generation_prompt:
                wanted = pairs(messages)
                media = self._media([wanted[0]], root, allow_private, limits)
                wanted = [write_places(pair, media, self.contract.coordinates) for pair in wanted]
                texts = self._tokens(wanted, media, rule, asked, limits)
                parts, parents, truncated = self._branches(texts, media, max_length)
            else:
                media = self._media([messages], root, allow_private, limits)
                messages = write_places(messages, media, self.contract.coordinates)
                (whole,) = self._tokens([messages], media, rule, asked, limits)
                whole = whole.spread(self._counts(media))
                text = whole if max_length is None else self._fitted(whole, max_length)
                parts, parents, truncated = [text], [-1], len(whole) - len(text)
            encoded = _joined(sample_id, source, parts, parents, media, self._runs(media), truncated)
            if not add_generation_prompt and _wanted(messages) and not encoded.supervised:
                raise EyespotError("row-unsupervised", "the row has an answer, but no token of it is left to learn")
        except EyespotError as error:
            raise (error.at(sample_id) if sample_id else error) from None
        return encoded

    def encode_example(self, example: Example, **options: Any) -> Encoded:
        """A training row: as `encode`, and there must be something to learn."""
        if not any(m.role == "assistant" for m in example.messages):
            raise EyespotError("row-no-answer", "the row has no assistant message", where=example.id)
        options = {"close_answers": True, "turns": example.turns, **options}
        encoded = self.encode(example.messages, sample_id=example.id, **options)
        if not encoded.supervised:
            raise EyespotError("row-unsupervised", "every answer of the row has weight 0", where=example.id)
        return encoded

    def encode_texts(self, texts: Sequence[str]) -> Int[Tensor, "B L"]:
        """Ids of a contrastive text tower, cleaned, cut and padded as the contract says."""
        return torch.from_numpy(text_ids(texts, self._tokenizer(), self.contract.text))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise EyespotError("not-supported", "this model takes no text: it has no tokenizer")
        return self.tokenizer

    def _within(self, ids: np.ndarray) -> np.ndarray:
        """Ids that the model has rows for; any other would end as an index error deep inside it."""
        largest = int(ids.max(initial=-1))
        if self.rows is not None and largest >= self.rows:
            message = f"{self._tokenizer().token_of(largest)!r} is token {largest:,}, the model's table has"
            raise EyespotError("tokenizer-mismatch", f"{message} {self.rows:,} rows")
        return ids

    def _media(
        self, conversations: Sequence[Sequence[Message]], root: Path | None, allow_private: bool, limits: Limits
    ) -> list[EncodedMedia]:
        """Every picture of the conversation, decoded and cut into patches; slots are filled later."""
        parts = [part for messages in conversations for m in messages for part in m.media]
        text = self.contract.text
        rules = {"image": self.contract.image if text.image_token is not None else None}
        rules["video"] = self.contract.video if text.video_token is not None else None
        if self.contract.several is not None and sum(part.kind == "image" for part in parts) > 1:
            rules["image"] = rules["image"] and self.contract.several
        if parts and not any(rules.values()):
            raise EyespotError("not-supported", f"this model takes no pictures in a conversation, {len(parts)} given")
        if len(parts) > limits.max_images:
            raise EyespotError("media-too-large", f"{len(parts)} pictures, at most {limits.max_images} are taken")
        media, pixels = [], 0
        asked = {"root": root, "allow_private": allow_private, "limits": limits}
        for i, part in enumerate(parts):
            try:
                if rules.get(part.kind) is None:
                    known = " and ".join(f"{NOUNS[kind]}s" for kind, rule in rules.items() if rule is not None)
                    raise EyespotError("not-supported", f"this model takes {known}, not {part.kind}")
                given = part.source if isinstance(part, MediaRef) else part
                if given is None:
                    raise EyespotError("media-count", f"{len(parts)} image parts, no picture for part {i}")
                rule: ImageRule = rules[part.kind]  # type: ignore[assignment]
                if part.kind == "video":
                    frames = self._frames(part)
                    fps = part.options.get("fps") if isinstance(part, MediaRef) else None
                    decoded = decode_video(given, fps, frames=frames, rule=rule, **asked)
                    prepare = partial(prepare_video, decoded, rule, frames)
                else:
                    decoded = decode_image(given, rule=rule, **asked)
                    prepare = partial(prepare_image, decoded, rule)
                pixels += decoded.data.size // 3
                if pixels > limits.max_total_pixels:
                    raise EyespotError("media-too-large", f"more than {limits.max_total_pixels:,} pixels in all")
                media.append(prepare(limits=limits))
            except EyespotError as error:
                raise error.at(f"{part.kind} {i}") from None
        return media

    def _frames(self, part: MediaRef | Media) -> FrameRule | None:
        """Which frames of a film are wanted; of a list `fps` is the rate that it has, and nothing is chosen."""
        rule = self.contract.frames
        if rule is None or not isinstance(part, MediaRef) or not isinstance(part.source, FILE):
            return rule
        return wanted_frames(rule, part.options)

    def _counts(self, media: Sequence[EncodedMedia]) -> list[int]:
        """Tokens that each placeholder takes."""
        rule = self.contract.image
        if rule is None:
            return []
        counts = []
        for medium, runs in zip(media, self._runs(media), strict=True):
            whole = rule.tokens_per_image or embeddings_of(medium, rule.extra_tokens)
            assert whole % runs == 0, "frames of one size take as many tokens"
            counts += [whole // runs] * runs
        return counts

    def _runs(self, media: Sequence[EncodedMedia]) -> list[int]:
        """Placeholders of each medium."""
        return [len(pieces_of(medium, self.contract.text, self._span)) for medium in media]

    @property
    def _span(self) -> int:
        """Frames of a video that stand in one time."""
        return 1 if self.contract.video is None else self.contract.video.temporal_patch_size

    def _tokens(
        self,
        conversations: Sequence[tuple[Message, ...]],
        media: Sequence[EncodedMedia],
        rule: TextRule,
        asked: Mapping[str, Any],
        limits: Limits,
    ) -> list[Conversation]:
        """The text of each conversation as tokens, one placeholder for each picture; those kept are not made again."""
        pieces = [pieces_of(medium, rule, self._span) for medium in media]
        unkept = bool(asked["tools"] or asked["variables"])
        keys = [None if unkept else _key(messages, rule, asked, pieces) for messages in conversations]
        found = [self._kept.get(key) for key in keys]
        for start in range(0, len(found), TOGETHER):
            new = [i for i in range(start, min(start + TOGETHER, len(found))) if found[i] is None]
            made = self._made([conversations[i] for i in new], rule, pieces, asked, limits)
            for i, conversation in zip(new, made, strict=True):
                found[i] = conversation
                self._keep(keys[i], conversation)
        return found  # type: ignore[return-value]

    def _made(
        self,
        conversations: Sequence[tuple[Message, ...]],
        rule: TextRule,
        pieces: Sequence[tuple[str, ...]],
        asked: Mapping[str, Any],
        limits: Limits,
    ) -> list[Conversation]:
        if not conversations:
            return []
        tokenizer = self._tokenizer()
        names = {"specials": tokenizer.special_tokens, "added": tokenizer.added_tokens}
        made = []
        rendered = render_all(conversations, rule, **asked, **names, limits=limits)
        for written, messages in zip(rendered, conversations, strict=True):
            if rule.image_form is not None or rule.frame_form is not None:
                written = unfold(written, pieces, rule)
            made.append(tokenise(written, messages, tokenizer, rule))
            self._within(made[-1].ids)
        return made

    def _keep(self, key: Any, conversation: Conversation) -> None:
        if key is not None:
            if len(self._kept) >= KEPT_CONVERSATIONS:
                self._kept.clear()
            self._kept[key] = conversation

    def _fitted(self, text: Conversation, max_length: int) -> Conversation:
        """At most `max_length` tokens: text at the end is cut off for training, and never a picture."""
        if len(text) <= max_length:
            return text
        last = max((int(start + count) for start, count in text.media), default=0)
        if not (text.weight > 0).any() or last > max_length:
            pictures = int(text.media[:, 1].sum())
            raise EyespotError(
                "too-long",
                f"{len(text)} tokens, {pictures} of them of {len(text.media)} pictures; at most {max_length} fit",
            )
        return text.part(0, max_length)

    def _branches(
        self, texts: Sequence[Conversation], media: Sequence[EncodedMedia], max_length: int | None
    ) -> tuple[list[Conversation], list[int], int]:
        """The shared prefix and its branches, or separate roots; branches that do not fit are left out whole."""
        cut, counts = prefix_length(texts), self._counts(media)
        prefix = texts[0].part(0, cut).spread(counts) if cut else None
        branches = [t.part(cut, len(t)) if cut else t.spread(counts) for t in texts]
        room = (max_length if max_length is not None else np.inf) - (len(prefix) if prefix else 0)
        kept, lost = [], 0
        for branch in branches:
            if len(branch) <= room:
                kept.append(branch)
                room -= len(branch)
            else:
                lost += len(branch)
        if not kept:
            shortest = min(map(len, branches)) + (len(prefix) if prefix else 0)
            raise EyespotError("too-long", f"the shortest pair has {shortest} tokens, at most {max_length} fit")
        return [*([prefix] if prefix else []), *kept], [-1, *[0] * len(kept)] if prefix else [-1] * len(kept), lost


def _joined(
    sample_id: str,
    source: str,
    parts: Sequence[Conversation],
    parents: Sequence[int],
    media: Sequence[EncodedMedia],
    runs: Sequence[int],
    truncated: int,
) -> Encoded:
    """Segments one after the other; a picture takes its slots in each segment that shows it.

    `runs` are the placeholders of each medium, which follow one another in `Conversation.media`.
    """
    offsets = np.cumsum([0, *map(len, parts)])
    shown = []
    for part, offset in zip(parts, offsets, strict=False):
        if not len(part.media):
            continue
        assert len(part.media) == sum(runs), "a part shows all media or none"
        slots = [np.arange(start, start + count, dtype=np.int64) + offset for start, count in part.media]
        first = np.cumsum([0, *runs])
        shown += [
            replace(medium, slots=np.concatenate(slots[a:b]))
            for medium, a, b in zip(media, first, first[1:], strict=False)
        ]
    return Encoded(
        sample_id=sample_id,
        source=source,
        input_ids=np.concatenate([part.ids for part in parts]),
        loss_weight=np.concatenate([part.weight for part in parts]),
        spans=tuple(s for part, offset in zip(parts, offsets, strict=False) for s in part.spans(int(offset))),
        lengths=tuple(map(len, parts)),
        parent=tuple(parents),
        media=tuple(shown),
        truncated=truncated,
    )


def _wanted(messages: Sequence[Message]) -> bool:
    """Whether an answer of the conversation is to be learnt."""
    return any(m.role == "assistant" and m.weight != 0 for m in messages)


def _key(messages: Sequence[Message], rule: TextRule, asked: Mapping[str, Any], pieces: Sequence) -> Any:
    """What a conversation's tokens depend on; None where it is long or they depend on more (tool calls, the clock)."""
    if any(m.tool_calls for m in messages) or "strftime_now" in (rule.template or ""):
        return None
    if sum(len(m.text) for m in messages) > KEPT_CHARACTERS:
        return None
    written = tuple(
        (m.role, tuple(p.text if isinstance(p, Text) else (p.kind,) for p in m.parts), m.name, m.tool_call_id, m.weight)
        for m in messages
    )
    return written, tuple(pieces), rule.template, asked["add_generation_prompt"], asked["close_answers"]
