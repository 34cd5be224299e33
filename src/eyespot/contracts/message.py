"""`Message`: what dataset rows, chat turns and HTTP requests all become first. `Example`: a question with its truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from eyespot.contracts.coordinates import BoxAbs, PointAbs
from eyespot.contracts.media import Media, MediaRef

Turns = Literal["dialogue", "independent"]


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text. Always text: `<image>` or `<|im_end|>` typed here is neither a picture nor a control token."""

    text: str


# Coordinates are typed parts, written as text by the processor only after the resize is known.
Part = Text | MediaRef | Media | BoxAbs | PointAbs


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: system, user, assistant or tool.
        parts: the content in order.
        name: of a speaker or tool, where given.
        tool_calls: OpenAI-shaped calls that an assistant made.
        tool_call_id: the call that a tool message answers.
        weight: loss weight of an assistant turn; None means 1, 0 means "read but not learnt".
    """

    role: str
    parts: tuple[Part, ...]
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    weight: float | None = None

    @property
    def text(self) -> str:
        """The text parts joined; media and coordinates are left out."""
        return "".join(p.text for p in self.parts if isinstance(p, Text))

    @property
    def media(self) -> tuple[MediaRef | Media, ...]:
        """The media parts in order."""
        return tuple(p for p in self.parts if isinstance(p, (MediaRef, Media)))


@dataclass(frozen=True, slots=True)
class Example:
    """What a task, world or data row gives: a conversation, its truth, and what it is about.

    Attributes:
        id: unique within its source; names the item in errors and the ledger.
        messages: for training they end with the assistant's answer; for evaluation with the user's question.
        target: the truth that `Task.score` compares with; None where there is none.
        meta: free facts, such as ``{"type": "colour", "scene": 17}``.
        turns: ``"independent"``: each user–assistant pair sees the picture but not the other pairs (packed as
            branches of one prefix); ``"dialogue"``: an ordinary conversation.
    """

    id: str
    messages: tuple[Message, ...]
    target: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    turns: Turns = "dialogue"
