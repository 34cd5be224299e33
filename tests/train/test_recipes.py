"""The recipes `tiny` and `finetune`, as a user runs them."""

from pathlib import Path

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages
from eyespot.recipes.finetune import finetune
from eyespot.recipes.tiny import model, tiny
from eyespot.train.events import RunDone, StepDone
from eyespot.train.loop import train
from eyespot.train.run import read_overrides


def test_tiny_runs_and_finetune_goes_on_from_its_model(tmp_path):
    first = read_overrides(tiny(), [f"out={tmp_path}/a", "steps=2"])
    events = list(train(first))
    assert [(e.stage, e.step) for e in events if isinstance(e, StepDone)] == [
        ("align", 1), ("align", 2), ("finetune", 1), ("finetune", 2),
    ]  # fmt: skip
    more = [f"model={tmp_path}/a/model", "data=world:scenes", f"out={tmp_path}/b", "steps=2", "batch_tokens=512"]
    events = list(train(read_overrides(finetune(), more)))
    assert isinstance(events[-1], RunDone)
    assert Path(tmp_path, "b", "model", "config.json").is_file()


def test_finetune_asks_for_a_model_and_for_data():
    with pytest.raises(EyespotError) as caught:
        list(train(finetune()))
    assert caught.value.where == "finetune.model"


def test_tiny_takes_a_system_text_as_the_other_small_models_do():
    processor = model().processor
    messages = read_messages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}])
    ids = processor.encode(messages, add_generation_prompt=True).input_ids
    assert processor.tokenizer.decode(ids, skip_special=False) == "<user>Be brief.\nWhat?<assistant>"


def test_the_tiny_model_knows_its_words_and_tokens():
    loaded = model()
    assert loaded.tokenizer.id_of("<image>") == loaded.contract.text.image_token_id
    assert sum(p.numel() for p in loaded.module.parameters()) < 100_000
    ids = loaded.tokenizer.encode("What color is the circle?").ids
    assert len(ids) <= 7
