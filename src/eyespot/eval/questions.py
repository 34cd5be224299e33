"""Rows of training data as questions: each answer becomes a target, what stands before it the conversation to continue.

Pictures are decoded here, as only the source knows the folder that its rows may name; what an evaluation then holds
is whole and can be shown in a report.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message
from eyespot.inputs.decode import decode_image
from eyespot.inputs.turns import pairs


def questions(examples: Iterable[Example], root: Path | None = None) -> Iterator[Example]:
    """One example for each answer; an example that already ends with the user's turn stays as it is.

    Args:
        examples: of a data file or a world.
        root: the folder that pictures may be read from; None: any.
    """
    for example in examples:
        messages = _opened(example.messages, root)
        if messages[-1].role != "assistant":
            yield replace(example, messages=messages)
            continue
        asked = pairs(messages) if example.turns == "independent" else _prefixes(messages)
        for number, conversation in enumerate(asked):
            name = example.id if len(asked) == 1 else f"{example.id}#{number}"
            yield replace(example, id=name, messages=conversation[:-1], target=conversation[-1].text, turns="dialogue")


def _prefixes(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """A dialogue up to each of its answers; the answers before are given, not the model's own."""
    return [tuple(messages[: i + 1]) for i, message in enumerate(messages) if message.role == "assistant"]


def _opened(messages: Sequence[Message], root: Path | None) -> tuple[Message, ...]:
    def opened(part):
        if not isinstance(part, MediaRef) or part.kind != "image" or part.source is None:
            return part
        return replace(part, source=decode_image(part.source, root=root).data)

    return tuple(replace(m, parts=tuple(opened(part) for part in m.parts)) for m in messages)
