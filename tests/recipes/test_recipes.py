"""One walk over every recipe: its plan can work, its models can be built, its data have something to learn."""

import importlib
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
