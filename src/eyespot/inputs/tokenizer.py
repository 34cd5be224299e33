"""`Tokenizer`: a thin wrapper of `tokenizers` that reads a checkpoint's files and can take any stretch as plain text.

No chat template and no padding here. Text in which control tokens are only *typed* is still tokenised in one call
(`twin.py`). Which tokens count as special follows `transformers` (tokenization_utils_tokenizers.py).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from eyespot.errors import EyespotError
from eyespot.inputs import bytepairs, tiktoken
from eyespot.inputs.sentencepiece import tokenizer_json_from_model
from eyespot.inputs.twin import Twin
from eyespot.inputs.wordpiece import VOCABULARY, tokenizer_json_from_vocabulary
from eyespot.runtime.small_files import read_bytes, read_json, read_text

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
RANK_FILES = tuple(tiktoken.FILES)
MODEL_FILES = ("tokenizer.model", "spiece.model", *RANK_FILES, VOCABULARY)  # read where there is no tokenizer.json
FILES = (
    "tokenizer.json", *MODEL_FILES, *bytepairs.FILES, "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip
# Words with their leading space, single digits, single marks: what a tiny model should see as one token each.
WORDS = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids and the characters that each came from (start, stop); an added BOS or EOS has (-1, -1)."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer:
    """A checkpoint's tokenizer.

    Args:
        data: content of ``tokenizer.json``.
        config: content of ``tokenizer_config.json``, kept for the round trip.
        special_map: content of ``special_tokens_map.json``, where the checkpoint has one.
        ranks: name and content of the checkpoint's file of ranked byte strings, which the authors' code reads.
    """

    def __init__(
        self,
        data: str,
        config: Mapping[str, Any] = {},
        special_map: Mapping[str, Any] | None = None,
        ranks: tuple[str, bytes] | None = None,
    ) -> None:
        self.config = dict(config)
        self.ranks = ranks
        self.special_map = dict(special_map) if special_map is not None else None
        self._data = data
        try:
            self._backend = tokenizers.Tokenizer.from_str(data)
        except Exception as error:  # `tokenizers` raises bare Exception
            raise EyespotError("checkpoint-corrupt", f"tokenizer.json cannot be read: {error}") from None
        self._backend.no_truncation()
        self._backend.no_padding()
        self._add_missing()
        if "add_bos_token" in config or "add_eos_token" in config or self._backend.post_processor is None:
            self._set_post_processor()

    # -- disk -------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read ``tokenizer.json`` (or another of the files that stand for it) and what stands beside it."""
        folder = Path(folder)
        config = _read_json(folder / "tokenizer_config.json") or {}
        special_map = _read_json(folder / "special_tokens_map.json")
        path = folder / "tokenizer.json"
        if path.is_file():
            data = read_text(path)
        elif model := next((folder / n for n in MODEL_FILES if (folder / n).is_file()), None):
            data, found = _read_model(model, config)
            config = {**found, **config}
        elif bytepairs.has_pairs(folder):
            data = bytepairs.tokenizer_json_from_pairs(folder)
        else:
            message = f"no tokenizer.json, {', '.join(MODEL_FILES)}, or {' with '.join(bytepairs.FILES)}"
            raise EyespotError("tokenizer-missing", message, where=str(folder))
        name = next((name for name in RANK_FILES if (folder / name).is_file()), None)
        ranks = None if name is None else (name, read_bytes(folder / name))
        try:
            tokenizer = cls(data, config, special_map, ranks)
        except EyespotError as error:
            raise error.at(str(folder)) from None
        tokenizer._add_from_file(_read_json(folder / "added_tokens.json") or {}, folder)
        return tokenizer

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``.

        ``special_tokens_map.json`` and a file of ranks are written where one was read. What was loaded and not changed
        is written as it was.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self._data, encoding="utf-8")
        if self.ranks is not None:
            (folder / self.ranks[0]).write_bytes(self.ranks[1])
        for name, content in (("tokenizer_config.json", self.config), ("special_tokens_map.json", self.special_map)):
            if content is not None:
                text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
                (folder / name).write_text(text, encoding="utf-8")

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self._data, "config": self.config, "special_map": self.special_map, "ranks": self.ranks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # -- text and ids -----------------------------------------------------------------------------------------------

    def encode(
        self,
        text: str,
        add_special_tokens: bool = True,
        special_tokens: bool = True,
        literals: Sequence[tuple[int, int]] = (),
    ) -> Tokens:
        """Tokenise the whole text in one call.

        Args:
            text: what to tokenise.
            add_special_tokens: whether the tokenizer's own BOS, EOS and the like are added.
            special_tokens: False takes every spelled-out special token as ordinary text.
            literals: character ranges (start, stop) whose spelled-out special tokens are ordinary text.
        """
        if not special_tokens:
            literals = [(0, len(text))]
        spelled = list(self._spelled.finditer(text)) if literals else []
        meant = [m for m in spelled if not any(a < m.end() and m.start() < b for a, b in literals)]
        if len(meant) == len(spelled):
            return _tokens(self._backend.encode(text, add_special_tokens=add_special_tokens))
        respelled, places = self._twin.respell(text, meant)
        tokens = _tokens(self._twin.backend.encode(respelled, add_special_tokens=add_special_tokens))
        return Tokens(tokens.ids, [(places.back(start), places.back(stop)) for start, stop in tokens.offsets])

    def encode_cut(self, text: str, max_length: int | None) -> list[int]:
        """Ids with the tokenizer's own special tokens, at most `max_length`: the text is cut, they stay."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        if max_length is not None:
            encoding.truncate(max(0, max_length - self._backend.num_special_tokens_to_add(False)))
        return self._backend.post_process(encoding, None, True).ids

    def decode(self, ids: Iterable[Any], skip_special: bool = True) -> str:
        """Text of `ids` (a list, an array or a tensor of integers)."""
        return self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def id_of(self, token: str | None) -> int | None:
        """The id of a token, or None."""
        return None if token is None else self._backend.token_to_id(token)

    def token_of(self, token_id: Any) -> str | None:
        """The token as the vocabulary writes it, or None."""
        return self._backend.id_to_token(int(token_id))

    # -- tokens -----------------------------------------------------------------------------------------------------

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id. Not the number of tokens: ids may have gaps."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def tokens_from(self, first: int) -> dict[str, int]:
        """Tokens whose ids are `first` or larger, in order of ids."""
        if self.vocab_size <= first:
            return {}
        found = ((i, token) for token, i in self._backend.get_vocab(with_added_tokens=True).items() if i >= first)
        return {token: i for i, token in sorted(found)}

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Spellings of control tokens, in order of their ids."""
        return tuple(token.content for _, token in sorted(self._added.items()) if token.special)

    @cached_property
    def added_tokens(self) -> tuple[str, ...]:
        """Every token outside the model proper, special or not, in order of ids."""
        return tuple(token.content for _, token in sorted(self._added.items()))

    @property
    def bos_token(self) -> str | None:
        """Begin of sequence, or None."""
        return self._named("bos_token")

    @property
    def eos_token(self) -> str | None:
        """End of sequence, or None."""
        return self._named("eos_token")

    @property
    def pad_token(self) -> str | None:
        """Padding, or None."""
        return self._named("pad_token")

    @property
    def unk_token(self) -> str | None:
        """Unknown, or None."""
        return self._named("unk_token")

    @property
    def chat_template(self) -> str | None:
        """The template inside ``tokenizer_config.json``: the one called default, where there are several."""
        template = self.config.get("chat_template")
        if isinstance(template, list):
            template = {entry.get("name"): entry.get("template") for entry in template}.get("default")
        return template

    def add_tokens(self, tokens: Iterable[str], special: bool = True) -> list[int]:
        """Ids of `tokens`, added at the end of the vocabulary where they are new."""
        tokens = list(tokens)
        new = [AddedToken(t, special=special, normalized=False) for t in tokens if t not in self.added_tokens]
        if new:
            self._add(new)
            self._data, self.ranks = self._backend.to_str(), None  # which has no place for them
        return [self._backend.token_to_id(t) for t in tokens]  # pyright: ignore[reportReturnType] (all are there now)

    def set_named(self, **names: str) -> None:
        """Change what ``bos_token``, ``eos_token``, ``pad_token`` or ``unk_token`` is; the token must exist."""
        for name, token in names.items():
            if name not in NAMED or self.id_of(token) is None:
                raise EyespotError("tokenizer-token", f"{name}={token!r} is not in the vocabulary")
            self.config[name] = token
            if self.special_map is not None:
                self.special_map[name] = token

    def _named(self, name: str) -> str | None:
        value = (self.special_map or {}).get(name) or self.config.get(name)
        value = value.get("content") if isinstance(value, Mapping) else value
        if value is not None and not isinstance(value, str):
            raise EyespotError(
                "checkpoint-corrupt", f"{name} must be text, got {value!r}", where="tokenizer_config.json"
            )
        return value

    def _add(self, tokens: list[AddedToken]) -> None:
        special = [t for t in tokens if t.special]
        self._backend.add_special_tokens(special)
        self._backend.add_tokens([t for t in tokens if not t.special])
        for name in ("_added", "special_tokens", "added_tokens", "vocab_size", "_spelled", "_twin"):
            self.__dict__.pop(name, None)

    def _add_missing(self) -> None:
        """Tokens that the side files name and ``tokenizer.json`` lacks, as `transformers` adds them."""
        known = set(self.added_tokens)
        decoder = self.config.get("added_tokens_decoder") or {}
        for _, token in sorted(decoder.items(), key=lambda item: int(item[0])):
            if token["content"] not in known:
                flags = {k: v for k, v in token.items() if k != "content" and not k.startswith("_")}
                self._add([AddedToken(token["content"], **flags)])
        extras = self.config.get("extra_special_tokens") or self.config.get("additional_special_tokens") or []
        extras = list(extras.values()) if isinstance(extras, Mapping) else list(extras)
        wanted = [self._named(name) for name in NAMED]
        wanted += [e.get("content") if isinstance(e, Mapping) else e for e in extras]
        wanted += [t for name, t in self.config.items() if name == "image_token" and isinstance(t, str)]
        for token in wanted:
            if token and token not in set(self.special_tokens):
                self._add([AddedToken(token, special=True, normalized=False)])

    def _add_from_file(self, added: Mapping[str, int], folder: Path) -> None:
        """``added_tokens.json`` of old checkpoints: content → id."""
        for token, token_id in sorted(added.items(), key=lambda item: item[1]):
            if self.id_of(token) is None and self.add_tokens([token]) != [token_id]:
                raise EyespotError("tokenizer-token", f"{token!r} cannot get its id {token_id}", where=str(folder))

    def _set_post_processor(self) -> None:
        """BOS and EOS as ``add_bos_token`` and ``add_eos_token`` say."""
        bos = self.bos_token if self.config.get("add_bos_token") else None
        eos = self.eos_token if self.config.get("add_eos_token") else None
        pattern = " ".join([*([bos] if bos else []), "$A", *([eos] if eos else [])])
        special = [(token, self._backend.token_to_id(token)) for token in dict.fromkeys((bos, eos)) if token]
        pair = pattern + " " + pattern.replace("$A", "$B")
        self._backend.post_processor = processors.TemplateProcessing(single=pattern, pair=pair, special_tokens=special)

    @cached_property
    def _added(self) -> dict[int, AddedToken]:
        return self._backend.get_added_tokens_decoder()

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        """Any added token, the longest first."""
        return re.compile("|".join(map(re.escape, sorted(self.added_tokens, key=len, reverse=True))) or r"(?!)")

    @cached_property
    def _twin(self) -> Twin:
        return Twin(self._backend.to_str(), self.added_tokens)


