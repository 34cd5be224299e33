"""LLaVA rows and the picture that they are about."""

import json

import numpy as np


def pixels(height=40, width=60):
    """Smooth colours, so that every spelling of the picture must give the same bytes."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=-1).astype(np.uint8)


def row(number=0, **changes):
    """A LLaVA row about `star.png`."""
    turns = [
        {"from": "human", "value": "<image>\nWhat color is the star?"},
        {"from": "gpt", "value": ("red", "It is red.")[number % 2]},
    ]
    return {"id": f"row-{number}", "image": "star.png", "conversations": turns, **changes}


def write_rows(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
