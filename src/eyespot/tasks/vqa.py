"""Questions with short answers: right when it is the same answer, whatever its case, articles and spelling.

Not VQAv2's official text handling, which treats truth and prediction differently; here both are read alike.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from eyespot.contracts.message import Example, Message
from eyespot.tasks.prompt import asked

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Two spellings of one answer.
SAME = {
    **{word: str(number) for number, word in enumerate(NUMBERS)},
    "color": "colour",
    "gray": "grey",
    "예": "네",
    "아니오": "아니요",
}
_POLITE = re.compile(r"(?:\s*(?:입니다|이에요|예요))+$")
_PIECES = re.compile(r"(\d)개\b")


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles, Korean polite endings and spare spaces; number words as digits.

    A decimal point inside a number stays.
    """
    text = unicodedata.normalize("NFC", text).lower()
    text = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w\s.,]", " ", text).strip()
    text = _PIECES.sub(r"\1", _POLITE.sub("", text))
    return " ".join(SAME.get(word, word) for word in text.split() if word not in ARTICLES)


class Vqa:
    """Exact match after `normalised`. The truth is one answer, or several that are all right."""

    name = "vqa"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return asked(example)

    def parse(self, text: str) -> str:
        """The answer as it is compared."""
        return normalised(text)

    def score(self, prediction: str, target: str | Sequence[str]) -> Mapping[str, float]:
        """``correct``: 1 or 0."""
        answers = (target,) if isinstance(target, str) else target
        return {"correct": float(prediction != "" and prediction in map(normalised, answers))}
