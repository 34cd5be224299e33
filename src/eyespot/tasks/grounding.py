"""Boxes in text: four numbers, read as shares of the picture (or as 0–1000), compared by intersection over union.

Shares, because an answer is then scored without knowing how large the picture was. Corners given in the wrong order
are put in order; what lies outside the picture is cut off.
"""

import re
from collections.abc import Mapping
from typing import Literal

from eyespot.contracts.coordinates import BoxAbs, BoxUnit
from eyespot.contracts.message import Example, Message
from eyespot.tasks.prompt import asked

HIT = 0.5  # RefCOCO's Acc@0.5: at least this overlap
SCALES = {"unit": 1, "thousand": 1000, "tags": 999}
TAGGED = re.compile(r"<box>(.*?)(?:</box>|$)", re.DOTALL)  # what stands before it may hold numbers of its own
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Grounding:
    """One box an answer.

    Args:
        form: how boxes are written, as the model's contract says: ``unit``, ``thousand`` or ``tags``. By default it is
            told by the answer: pairs after ``<box>`` go up to 999, other numbers above 1.5 are thousandths.
    """

    name = "grounding"

    def __init__(self, form: Literal["unit", "thousand", "tags"] | None = None) -> None:
        self.form = form

    def prompt(self, example: Example) -> tuple[Message, ...]:
        """The conversation up to the user's question."""
        return asked(example)

    def parse(self, text: str) -> BoxUnit | None:
        """The first four numbers; None where there are not four."""
        tagged = TAGGED.search(text)
        numbers = [float(n) for n in NUMBER.findall(tagged[1] if tagged else text)[:4]]
        if len(numbers) < 4:
            return None
        form = self.form or ("tags" if tagged and "(" in tagged[1] else "thousand" if max(numbers) > 1.5 else "unit")
        x1, y1, x2, y2 = (min(max(n / SCALES[form], 0.0), 1.0) for n in numbers)
        return BoxUnit(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))

    def score(self, prediction: BoxUnit | None, target: BoxUnit) -> Mapping[str, float]:
        """``correct``: overlap of at least one half; ``iou``: the overlap."""
        iou = 0.0 if prediction is None else _square(prediction).iou(_square(target))
        return {"correct": float(iou >= HIT), "iou": iou}


def _square(box: BoxUnit) -> BoxAbs:
    """On a picture of side 1; the overlap is the same on any."""
    return box.to_abs((1, 1))