def _read_model(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A file that stands for ``tokenizer.json``, as its content and what the config should say beside it."""
    if path.name in RANK_FILES:
        return tiktoken.tokenizer_json_from_ranks(path)
    return (tokenizer_json_from_vocabulary if path.name == VOCABULARY else tokenizer_json_from_model)(path, config)


def _tokens(encoding: tokenizers.Encoding) -> Tokens:
    """Offsets of tokens that the text does not hold (an added BOS) become (-1, -1)."""
    offsets = encoding.offsets
    if any(encoding.special_tokens_mask):
        offsets = [(-1, -1) if i is None else o for i, o in zip(encoding.sequence_ids, offsets, strict=True)]
    return Tokens(encoding.ids, offsets)


def words(texts: Iterable[str], specials: Sequence[str], **named: str) -> Tokenizer:
    """A small word-level tokenizer made from `texts`, for tiny models.

    Each word (with the space before it), digit and mark of the texts is one token; anything else falls to bytes, so
    that every text has ids and decodes to itself.

    Args:
        texts: where the words come from.
        specials: control tokens; they get the first ids.
        named: ``bos_token``, ``eos_token``, ``pad_token``, ``unk_token`` where the usual spellings do not say.
    """
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special_set = sorted(specials, key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, special_set)) or r"(?!)")
    found: dict[str, None] = {}
    for text in texts:
        for stretch in control.split(text):
            found.update((piece, None) for piece, _ in split.pre_tokenize_str(stretch))
    pieces = dict.fromkeys((*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *sorted(found)))
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    # No merges: a piece is looked up whole, and one that is not there falls to its bytes.
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    backend.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **_usual_names(specials), **named}
    return Tokenizer(backend.to_str(), config)


def _usual_names(specials: Sequence[str]) -> dict[str, str]:
    usual = {
        "bos_token": ("<s>", "<|begin_of_text|>", "<bos>"),
        "eos_token": ("</s>", "<|im_end|>", "<|endoftext|>", "<eos>"),
        "pad_token": ("<pad>", "<|pad|>", "<|endoftext|>", "</s>"),
        "unk_token": ("<unk>",),
    }
    found = {name: next((s for s in spellings if s in specials), None) for name, spellings in usual.items()}
    return {name: token for name, token in found.items() if token}


def _read_json(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
