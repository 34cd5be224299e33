"""All that is asked about scenes: short answers, boxes and captions, told apart by the kind of truth."""

from collections.abc import Mapping
from typing import Any

from eyespot.contracts.coordinates import BoxUnit
from eyespot.contracts.message import Example, Message
from eyespot.tasks.caption import Caption
from eyespot.tasks.grounding import Grounding
from eyespot.tasks.prompt import asked
from eyespot.tasks.vqa import Vqa


class ScenesTask:
    """Scores a text target as `Vqa`, a box as `Grounding`, a caption's truth as `Caption`."""

    name = "scenes"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return asked(example)

    def parse(self, text: str) -> str:
        """The text itself: how it is read depends on the truth."""
        return text

    def score(self, prediction: str, target: Any) -> Mapping[str, float]:
        """``correct``, and what else the kind of truth gives."""
        codec: Any = Vqa()
        if isinstance(target, BoxUnit):
            codec = Grounding()
        elif isinstance(target, Mapping):
            codec = Caption()
        return codec.score(codec.parse(prediction), target)
