"""Training with adapters: the model stays, the table says so, resumed = uninterrupted, the adapter is taken along."""

import json
from pathlib import Path

import pytest
import torch
from test_resume import leave_after, outcome
from tiny_run import FINETUNE, model

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.nn.adapters import LoraConfig, adapters
from eyespot.train import models, trainable
from eyespot.train.events import StageDone, StageStarted
from eyespot.train.optim import Optimizer
from eyespot.train.preflight import digests
from eyespot.train.run import RunConfig, Stage, read_overrides

LORA = FINETUNE.replace(name="lora", trainable=(), lora=LoraConfig(rank=2, alpha=4, dropout=0.1), lr=1e-2)


@pytest.fixture
def base_folder(tmp_path) -> Path:
    families.save(model(), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def lora(config, base_folder) -> RunConfig:
    """A run of adapters over a model on the disk."""
    return config.replace(model=str(base_folder), stages=(LORA,), save_every=1)


def test_adapters_are_what_is_trained_and_the_table_says_so(lora, events):
    started = next(e for e in events(lora) if isinstance(e, StageStarted))
    trained = {row.pattern: row for row in started.trainable.rows if row.lr is not None}
    assert list(trained) == [r"\.lora_[AB]$"]
    assert trained[r"\.lora_[AB]$"].part == "decoder"
    assert r"\.lora_[AB]$" in started.trainable.to_text()
    assert all(".lora_" in name for name in started.trainable.lrs)


def test_the_base_does_not_move_and_the_run_leaves_adapter_and_merged_model(lora, events, base_folder):
    events(lora)
    out, base = Path(lora.out), families.load(base_folder)
    merged = families.load(out / "model")
    with_adapter = families.load(base_folder, adapter=out / "adapter")
    alone = families.load(out / "adapter")  # it names its base
    assert adapters(with_adapter.module).keys() == adapters(alone.module).keys()
    assert all(layer.lora_B.any() for layer in adapters(alone.module).values())
    plain = {n: t for n, t in with_adapter.module.state_dict().items() if ".lora_" not in n}
    assert all(torch.equal(t, base.module.state_dict()[n]) for n, t in plain.items())
    for name, layer in adapters(alone.module).items():
        weight = base.module.get_submodule(name).weight + layer.product()
        assert torch.allclose(merged.module.get_submodule(name).weight, weight, atol=1e-7)
    named = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == str(base_folder)


def test_a_run_with_adapters_stopped_and_resumed_is_the_run_that_was_not(lora, events, tmp_path):
    events(lora)
    second = lora.replace(out=str(tmp_path / "second"))
    leave_after(second, "lora", 2)
    torch.rand(7)
    events(second, resume=True)
    assert outcome(second) == outcome(lora)
    a, b = (digests(families.load(Path(c.out, "adapter")).module) for c in (lora, second))
    assert a == b


def test_a_stage_of_the_same_adapters_goes_on_with_them_and_one_without_merges_them(lora, events, tmp_path):
    again = LORA.replace(name="again", steps=1)
    other = FINETUNE.replace(name="other", steps=1, trainable=("connector",))
    config = lora.replace(stages=(LORA, again, other))
    done = {e.stage: e for e in events(config) if isinstance(e, StageDone)}
    assert list(done) == ["lora", "again", "other"]
    assert not Path(config.out, "adapter").exists()  # its base is nowhere by now
    steps = {}
    for stage in ("lora", "again", "other"):
        end = next(Path(config.out, "checkpoints").glob(f"*-{stage}-*-end"))
        steps[stage] = adapters(models.restore(end).module)
    assert [bool(found) for found in steps.values()] == [True, True, False]
    one, two = (next(iter(steps[s].values())).lora_A for s in ("lora", "again"))
    assert not torch.equal(one, two) and torch.allclose(one, two, atol=0.1)
    second = config.replace(out=str(tmp_path / "second"))
    leave_after(second, "lora", 3)
    events(second, resume=True)  # "again" begins with adapters off the disk
    assert outcome(second) == outcome(config)


def test_what_else_is_trained_is_named_and_then_the_adapter_alone_would_not_do(lora, events):
    stage = LORA.replace(trainable=("connector:1e-3",))
    started = next(e for e in events(lora.replace(stages=(stage,))) if isinstance(e, StageStarted))
    assert {n.partition(".")[0] for n in started.trainable.lrs} == {"connector", "decoder"}
    assert Path(lora.out, "model").exists() and not Path(lora.out, "adapter").exists()


def test_adamw_takes_the_adapters_under_muon_too():
    loaded = model()
    stage = LORA.replace(optimizer="muon", trainable=("connector",))
    table = models.choose(loaded, stage)
    names = Optimizer(loaded.module, table.lrs, stage).names
    assert names["muon"] and not [n for n in names["muon"] if ".lora_" in n]
    assert [n for n in names["adamw"] if ".lora_" in n]


def test_the_audit_wants_a_gradient_at_every_b(lora, events, monkeypatch):
    from eyespot.nn.adapters import LoraLinear

    forward = LoraLinear.forward
    monkeypatch.setattr(LoraLinear, "forward", lambda self, x: forward(self, x).detach() + x.sum() * 0)
    with pytest.raises(EyespotError) as caught:
        events(lora)
    assert caught.value.code == "gradient-missing" and "lora_B" in str(caught.value)


def test_parts_are_taken_from_a_stage_with_adapters_merged(lora, events):
    encoder = LORA.replace(name="encoder", model=lora.model, lora=LoraConfig(rank=2, modules="vision_encoder"), steps=1)
    align = FINETUNE.replace(name="align", steps=1, init_from={"vision_encoder": "stage:encoder"})
    found = events(lora.replace(stages=(encoder, align)))
    assert [e.stage for e in found if isinstance(e, StageDone)] == ["encoder", "align"]


def test_keys_on_the_command_line():
    config = RunConfig(stages=(Stage(name="align"), Stage(name="finetune")))
    changed = read_overrides(config, ["finetune.lora.rank=4", "finetune.lora.alpha=8", "finetune.lora.modules=q_proj"])
    assert changed.stages[0].lora is None
    assert changed.stages[1].lora == LoraConfig(rank=4, alpha=8, modules="q_proj")
    assert changed.stages[1].patterns == (r"\.lora_[AB]$",)
    assert changed.stages[0].patterns == ("connector|decoder|lm_head",)
    assert read_overrides(changed, ["lora=none"]).stages[1].lora is None
    assert RunConfig.from_dict(changed.to_dict()) == changed
    with pytest.raises(EyespotError, match="did you mean 'rank'"):
        read_overrides(config, ["lora.rnk=4"])
    with pytest.raises(EyespotError, match="lora.rank"):
        read_overrides(config, ["lora.rank=many"])


def test_a_pattern_that_names_no_linear_layer_is_refused():
    with pytest.raises(EyespotError) as caught:
        models.choose(model(), LORA.replace(lora=LoraConfig(modules="decodr")))
    assert caught.value.code == "adapter-unmatched"


def test_patterns_of_trainable_follow_the_adapters():
    loaded = model()
    models.choose(loaded, LORA)
    again = trainable.apply(loaded.module, LORA.patterns, 1.0)
    assert set(again.lrs.values()) == {1.0}
