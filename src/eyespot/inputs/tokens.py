"""A rendered conversation as tokens: ids, what is learnt, who speaks; then the room that each picture takes.

No templates and no media here, only their counts. Character flags go to tokens by offsets, and a token across the
border belongs to the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eyespot.contracts.contract import TextRule
from eyespot.contracts.encoded import Span
from eyespot.contracts.message import Message
from eyespot.errors import EyespotError
from eyespot.inputs.chat import Rendered
from eyespot.inputs.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """One conversation's tokens.

    Attributes:
        ids: int64 (T,).
        weight: float32 (T,): how much being predicted counts.
        owner: int32 (T,): index into `roles`.
        roles: who speaks in each stretch.
        media: int64 (M, 2): for each picture its first slot and how many there are.
        begin: the first token that holds a character of the first user's text.
    """

    ids: np.ndarray
    weight: np.ndarray
    owner: np.ndarray
    roles: tuple[str, ...]
    media: np.ndarray
    begin: int

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> "Conversation":
        """Tokens `start` to `stop`; the pictures that lie in them stay."""
        inside = [(first - start, count) for first, count in self.media if start <= first < stop]
        media = np.array(inside, np.int64).reshape(-1, 2)
        cut, begin = slice(start, stop), min(max(self.begin - start, 0), stop - start)
        return Conversation(self.ids[cut], self.weight[cut], self.owner[cut], self.roles, media, begin)

    def spread(self, counts: Sequence[int]) -> "Conversation":
        """With each picture's placeholder repeated to its count."""
        if not counts:
            return self
        repeats = np.ones(len(self.ids), np.int64)
        places = self.media[:, 0]
        repeats[places] = counts
        first = np.concatenate([[0], np.cumsum(repeats)])
        ids, weight, owner = (np.repeat(a, repeats) for a in (self.ids, self.weight, self.owner))
        for place, count in zip(first[places], counts, strict=True):
            weight[place : place + count] = 0
        media = np.stack([first[places], np.array(counts, np.int64)], axis=1)
        return Conversation(ids, weight, owner, self.roles, media, int(first[self.begin]))

    def spans(self, offset: int = 0) -> tuple[Span, ...]:
        """Stretches of equal speaker that are all learnt or all not, `offset` tokens further."""
        if not len(self.ids):
            return ()
        learnt = self.weight > 0
        changes = np.flatnonzero((np.diff(self.owner) != 0) | (np.diff(learnt) != 0)) + 1
        borders = [0, *changes.tolist(), len(self.ids)]
        return tuple(
            Span(self.roles[self.owner[a]], a + offset, b + offset, bool(learnt[a]))
            for a, b in zip(borders, borders[1:], strict=False)
        )


def tokenise(rendered: Rendered, messages: Sequence[Message], tokenizer: Tokenizer, rule: TextRule) -> Conversation:
    """Tokenise the whole text in one call; every picture is one placeholder yet.

    The tokenizer's own special tokens are added unless the text already begins with BOS.
    """
    text, typed_first = rendered.text, rendered.literals[:1] and rendered.literals[0][0] == 0
    begun = bool(rule.bos_token) and text.startswith(rule.bos_token or "") and not typed_first
    tokens = tokenizer.encode(
        text, add_special_tokens=rule.add_special_tokens and not begun, literals=rendered.literals
    )
    ids = np.array(tokens.ids, np.int64)
    starts, stops = np.array(tokens.offsets, np.int64).reshape(-1, 2).T
    weight = np.zeros(len(ids), np.float32)
    for span in rendered.spans:
        for start, stop in span.supervised:
            value = messages[span.message].weight
            touched = (starts < stop) & ((stops > start) | ((stops == starts) & (starts >= start)))
            weight[touched] = 1.0 if value is None else value
    borders = np.array([span.start for span in rendered.spans[1:]], np.int64)
    owner = np.searchsorted(borders, starts, side="right").astype(np.int32)
    places = _placeholders(ids, rendered, tokenizer, rule)
    media = np.stack([places, np.ones_like(places)], axis=1)
    return Conversation(ids, weight, owner, tuple(s.role for s in rendered.spans), media, _begin(rendered, stops))


def _placeholders(ids: np.ndarray, rendered: Rendered, tokenizer: Tokenizer, rule: TextRule) -> np.ndarray:
    pairs = ((rule.image_token, rule.image_token_id), (rule.video_token, rule.video_token_id))
    wanted = {token: tokenizer.id_of(token) if own is None else own for token, own in pairs if token is not None}
    places = np.flatnonzero(np.isin(ids, [own for own in wanted.values() if own is not None]))
    if len(places) != len(rendered.media):
        shown = ", ".join(f"{token!r} (id {own})" for token, own in wanted.items()) or "a placeholder"
        raise EyespotError(
            "tokenizer-token",
            f"{shown} stands {len(rendered.media)} times in the text, but {len(places)} times in its tokens",
        )
    return places.astype(np.int64)


def _begin(rendered: Rendered, stops: np.ndarray) -> int:
    text = next((span.text for span in rendered.spans if span.role == "user" and span.text), None)
    if text is None:
        text = next(((span.stop, span.stop) for span in rendered.spans if span.role == "user"), (0, 0))
    return int(np.argmax(stops > text[0])) if (stops > text[0]).any() else len(stops)
