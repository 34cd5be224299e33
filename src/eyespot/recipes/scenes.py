"""`scenes`: the demo's four stages on the whole scenes world, for an hour or two rather than a quarter of an hour.

All shapes, colours, sizes, textures, grounds (photographs too), kinds of question and both languages; boxes and
captions included. The figures of each kind come at the end, boxes at an overlap of one half, captions apart.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from eyespot.data.sources import WorldSource
from eyespot.families import Loaded
from eyespot.recipes._proof import evaluate_scenes
from eyespot.recipes._small import Sizes, small_llava
from eyespot.recipes.demo import NOTES, demo
from eyespot.train.run import RunConfig
from eyespot.worlds.scenes import Notes, Scenes, ScenesConfig
from eyespot.worlds.scenes.sentences import vocabulary

WORLD = ScenesConfig(languages=("en", "ko"))
PLACES = WORLD.replace(
    types=("colour_at", "shape_at", "where", "count", "size", "text"), references=("shape", "colour"), languages=("en",)
)
TOLD = WORLD.replace(types=(*(t for t in WORLD.types if t not in ("text", "box", "description")),), languages=("en",))
LONGEST = 48  # tokens of an answer: descriptions of four objects have some forty, a box has 22
SIZES = Sizes(picture=96, decoder_layers=6, context=2048)


def scenes() -> RunConfig:
    """The demo's stages, longer, over endless pictures."""
    config = demo()
    drawn, places = (WorldSource(Scenes(world), "train", 0) for world in (WORLD, PLACES))
    written = WorldSource(Notes(TOLD), "train", 0)
    mixed = ((drawn, 1 - NOTES), (written, NOTES))
    data = {"encoder": (places,), "text": (written,), "align": (drawn,), "finetune": mixed}
    steps = {"encoder": 1600, "text": 500, "align": 100, "finetune": 2000}
    stages = tuple(
        s.replace(data=data[s.name], steps=steps[s.name], model=throw_away if s.name == "encoder" else None)
        for s in config.stages
    )
    return config.replace(
        model=model,
        out="runs/scenes",
        stages=stages,
        evaluator=evaluator,
        cache_gib=0.0,
        workers=1,
        save_every=500,
        card="",
    )


def model() -> Loaded:
    """The recipe's model, fresh."""
    return small_llava(vocabulary(WORLD), SIZES)


def throw_away() -> Loaded:
    """The same encoder with a connector and a two-layer decoder that are not kept."""
    return small_llava(vocabulary(WORLD), replace(SIZES, decoder_layers=2))


def evaluator(loaded: Loaded, *, stage: str, step: int, out: Path) -> dict[str, Any]:
    """Held-out scenes and compositions, every kind of question; at the end only, as long answers take their time."""
    if (stage, step > 0) != ("finetune", True):
        return {}
    return evaluate_scenes(loaded, stage=stage, step=step, out=out, config=WORLD, max_new_tokens=LONGEST)
