"""The loop as a whole: what it yields, what it leaves, what it refuses."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_run import ALIGN, FINETUNE, model, rows

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.recipes._small import SPECIALS
from eyespot.train.events import Evaluated, RunDone, Saved, StageDone, StageStarted, StepDone
from eyespot.train.loop import train
from eyespot.train.preflight import digests
from eyespot.train.run import RunConfig, Stage


def of(kind, found):
    return [event for event in found if isinstance(event, kind)]


def log(config):
    return [json.loads(line) for line in Path(config.out, "log.jsonl").read_text().splitlines()]


def refused(config, code):
    with pytest.raises(EyespotError) as caught:
        list(train(config))
    assert caught.value.code == code
    return caught.value


def test_events_come_in_order_and_steps_count_from_one(config, events):
    found = events(config)
    one_stage = [StageStarted, *[StepDone] * 3, Saved, StageDone]
    assert [type(e) for e in found] == [*one_stage, *one_stage, RunDone]
    steps = [(stage, step) for stage in ("align", "finetune") for step in (1, 2, 3)]
    assert [(e.stage, e.step) for e in of(StepDone, found)] == steps


def test_the_folder_holds_all_that_is_promised(config, events):
    events(config)
    out = Path(config.out)
    for name in ("log.jsonl", "run.json", "result.json", "curves.svg", "model/README.md", "model/tokenizer.json"):
        assert (out / name).is_file(), name
    run = json.loads((out / "run.json").read_text())
    assert run["stages"]["align"]["data"][0]["hash"]
    assert {row["part"] for row in run["stages"]["align"]["trainable"]} == {"vision_encoder", "connector", "decoder"}
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


def test_the_log_holds_every_step_unrounded(config, events):
    found = events(config)
    assert [row["loss"] for row in log(config)] == [event.loss for event in of(StepDone, found)]
    assert {"stage", "step", "loss", "lr", "tokens", "tokens_per_s", "data_wait", "grad_norm"} <= set(log(config)[0])


def test_log_every_thins_the_log_and_not_the_training(config, events):
    losses = [e.loss for e in of(StepDone, events(config.replace(log_every=2)))]
    kept = log(config)
    assert [(row["stage"], row["step"]) for row in kept] == [("align", 2), ("finetune", 2)]
    assert [row["loss"] for row in kept] == losses[1::3]


def test_the_model_learns(config, events):
    stage = FINETUNE.replace(steps=25, lr=1e-2, trainable=(".*",))
    losses = [e.loss for e in of(StepDone, events(config.replace(stages=(stage,))))]
    assert losses[-1] < 0.5 * losses[0]


def test_frozen_parts_keep_their_hash_and_trained_ones_change(config, events):
    events(config)
    frozen = json.loads(Path(config.out, "result.json").read_text())["frozen"]
    moved = {stage: {p for p, h in parts.items() if h["before"] != h["after"]} for stage, parts in frozen.items()}
    assert moved == {"align": {"connector"}, "finetune": {"connector", "decoder"}}
    for part in ("vision_encoder", "connector", "decoder"):
        assert frozen["align"][part]["after"] == frozen["finetune"][part]["before"]


def test_a_frozen_part_that_something_moves_is_an_error(config):
    class Meddling:
        def __call__(self, loaded, **_):
            with torch.no_grad():
                loaded.module.decoder.norm.weight.add_(1)
            return {}

    error = refused(config.replace(evaluator=Meddling()), "frozen-changed")
    assert "decoder.norm.weight" in error.message


def test_the_final_model_is_the_trained_one(config, events):
    loaded = of(StageDone, events(config))[-1].loaded
    again = families.load(Path(config.out, "model"))
    assert digests(again.module) == digests(loaded.module)
    assert again.contract == loaded.contract


def test_the_same_seed_gives_the_same_run_and_another_another(config, events, tmp_path):
    first = [e.loss for e in of(StepDone, events(config))]
    same = [e.loss for e in of(StepDone, events(config.replace(out=str(tmp_path / "b"))))]
    other = [e.loss for e in of(StepDone, events(config.replace(out=str(tmp_path / "c"), seed=1)))]
    assert first == same != other


def test_accumulated_micro_batches_are_one_step(config, events, tmp_path):
    """Answers are of unlike length, so a mean of means would differ."""
    whole = ALIGN.replace(trainable=("connector|decoder",), batch_tokens=4000, clip=0.0, schedule="constant")
    processor = model().processor
    lengths = [len(processor.encode_example(row).input_ids) for row in rows(8)]
    results = []
    for name, stage in (
        ("whole", whole.replace(steps=1, batch_tokens=sum(lengths))),
        ("parts", whole.replace(steps=1, batch_tokens=max(lengths), accumulation=8)),
    ):
        found = events(config.replace(out=str(tmp_path / name), data=(rows(8),), stages=(stage,)))
        results.append((of(StepDone, found)[0].row, of(StageDone, found)[0].loaded.module))
    (one, module), (eight, again) = results
    assert one["samples"] == eight["samples"] == 8
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert eight["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_evaluation_leaves_no_trace_in_the_training(config, events, tmp_path):
    seen = []

    def evaluator(loaded, *, stage, step, out):
        assert not loaded.module.training and not torch.is_grad_enabled()
        torch.rand(7)
        seen.append((stage, step))
        return {"overall": {"accuracy": step / 4}}

    plain = [e.loss for e in of(StepDone, events(config))]
    other = config.replace(out=str(tmp_path / "b"), evaluator=evaluator, eval_every=2)
    found = events(other)
    assert [e.loss for e in of(StepDone, found)] == plain
    assert seen == [(n, s) for n in ("align", "finetune") for s in (0, 2, 3)]
    result = json.loads(Path(other.out, "result.json").read_text())
    assert result["evaluations"][1] == {"stage": "align", "step": 2, "result": {"overall": {"accuracy": 0.5}}}
    assert len(of(Evaluated, found)) == 6


def test_a_report_is_asked_for_when_everything_is_written(config, events):
    def report(out):
        assert (out / "model" / "model.safetensors").is_file()
        (out / "report.html").write_text((out / "result.json").read_text())

    events(config.replace(report=report))
    assert Path(config.out, "report.html").is_file()


def test_a_part_without_gradient_stops_the_run_before_step_one(config):
    text = rows(24, pictures=False)
    error = refused(config.replace(data=(text,), stages=(FINETUNE,), audit=3), "gradient-missing")
    assert "connector.layers.0.weight (absent)" in error.message
    assert not Path(config.out, "log.jsonl").exists()


def test_text_rows_between_pictures_are_no_fault(config, events):
    mixed = (rows(6, pictures=False), rows(6))
    found = events(config.replace(data=mixed, stages=(ALIGN.replace(batch_tokens=60, steps=8),)))
    assert len(of(StepDone, found)) == 8


def test_layers_behind_the_tap_are_listed_and_left_alone(config, events):
    def tapped():
        loaded = model()
        loaded.module.config = loaded.module.config.replace(select_layers=(-2,))
        return loaded

    stage = ALIGN.replace(trainable=("connector|vision_encoder",))
    found = events(config.replace(model=tapped, stages=(stage,)))
    table = of(StageStarted, found)[0].trainable
    assert not [name for name in table.lrs if name.startswith("vision_encoder.blocks.1.")]
    assert any("behind the tap" in row.note for row in table.rows)


def test_a_loss_that_is_not_finite_names_stage_step_and_samples(config):
    def broken():
        loaded = model()
        with torch.no_grad():
            loaded.module.connector.layers[0].weight[0, 0] = math.nan
        return loaded

    error = refused(config.replace(model=broken, audit=0), "loss-not-finite")
    assert "row-" in error.message
    assert error.where == "align step 1"


def test_a_gradient_that_is_not_finite_names_the_samples_of_the_whole_step(config, monkeypatch):
    monkeypatch.setattr("eyespot.train.loop.scale_and_clip", lambda *_: math.nan)
    named = []
    for accumulation in (1, 2):
        stage = ALIGN.replace(accumulation=accumulation)
        out = f"{config.out}-{accumulation}"
        error = refused(config.replace(stages=(stage,), out=out), "loss-not-finite")
        named.append(error.message.partition("samples: ")[2].split(", "))
    assert named[1][: len(named[0])] == named[0] and len(named[1]) > len(named[0])


def test_too_many_bad_rows_stop_the_run_naming_them(config):
    good = rows(6)
    bad = tuple(r.__class__(f"bad-{r.id}", r.messages[:1]) for r in rows(6))
    error = refused(config.replace(data=(good + bad,), stages=(ALIGN.replace(steps=50),)), "data-dropped")
    assert "bad-row-" in error.message


def test_what_became_of_every_row_is_kept(config, events):
    events(config)
    ledger = json.loads(Path(config.out, "result.json").read_text())["data"]["align"]
    assert ledger["read"] == ledger["used"] + ledger["truncated"] + sum(ledger["dropped"].values()) > 0


def test_a_stage_with_a_model_of_its_own_gives_parts_to_later_stages(config, events):
    """Pre-train an encoder with a throw-away connector and decoder, a decoder on text, then join them."""
    encoder = FINETUNE.replace(name="encoder", model=model, trainable=(".*",), steps=2)
    text = FINETUNE.replace(name="text", model=model, trainable=("decoder",), steps=2, data=(rows(24, False),))
    align = ALIGN.replace(init_from={"vision_encoder": "stage:encoder", "decoder": "stage:text"}, steps=2)
    events(config.replace(stages=(encoder, text, align, FINETUNE)))
    frozen = json.loads(Path(config.out, "result.json").read_text())["frozen"]
    assert frozen["align"]["vision_encoder"]["before"] == frozen["encoder"]["vision_encoder"]["after"]
    assert frozen["align"]["decoder"]["before"] == frozen["text"]["decoder"]["after"]
    hashes = {frozen[stage]["connector"]["after"] for stage in ("encoder", "text")}
    assert frozen["align"]["connector"]["before"] not in hashes
    assert frozen["finetune"]["connector"]["before"] == frozen["align"]["connector"]["after"]


def test_a_part_may_come_from_a_folder(config, events, tmp_path):
    events(config.replace(stages=(FINETUNE.replace(trainable=("decoder",)),)))
    source = str(Path(config.out, "model"))
    second = config.replace(out=str(tmp_path / "b"), seed=5, stages=(ALIGN.replace(init_from={"decoder": source}),))
    frozen = of(StageDone, events(second))[0].frozen
    first = json.loads(Path(config.out, "result.json").read_text())["frozen"]["finetune"]
    assert frozen["decoder"]["before"] == first["decoder"]["after"]
    assert frozen["vision_encoder"]["before"] != first["vision_encoder"]["after"]


@pytest.mark.parametrize(
    ("init_from", "code"),
    [({"connectr": model}, "config-value"), ({"vision_encoder": "nowhere/at/all"}, "checkpoint-missing")],
)
def test_a_part_that_is_not_there_is_refused(config, init_from, code):
    error = refused(config.replace(stages=(ALIGN.replace(init_from=init_from),)), code)
    if code == "config-value":
        assert "'connector'" in error.message


def test_a_part_of_another_shape_is_refused_with_a_table(config):
    def wider():
        loaded = model()
        loaded.module.connector.layers.append(torch.nn.Linear(32, 32))
        return loaded

    error = refused(config.replace(stages=(ALIGN.replace(init_from={"connector": wider}),)), "checkpoint-keys")
    assert "layers.2.weight: unexpected" in error.message


def test_a_stage_may_end_by_the_clock(config, events):
    stage = ALIGN.replace(steps=100_000, seconds=0.3)
    found = events(config.replace(stages=(stage,)))
    done = of(StageDone, found)[0]
    assert 0.3 <= done.seconds < 2
    assert of(StepDone, found)[-1].step == done.steps < 100_000
    assert of(StepDone, found)[-1].row["lr"] < 0.5 * stage.lr


def test_bfloat16_computes_with_float32_masters(config, events, tmp_path):
    exact = [e.loss for e in of(StepDone, events(config))]
    found = events(config.replace(out=str(tmp_path / "b"), precision="bfloat16"))
    rough = [e.loss for e in of(StepDone, found)]
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.02)
    assert {p.dtype for p in of(StageDone, found)[-1].loaded.module.parameters()} == {torch.float32}


def test_a_model_stored_narrow_is_trained_wide_and_left_narrow(config, events):
    def narrow():
        loaded = model()
        loaded.module.to(torch.bfloat16)
        return loaded

    during = []

    def evaluator(loaded, **_):
        during.append({p.dtype for p in loaded.module.connector.parameters()})
        during.append({p.dtype for p in loaded.module.vision_encoder.parameters()})

    events(config.replace(model=narrow, stages=(ALIGN,), evaluator=evaluator))
    assert during[:2] == [{torch.float32}, {torch.bfloat16}]
    final = families.load(Path(config.out, "model"))
    assert {p.dtype for p in final.module.parameters()} == {torch.bfloat16}


def test_a_narrow_model_is_left_narrow_though_two_stages_trained_it_wide(config, events):
    def narrow():
        loaded = model()
        loaded.module.to(torch.bfloat16)
        return loaded

    everything = FINETUNE.replace(name="everything", trainable=(".*",), steps=1)
    events(config.replace(model=narrow, stages=(everything, FINETUNE.replace(steps=1))))
    final = families.load(Path(config.out, "model"))
    assert {p.dtype for p in final.module.parameters()} == {torch.bfloat16}


def test_a_decoder_of_another_vocabulary_is_refused(config):
    def other_words():
        loaded = model()
        loaded.processor = Processor(loaded.contract, words(["red circle quick fox jumps"], SPECIALS))
        return loaded

    error = refused(config.replace(stages=(ALIGN.replace(init_from={"decoder": other_words}),)), "compose-mismatch")
    assert error.where == "align.init_from.decoder"


def test_muon_runs_and_learns(config, events):
    stage = FINETUNE.replace(steps=30, lr=5e-3, trainable=(".*",), optimizer="muon", schedule="wsd")
    losses = [e.loss for e in of(StepDone, events(config.replace(stages=(stage,))))]
    assert losses[-1] < 0.7 * losses[0]


def test_a_run_that_was_refused_before_its_first_step_does_not_hold_the_folder(config, events):
    refused(config.replace(stages=(ALIGN.replace(trainable=("conector",)),)), "trainable-unmatched")
    assert isinstance(events(config.replace(stages=(ALIGN,)))[-1], RunDone)


def test_a_run_of_nothing_is_refused_before_the_folder_is_made(tmp_path):
    refused(RunConfig(out=str(tmp_path / "run"), stages=(Stage(),)), "config-value")
    assert not (tmp_path / "run").exists()


def test_an_unknown_objective_names_the_nearest(config):
    error = refused(config.replace(stages=(ALIGN.replace(objective="contrastive_sigmod"),)), "config-value")
    assert "contrastive_sigmoid" in error.message


def test_workers_change_no_loss(config, events, tmp_path):
    here = [e.loss for e in of(StepDone, events(config))]
    there = [e.loss for e in of(StepDone, events(config.replace(out=str(tmp_path / "b"), workers=1)))]
    assert here == there
