"""Captions of known scenes: which of the objects they name, each by its phrase, and whether they are the reference."""

from collections.abc import Mapping
from typing import Any

from eyespot.contracts.message import Example, Message
from eyespot.tasks.prompt import asked
from eyespot.tasks.vqa import normalised


class Caption:
    """The target is ``{"reference": text, "phrases": (phrase of each object, …)}``."""

    name = "caption"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return asked(example)

    def parse(self, text: str) -> str:
        """The caption as it is compared."""
        return normalised(text)

    def score(self, prediction: str, target: Mapping[str, Any]) -> Mapping[str, float]:
        """``correct``: every object is named; ``recall``: the share that is; ``exact``: the reference itself."""
        left = f" {prediction} "
        found = 0
        for phrase in target["phrases"]:
            wanted = f" {normalised(phrase)} "
            if wanted in left:  # a phrase said once counts for one object
                left = left.replace(wanted, "  ", 1)
                found += 1
        recall = found / max(1, len(target["phrases"]))
        exact = float(prediction == normalised(target["reference"]))
        return {"correct": float(recall == 1.0), "recall": recall, "exact": exact}
