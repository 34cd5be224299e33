"""Boxes in text: four numbers, read as shares of the picture (or as 0–1000), compared by intersection over union."""

import re
from collections.abc import Mapping

from eyespot.contracts.coordinates import BoxAbs, BoxUnit
from eyespot.contracts.message import Example, Message

HIT = 0.5  # RefCOCO's Acc@0.5: at least this overlap
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Grounding:
    """One box an answer."""

    name = "grounding"

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return example.messages

    def parse(self, text: str) -> BoxUnit | None:
        """The first four numbers; above 1 they are taken as 0–1000. None where there are not four."""
        numbers = [float(n) for n in NUMBER.findall(text)[:4]]
        if len(numbers) < 4:
            return None
        scale = 1000.0 if max(numbers) > 1.5 else 1.0
        x1, y1, x2, y2 = (n / scale for n in numbers)
        return BoxUnit(x1, y1, x2, y2)

    def score(self, prediction: BoxUnit | None, target: BoxUnit) -> Mapping[str, float]:
        """``correct``: overlap of at least one half; ``iou``: the overlap."""
        iou = 0.0 if prediction is None else _square(prediction).iou(_square(target))
        return {"correct": float(iou >= HIT), "iou": iou}


def _square(box: BoxUnit) -> BoxAbs:
    """On a picture of side 1; the overlap is the same on any."""
    return box.to_abs((1, 1))
