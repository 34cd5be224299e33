"""`demo`: a LLaVA from nothing, in stages, on two CPU cores in a quarter of an hour, with proof that it sees.

1. ``encoder``: the vision encoder with a throw-away connector and two-layer decoder answers what stands where. Colour
   and shape are asked apart, so that neither is learnt from the other.
2. ``text``: the decoder alone reads scenes in words, as sentences and as notes that are laid out like picture tokens.
   All colour–shape pairs are named there, also those that are never drawn, and it must say what stands where.
3. ``align``: a fresh connector between the two, both frozen (LLaVA's stage 1).
4. ``finetune``: instruction data (LLaVA's stage 2) with some notes among the pictures, so that the decoder keeps what
   it has read; the connector and the decoder, and the encoder at a lower rate.

What else was tried, with its figures, is in docs/decisions/0006-demo-stages.md.
"""

from pathlib import Path
from typing import Any

from eyespot.data.sources import WorldSource
from eyespot.families import Loaded
from eyespot.recipes._proof import evaluate_scenes
from eyespot.recipes._small import FAST, Sizes, small_llava
from eyespot.train.run import RunConfig
from eyespot.worlds.scenes import SMALL, Notes, Scenes, words
from eyespot.worlds.scenes.sentences import vocabulary

WORLD = SMALL.replace(sides=(64, 128))
# What the encoder is asked before there is a language model: colour and shape of a place, place of a colour or shape.
TOLD = WORLD.replace(types=(*WORLD.types, "caption"))
PLACES = WORLD.replace(types=("colour_at", "shape_at", "where", "count"), references=("shape", "colour"))
DRAWN = 12000  # pictures of a stage; each is seen about two or three times
WRITTEN = 4000  # notes and sentences, likewise
# Notes that go on in finetune: few, as reading a new one takes longer than a new picture, and as long as a picture, as
# a batch of equal prefixes is computed fastest.
KEPT = 1500
NOTES = 6 / 54  # their share of the rows

CARD = f"""Answers questions about drawn scenes of one to four objects.

Shapes: {", ".join(WORLD.shapes)}. Colours: {", ".join(WORLD.colours)}.
It understands these phrasings (*a* or *an* as the colour wants):

""" + "\n".join(f"- {text}" for kind in WORLD.types for text in words.PHRASINGS[kind]["en"])


def demo() -> RunConfig:
    """The four stages."""
    shared = FAST.replace(batch_tokens=7600, max_length=512)
    drawn = _first(Scenes(WORLD), DRAWN)
    return RunConfig(
        model=model,
        out="runs/demo",
        stages=(
            shared.replace(
                name="encoder",
                steps=500,
                model=throw_away,
                trainable=(".",),
                data=(_first(Scenes(PLACES), DRAWN),),
            ),
            shared.replace(
                name="text",
                steps=500,
                trainable=("decoder",),
                data=(_first(Notes(TOLD), WRITTEN),),
                batch_tokens=2700,
            ),
            shared.replace(
                name="align",
                steps=100,
                trainable=("connector",),
                init_from={"vision_encoder": "stage:encoder"},
                data=(drawn,),
            ),
            shared.replace(
                name="finetune",
                steps=700,
                trainable=("vision_encoder:1e-3", "connector|decoder"),
                data=((drawn, 1 - NOTES), (_first(Notes(TOLD, lengths=(64,), notes=1.0), KEPT), NOTES)),
            ),
        ),
        evaluator=evaluator,
        report="eyespot.recipes._proof:report",
        precision="auto",
        cache_gib=3.0,
        card=CARD,
    )


def model() -> Loaded:
    """The demo's model, fresh."""
    return small_llava(vocabulary(WORLD))


def throw_away() -> Loaded:
    """The same encoder with a connector and a two-layer decoder that are not kept."""
    return small_llava(vocabulary(PLACES), Sizes(decoder_layers=2))


def evaluator(loaded: Loaded, *, stage: str, step: int, out: Path) -> dict[str, Any]:
    """Held-out scenes and compositions of the demo's world."""
    return evaluate_scenes(loaded, stage=stage, step=step, out=out, config=WORLD)


def _first(world: Scenes | Notes, items: int) -> WorldSource:
    """The first items of the training split, so that later epochs need no drawing and no rendering."""
    return WorldSource(world, "train", 0, items)
