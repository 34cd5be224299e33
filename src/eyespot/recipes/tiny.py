"""`tiny`: a LLaVA of some thousand parameters, built from nothing and trained for a few steps. For tests and scripts.

It shows every part of a run in seconds and learns next to nothing; the recipe that learns to see is `demo`.
"""

from itertools import islice

from eyespot.families import Loaded
from eyespot.recipes._small import Sizes, small_llava
from eyespot.train.run import RunConfig, Stage
from eyespot.worlds.scenes import SMALL, Scenes

SIZES = Sizes(picture=32, width=32, heads=2, encoder_layers=2, decoder_layers=2, context=512)


def tiny() -> RunConfig:
    """Two stages on drawn scenes: the connector alone, then everything but the encoder."""
    align = Stage(name="align", steps=4, lr=3e-3, trainable=("connector",), batch_tokens=1024, max_length=512)
    finetune = align.replace(name="finetune", lr=1e-3, trainable=("connector|decoder",))
    return RunConfig(
        model="eyespot.recipes.tiny:model", data=("world:scenes",), out="runs/tiny", stages=(align, finetune)
    )


def model() -> Loaded:
    """A fresh model with random weights; its vocabulary is every word that a hundred scenes are told with."""
    told = [m.text for example in islice(Scenes(SMALL).text_examples(), 100) for m in example.messages]
    return small_llava(told, SIZES)
