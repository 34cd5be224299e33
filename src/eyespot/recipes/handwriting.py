"""`handwriting`: reads scanned digits and short numbers put together from them. Needs the extra ``worlds``.

The encoder first learns with a throw-away decoder, then a fresh connector is aligned, then everything is finetuned.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from eyespot.data.sources import WorldSource
from eyespot.engine.model import Model
from eyespot.eval import report as pages
from eyespot.eval.run import evaluate
from eyespot.families import Loaded
from eyespot.recipes._proof import shown
from eyespot.recipes._small import FAST, Sizes, small_llava
from eyespot.tasks import open_task
from eyespot.train.folder import write_json, write_text
from eyespot.train.run import RunConfig
from eyespot.worlds.handwriting import PHRASINGS, Handwriting

EACH = 400  # held-out questions of each kind


def handwriting() -> RunConfig:
    """Three stages over endless drawings of the training scans."""
    shared = FAST.replace(batch_tokens=5200, max_length=256)
    parts = {"vision_encoder": "stage:encoder"}
    return RunConfig(
        model=model,
        data=(WorldSource(Handwriting(), "train", 0),),
        out="runs/handwriting",
        stages=(
            shared.replace(name="encoder", steps=900, model=throw_away, trainable=(".",)),
            shared.replace(name="align", steps=100, trainable=("connector|decoder",), init_from=parts),
            shared.replace(name="finetune", steps=500, trainable=("vision_encoder:1e-3", "connector|decoder")),
        ),
        evaluator=evaluator,
        report="eyespot.recipes.handwriting:report",
    )


def model() -> Loaded:
    """A fresh model whose decoder has two layers; digits are tokens."""
    digits = [" ".join("0123456789"), *"0123456789"]
    return small_llava([t for kinds in PHRASINGS.values() for t in kinds["en"]] + digits, Sizes(decoder_layers=2))


throw_away = model


def evaluator(loaded: Loaded, *, stage: str, step: int, out: Path) -> dict[str, Any]:
    """Held-out scans, digits and numbers apart, after the last stage."""
    if stage != "finetune" or not step:
        return {}
    world = Handwriting()
    asked = list(islice(world.examples("heldout", 2026), EACH * len(world.config.types)))
    evaluation = evaluate(Model(loaded), open_task("handwriting"), asked, max_new_tokens=6)
    write_json(out / "answers.json", shown(evaluation))
    return evaluation.figures()


def report(out: Path) -> None:
    """``report.html``: figures, answered scans, wrong ones last, and the curves."""
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    figures = result["evaluations"][-1]["result"]
    sections = [
        ("Held-out scans", pages.figures_table(figures)),
        ("Against a blank picture and the best constant answer", pages.bars({"finetune": figures})),
        ("Answers, wrong ones last", pages.answers_grid(json.loads((out / "answers.json").read_text("utf-8")))),
        ("Loss and learning rate", (out / "curves.svg").read_text(encoding="utf-8")),
    ]
    lead = "Digits and short numbers from scans that training never showed, on grounds that it never showed either."
    write_text(out / "report.html", pages.page("Does it read?", lead, sections))
