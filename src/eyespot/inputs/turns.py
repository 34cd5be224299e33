"""Independent turns: many question–answer pairs about the same pictures as branches of one prefix (D22).

No attention here; `Encoded.parent` says who continues whom. The law: prefix and branch together are exactly what the
pair alone, with the pictures, is encoded as. Where a template puts text before the pictures, or nothing in front, the
pairs become separate roots, each with its own copy of the pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Message
from eyespot.errors import EyespotError
from eyespot.inputs.tokens import Conversation


def pairs(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Each user–assistant pair as a conversation of its own: system messages and the shared pictures before it.

    The shared pictures are those before the first user's text; a later pair may repeat them or leave them out.

    Raises:
        EyespotError: ``message-malformed`` where the turns are no pairs or are about other pictures.
    """
    head = [m for m in messages if m.role == "system"]
    turns = list(messages[len(head) :])
    roles = [m.role for m in turns]
    if any(m.role == "system" for m in turns) or not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise EyespotError(
            "message-malformed",
            "independent turns are user–assistant pairs, system messages before them; roles: "
            + ", ".join(m.role for m in messages),
        )
    shared = _leading_media(turns[0])
    return [(*head, _with_media(turns[i], shared, len(head) + i), turns[i + 1]) for i in range(0, len(turns), 2)]


def _leading_media(message: Message) -> tuple[MediaRef | Media, ...]:
    leading = []
    for part in message.parts:
        if not isinstance(part, (MediaRef, Media)):
            break
        leading.append(part)
    return tuple(leading)


def _with_media(message: Message, shared: tuple, index: int) -> Message:
    own = _leading_media(message)
    if own and not (len(own) == len(shared) and all(_same(a, b) for a, b in zip(own, shared, strict=True))):
        raise EyespotError(
            "message-malformed",
            "independent turns share the pictures before the first question; this turn has others",
            where=f"messages[{index}]",
        )
    return replace(message, parts=shared + message.parts[len(own) :])


def _same(a: MediaRef | Media, b: MediaRef | Media) -> bool:
    if isinstance(a, MediaRef) and isinstance(b, MediaRef):
        named = isinstance(a.source, (str, Path)) and isinstance(b.source, (str, Path))
        return a.source is b.source or (named and str(a.source) == str(b.source))
    return a is b or (isinstance(a, Media) and isinstance(b, Media) and a.sha256 == b.sha256)


def prefix_length(conversations: Sequence[Conversation]) -> int:
    """Tokens that all share before the first user's text; 0 where they cannot be branches of one prefix.

    Every picture lies in the prefix, nothing in it is learnt, and each branch starts with a token that is not learnt.
    """
    first = conversations[0]
    length = min(min(c.begin, len(c) - 1) for c in conversations)
    for other in conversations[1:]:
        differs = np.flatnonzero(first.ids[:length] != other.ids[:length])
        length = int(differs[0]) if len(differs) else length
    learnt = [int(np.argmax(c.weight > 0)) if (c.weight > 0).any() else len(c) for c in conversations]
    length = min(length, min(learnt) - 1)
    if length < 1 or any(start + count > length for c in conversations for start, count in c.media):
        return 0
    return length
