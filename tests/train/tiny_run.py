"""A tiny model and a handful of drawn rows, so that a whole run takes a fraction of a second."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np

from eyespot.contracts.message import Example, Message, Text
from eyespot.contracts.message import MediaRef as Ref
from eyespot.families import Loaded, build
from eyespot.recipes import tiny
from eyespot.train.run import RunConfig, Stage

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


def row(index: int, picture: bool = True) -> Example:
    """A plain coloured picture and what its colour is; answers of several lengths."""
    colour = list(COLOURS)[index % 3]
    pixels = np.full((20 + index % 5, 24, 3), COLOURS[colour], dtype=np.uint8)
    media = (Ref("image", pixels),) if picture else ()
    question = Message("user", (*media, Text("What color is it?")))
    answer = Message("assistant", (Text(" ".join([colour] * (1 + index % 4))),))
    return Example(f"row-{index}", (question, answer))


_model = cache(tiny.model)


def model() -> Loaded:
    """The model of the recipe `tiny`; its vocabulary is made once, its weights are drawn each time."""
    loaded = deepcopy(_model())
    loaded.module = build(loaded.config)
    return loaded


@cache
def rows(count: int = 24, pictures: bool = True) -> tuple[Example, ...]:
    """Rows for a run."""
    return tuple(row(i, pictures) for i in range(count))


ALIGN = Stage(name="align", steps=3, lr=3e-3, trainable=("connector",), batch_tokens=160, max_length=120)
FINETUNE = ALIGN.replace(name="finetune", lr=1e-3, trainable=("connector|decoder",), weight_decay=0.01)


def base(out: Path) -> RunConfig:
    """Two stages of three steps."""
    _model()  # made before any run: what it draws must not be part of the first one
    return RunConfig(model=model, data=(rows(),), out=str(out), stages=(ALIGN, FINETUNE), precision="float32")
