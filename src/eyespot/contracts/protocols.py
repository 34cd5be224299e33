"""The few structural types: what an encoder, a connector, a generator, a task and a world must offer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from eyespot.contracts.message import Example, Message
from eyespot.contracts.shapes import Tensor


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the text, why it ended (``stop`` or ``length``), and what it cost."""

    text: str
    finish_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True, eq=False)
class MediaEmbeddings:
    """What `encode` gives for one encoder: (N, D) rows for the slots, and deep adds by decoder layer."""

    main: Tensor
    deep: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """What the decoder gives: the last hidden states (T, D) after the final norm, and the taps asked for."""

    last: Tensor
    taps: Mapping[int, Tensor] = field(default_factory=dict)


@runtime_checkable
class Generator(Protocol):
    """Anything that answers conversations: the naive loop, an engine, a remote server, a mock."""

    def generate(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
        """One reply for each conversation, in order."""
        ...


@runtime_checkable
class Task(Protocol):
    """A codec of what is asked and how the answer is read; makes training targets and evaluates (D16)."""

    name: str

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation to send, ending with the user's turn."""
        ...

    def parse(self, text: str) -> Any:
        """The model's text as a prediction."""
        ...

    def score(self, prediction: Any, target: Any) -> Mapping[str, float]:
        """Named numbers, 0 to 1 where they are shares."""
        ...


@runtime_checkable
class World(Protocol):
    """Procedural data with exact truth: seeded, endless, with splits that share no list of objects."""

    name: str

    def examples(self, split: str, seed: int, start: int = 0) -> Iterator[Example]:
        """An endless stream; item i depends on (split, seed, i) only, so it can resume anywhere."""
        ...
