"""Questions with short answers: right when it is the same answer, whatever its case, articles and punctuation."""

import re
from collections.abc import Mapping

from eyespot.contracts.message import Example, Message

ARTICLES = frozenset({"a", "an", "the"})


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and spare spaces; a decimal point inside a number stays."""
    text = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w\s.,]", " ", text.lower())
    return " ".join(word for word in text.split() if word not in ARTICLES)


class Vqa:
    """Exact match after `normalised`."""

    name = "vqa"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return example.messages

    def parse(self, text: str) -> str:
        """The answer as it is compared."""
        return normalised(text)

    def score(self, prediction: str, target: str) -> Mapping[str, float]:
        """``correct``: 1 or 0."""
        return {"correct": float(prediction == normalised(target) != "")}
