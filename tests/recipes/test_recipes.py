"""One walk over every recipe: its plan can work, its models can be built, its data have something to learn."""

import importlib
import json
import pkgutil

import pytest

import eyespot.recipes
from eyespot.data.mixture import open_mixture
from eyespot.train.run import RunConfig
from eyespot.train.trainable import apply

NAMES = sorted(m.name for m in pkgutil.iter_modules(eyespot.recipes.__path__) if not m.name.startswith("_"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_plans_a_run_that_can_work(name):
    config = getattr(importlib.import_module(f"eyespot.recipes.{name}"), name)()
    assert isinstance(config, RunConfig)
    if name == "finetune":  # any model, any data: named on the command line
        return
    pytest.importorskip("sklearn")  # scans and photographs
    config.check()
    for stage in config.stages:
        build = stage.model or config.model
        loaded = build() if callable(build) else None
        if loaded is None:
            continue
        assert apply(loaded.module, stage.trainable, stage.lr).lrs
        mixture = open_mixture(stage.data or config.data)
        encoded = loaded.processor.encode_example(mixture.sources[0].read(0), max_length=stage.max_length)
        assert encoded.supervised and len(encoded.input_ids) <= stage.batch_tokens


def test_handwriting_reports_its_figures_and_its_answers(tmp_path):
    from eyespot.recipes.handwriting import report

    figures = {"overall": {"accuracy": 0.75, "n": 4, "interval": [0.3, 0.95], "blank": 0.0, "chance": 0.1}}
    answer = {
        "question": "Read the digit.",
        "answer": "3",
        "truth": "8",
        "right": False,
        "type": "digit",
        "picture": "",
    }
    (tmp_path / "result.json").write_text(json.dumps({"evaluations": [{"result": {}}, {"result": figures}]}))
    (tmp_path / "answers.json").write_text(json.dumps([answer]))
    (tmp_path / "curves.svg").write_text("<svg></svg>")
    report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "75.0 %" in page and "truth: 8" in page


def test_the_answers_of_scenes_have_room():
    from eyespot.recipes.scenes import LONGEST, WORLD, model
    from eyespot.worlds.scenes import Scenes

    processor, world = model().processor, Scenes(WORLD)
    asked = [world.example("train", 0, i) for i in range(40)]
    spoken = [processor.tokenizer.encode(m.text).ids for e in asked for m in e.messages if m.role == "assistant"]
    assert max(map(len, spoken)) < LONGEST
