"""Proof that a model sees: held-out scenes and held-out compositions, beside a blank picture and the best constant.

Not a recipe: the evaluator and the report of the recipes on scenes. Figures go to ``result.json`` as the loop's own;
answered pictures wait in ``answers.json`` for the page.
"""

import functools
import json
from itertools import islice
from pathlib import Path
from typing import Any

from eyespot.contracts.message import Example
from eyespot.engine.model import Model
from eyespot.eval import report as pages
from eyespot.eval.run import OVERALL, Evaluation, evaluate
from eyespot.families import Loaded
from eyespot.tasks import open_task
from eyespot.train.folder import write_json, write_text
from eyespot.worlds.scenes import Scenes, ScenesConfig

# What is asked after a stage (or before it): (stage, at its end) → name in the figures, questions of each type.
MOMENTS = {("align", False): ("before", 100), ("align", True): ("align", 100), ("finetune", True): ("finetune", 300)}
SETS = {"stages": "heldout", "compositions": "compositions"}
SHOWN = 24  # answered pictures of a set on the page: half of them wrong ones where there are so many
SEED = 2026


def evaluate_scenes(
    loaded: Loaded, *, stage: str, step: int, out: Path, config: ScenesConfig, max_new_tokens: int = 6
) -> dict[str, Any]:
    """The evaluator: both sets, with and without the picture. Nothing where the moment is not one of `MOMENTS`."""
    if (stage, step > 0) not in MOMENTS:
        return {}
    moment, each = MOMENTS[stage, step > 0]
    model, task = Model(loaded), open_task("scenes")
    found: dict[str, Any] = {"moment": moment}
    kept: dict[str, Any] = {}
    for key, split in SETS.items():
        evaluation = evaluate(model, task, examples(config, split, each), max_new_tokens=max_new_tokens)
        found[key] = evaluation.figures()
        kept[key] = shown(evaluation)
    write_json(out / "answers.json", {"moment": moment, **kept})
    found[OVERALL] = {key: round(found[key][OVERALL]["accuracy"], 4) for key in SETS}
    return found


@functools.lru_cache(maxsize=8)
def examples(config: ScenesConfig, split: str, each: int) -> tuple[Example, ...]:
    """So many questions of each type; types take turns, so a shorter list is the beginning of a longer one."""
    return tuple(islice(Scenes(config).examples(split, SEED), each * len(config.types)))


def shown(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Answered pictures for the page, in the order asked, wrong ones among them."""
    wrong = [a for a in evaluation.answers if a.score < 0.5][: SHOWN // 2]
    right = [a for a in evaluation.answers if a.score >= 0.5][: SHOWN - len(wrong)]
    return [pages.answer_record(a) for a in (*right, *wrong)]


def report(out: Path) -> None:
    """Put the figures into ``result.json`` in the form that the documents name, and write ``report.html``."""
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    found = {e["result"]["moment"]: e["result"] for e in result["evaluations"] if e["result"]}
    for key in SETS:
        result[key] = {moment: figures[key] for moment, figures in found.items()}
    answers = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    result["answers"] = [
        f"{a['question']} -> {a['answer']}" + ("" if a["right"] else f" (truth: {a['truth']})")
        for a in (*answers["stages"][:2], *answers["compositions"][:1])
    ]
    write_json(out / "result.json", result)
    write_text(out / "report.html", _page(result, answers, out))


def _page(result: dict[str, Any], answers: dict[str, Any], out: Path) -> str:
    seen, composed = (list(result[key].values())[-1] for key in SETS)
    cards = pages.cards([
        (pages.percent(seen[OVERALL]["accuracy"]), "right on held-out scenes"),
        (pages.percent(composed[OVERALL]["accuracy"]), "right on held-out compositions"),
        (pages.percent(seen[OVERALL]["blank"]), "right without the picture"),
        (pages.percent(seen[OVERALL]["chance"]), "by the best constant answers"),
        (f"{sum(result['seconds'].values()) / 60:.1f} min", "of training"),
    ])  # fmt: skip
    rows = "".join(
        f"<tr><td>{name}</td><td>{result['steps'][name]:,}</td><td>{seconds:.0f} s</td>"
        f"<td>{_changed(result['frozen'][name])}</td></tr>"
        for name, seconds in result["seconds"].items()
    )
    stages = f"<table><tr><th>stage</th><th>steps</th><th>time</th><th>parts that changed</th></tr>{rows}</table>"
    curves = (out / "curves.svg").read_text(encoding="utf-8")
    sections = [
        ("In short", cards),
        ("Held-out scenes, stage by stage", pages.bars(result["stages"])),
        ("Held-out compositions: colour–shape pairs that training never drew", pages.bars(result["compositions"])),
        ("Answers on held-out scenes, wrong ones last", pages.answers_grid(answers["stages"])),
        ("Answers on held-out compositions, wrong ones last", pages.answers_grid(answers["compositions"])),
        ("What each stage trained", stages),
        ("Loss and learning rate", curves),
    ]
    for title, key in (("Held-out scenes", "stages"), ("Held-out compositions", "compositions")):
        sections += [(f"{title}: {moment}", pages.figures_table(f)) for moment, f in result[key].items()]
    lead = (
        "A vision-language model trained from nothing on drawn scenes. New scenes share no list of objects with "
        "training and stand on grounds that it never showed; blank is the same question on a picture of one colour."
    )
    return pages.page("Does it see?", lead, sections)


def _changed(parts: dict[str, Any]) -> str:
    return ", ".join(part for part, digest in parts.items() if digest["before"] != digest["after"])
