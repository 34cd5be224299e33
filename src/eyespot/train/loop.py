"""`train`: stages, steps, micro-batches, from top to bottom in one function. It yields events and knows no terminal.

The loss of a step is Σ weight · loss ÷ Σ weight over all its micro-batches and ranks (D8): sums are propagated and
the gradient is divided once. Every stage ends with a checkpoint, which holds all that later stages and `resume` need.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.nn.adapters import ZERO_AT_START
from eyespot.runtime.device import autocast, compute_dtype, pick
from eyespot.runtime.dist import ranks, sum_gradients, sum_scalars
from eyespot.train import checkpoint, finish, models, objectives, preflight, trainable
from eyespot.train.events import Evaluated, Event, RunDone, Saved, StageDone, StageStarted, StepDone
from eyespot.train.folder import RunFolder
from eyespot.train.names import resolve
from eyespot.train.optim import Optimizer, lr_share, scale_and_clip
from eyespot.train.run import RunConfig, Stage
from eyespot.train.stop import Stop


def train(config: RunConfig, *, resume: bool = False, command: str = "") -> Iterator[Event]:
    """Run every stage of `config` and leave the model, the log and the figures in ``config.out``.

    Args:
        config: the run.
        resume: go on from the newest whole checkpoint in ``out``, afresh where there is none; False: ``out`` must
            hold no run.
        command: how the run was started, for ``run.json``.

    Yields:
        `StageStarted`, `StepDone`, `Saved`, `Evaluated`, `StageDone`, and one `RunDone` at the end.

    Raises:
        EyespotError: ``run-exists``, ``run-mismatch``, ``trainable-unmatched``, ``gradient-missing``,
            ``loss-not-finite``, ``frozen-changed``, and whatever the data and the model raise.
    """
    config.check()
    if ranks() > 1:
        raise EyespotError("not-supported", "training in several processes is not built yet; start one process")
    goals = [objectives.find(stage) for stage in config.stages]
    device = pick(config.device)
    precision = compute_dtype(config.precision, device)

    with RunFolder(config, resume, command) as run, Stop() as stop, ExitStack() as background:
        saved = checkpoint.read_state(run.checkpoint) if run.checkpoint else None
        result: dict[str, Any] = json.loads(saved["result"]) if saved else finish.empty_result()
        if saved:
            run.cut_log(config.stages[saved["stage"]].name, saved["step"])
        loaded = carried = None  # the model of this stage; the run's own model
        for index, (stage, goal) in enumerate(zip(config.stages, goals, strict=True)):
            if saved and (index < saved["stage"] or (index == saved["stage"] and saved["ended"])):
                finish.judge(config, run, result, stage.name)  # the checkpoint was written before the verdict
                continue
            within = saved if saved and index == saved["stage"] else None

            # The model, what of it is trained, and its optimiser.
            seed = config.seed * 1009 + index
            torch.manual_seed(seed)
            if within:
                loaded = models.restore(run.checkpoint)
            elif stage.model is not None:
                loaded = models.build(stage.model, f"{stage.name}.model")
            else:
                loaded = carried or _carry_on(config, index, run) or models.build(config.model, "model")
            if not within:
                models.fill_parts(loaded, stage, run)
            if stage.model is None:
                carried = loaded
            module = loaded.module.to(device).train()
            table = models.choose(loaded, stage)
            optimizer = Optimizer(module, table.lrs, stage)
            batches = goal.batches(config, stage, loaded, seed)
            background.callback(batches.close)

            # Where it begins: at the checkpoint, or at step 0 after proof that gradients arrive.
            step, elapsed = 0, 0.0
            if within:
                step, elapsed, before = within["step"], within["elapsed"], within["before"]
                optimizer.load_state_dict(within["optimizer"])
                batches.load_state(json.loads(within["batches"]))
                checkpoint.set_rng_state(within["rng"])
            else:
                before = preflight.digests(module)
                _audit(config, stage, goal, loaded, table, seed, device, precision)
            run.record_stage(stage.name, table, batches.mixture.sources)
            told = tuple(map(str, batches.mixture.sources))
            yield StageStarted(stage.name, step, stage.steps, table, loaded, told)
            if step == 0:
                yield from _evaluate(config, run, loaded, stage, 0, result)

            stream = iter(batches)
            while step < stage.steps and not (stage.seconds and elapsed >= stage.seconds):
                step += 1
                began = time.perf_counter()
                share = lr_share(stage, _schedule_step(stage, step, elapsed))
                optimizer.set_lr(share)
                optimizer.zero_grad()
                found = _backward(goal, module, stream, stage, step, device, precision)
                sum_gradients(optimizer.parameters)
                total, weight = sum_scalars(found.total, found.weight)
                if weight <= 0:
                    raise EyespotError("row-unsupervised", "a step without anything to learn", where=_at(stage, step))
                norm = scale_and_clip(optimizer.parameters, weight, stage.clip)
                if not math.isfinite(norm):
                    raise _not_finite(f"the gradient norm is {norm}", stage, step, found.samples)
                optimizer.step()
                if goal.after_step:
                    goal.after_step(module)

                seconds = time.perf_counter() - began
                elapsed += seconds
                row = {
                    "stage": stage.name,
                    "step": step,
                    "loss": total / weight,
                    "lr": stage.lr * share,
                    "grad_norm": norm,
                    "tokens": found.tokens,
                    "supervised": weight,
                    "samples": len(found.samples),
                    "seconds": seconds,
                    "tokens_per_s": found.tokens / seconds,
                    "data_wait": found.waited,
                }
                if step % config.log_every == 0:
                    run.log(row)
                yield StepDone(stage.name, step, stage.steps, total / weight, row, _seconds_left(stage, step, elapsed))

                over = step == stage.steps or bool(stage.seconds and elapsed >= stage.seconds)
                if config.eval_every and step % config.eval_every == 0 and not over:
                    yield from _evaluate(config, run, loaded, stage, step, result)
                if not over and (stop.asked or (config.save_every and step % config.save_every == 0)):
                    state = _training_state(optimizer, batches, before, elapsed)
                    path = _save(run, index, stage, step, loaded, result, state)
                    checkpoint.prune(run.checkpoints, config.keep)
                    yield Saved(stage.name, step, path)
                if stop.asked and not over:
                    stop.end()
                    return

            # The end: what moved, what did not, and a checkpoint that later stages can take parts from. Until that is
            # there, another keeps the last steps: an evaluation may take longer than training did.
            if config.evaluator is not None and not (within and within["step"] == step):
                _save(run, index, stage, step, loaded, result, _training_state(optimizer, batches, before, elapsed))
            optimizer.zero_grad()
            batches.close()
            after = preflight.digests(module)
            preflight.check_frozen(before, after, table.lrs)
            hashes = preflight.part_hashes(before), preflight.part_hashes(after)
            frozen = {part: {"before": digest, "after": hashes[1][part]} for part, digest in hashes[0].items()}
            finish.record(result, stage.name, step, elapsed, frozen, table, batches)
            yield from _evaluate(config, run, loaded, stage, step, result)
            path = _save(run, index, stage, step, loaded, result, None)
            checkpoint.remove(path.with_name(path.name.removesuffix("-end")))
            yield Saved(stage.name, step, path)
            finish.judge(config, run, result, stage.name)  # what was trained is safe by now
            yield StageDone(stage.name, step, elapsed, frozen, loaded, str(batches.ledger))
            if stop.asked:
                stop.end()
                return

        if not run.finished:
            finish.write(config, run, loaded or models.restore(run.checkpoint), result)
        yield RunDone(run.path, finish.read(run))


@dataclass(slots=True)
class _Backward:
    """What went into the gradients of a step: losses and their weight, tokens, samples, and how long data took."""

    total: float = 0.0
    weight: float = 0.0
    tokens: int = 0
    samples: list[str] = field(default_factory=list)
    waited: float = 0.0


def _backward(
    goal: Any, module: Any, stream: Iterator[Any], stage: Stage, step: int, device: torch.device, precision: torch.dtype
) -> _Backward:
    """Gradients of one step, summed over its micro-batches."""
    found = _Backward()
    for _ in range(stage.accumulation):
        asked = time.perf_counter()
        batch = next(stream).to(device)
        found.waited += time.perf_counter() - asked
        with autocast(device, precision):
            loss, count = goal.loss(module, batch, stage)
        value = loss.item()
        if not math.isfinite(value):
            raise _not_finite(f"the loss is {value}", stage, step, batch.sample_ids)
        if loss.requires_grad:  # a text row reaches no connector, where nothing else is trained
            loss.backward()
        found.total, found.weight = found.total + value, found.weight + float(count)
        found.tokens += batch.input_ids.numel()
        found.samples += batch.sample_ids
    return found


def _carry_on(config: RunConfig, index: int, run: RunFolder) -> Any:
    """The run's own model as an earlier stage left it, after a resume; None where no stage has trained it yet."""
    earlier = [stage.name for stage in config.stages[:index] if stage.model is None]
    return models.restore(models.end_of(run, earlier[-1])) if earlier else None


def _audit(
    config: RunConfig,
    stage: Stage,
    goal: objectives.Objective,
    loaded: Any,
    table: trainable.Trainable,
    seed: int,
    device: torch.device,
    precision: torch.dtype,
) -> None:
    """The gradient audit on batches of its own, so that training still begins with the first row."""
    if not config.audit:
        return

    def loss(batch: Any) -> torch.Tensor:
        with autocast(device, precision):
            total, weight = goal.loss(loaded.module, batch.to(device), stage)
        return total / max(float(weight), 1.0)

    with checkpoint.undisturbed():
        batches = goal.batches(config.replace(workers=0), stage, loaded, seed)
        declared = (*stage.zero_at_start, ZERO_AT_START)
        preflight.audit(loaded.module, table.lrs, iter(batches), loss, config.audit, declared)


def _evaluate(
    config: RunConfig, run: RunFolder, loaded: Any, stage: Stage, step: int, result: dict[str, Any]
) -> Iterator[Event]:
    """Call the evaluator, if there is one; whatever it draws or switches leaves no trace in training."""
    if config.evaluator is None:
        return
    evaluator = resolve(config.evaluator, "evaluator")
    loaded.module.eval()
    with checkpoint.undisturbed(), torch.no_grad():
        found = evaluator(loaded, stage=stage.name, step=step, out=run.path)
    loaded.module.train()
    result["evaluations"].append({"stage": stage.name, "step": step, "result": found})
    yield Evaluated(stage.name, step, found)


def _training_state(optimizer: Optimizer, batches: Any, before: Any, elapsed: float) -> dict[str, Any]:
    """What a stage goes on from, beside the model."""
    return {
        "optimizer": optimizer.state_dict(),
        "batches": json.dumps(batches.state()),
        "rng": checkpoint.rng_state(),
        "before": before,
        "elapsed": elapsed,
    }


def _save(
    run: RunFolder,
    index: int,
    stage: Stage,
    step: int,
    loaded: Any,
    result: dict[str, Any],
    training: dict[str, Any] | None,
) -> Path:
    """Write a checkpoint; without `training` it is a stage's end."""
    name = f"{index:02}-{stage.name}-{step:08}{'' if training else '-end'}"
    state = {
        "stage": index,
        "step": step,
        "ended": training is None,
        "origin": models.origin(loaded),
        "result": json.dumps(result),
        **(training or {}),
    }
    path = run.checkpoints / name
    return checkpoint.save(path, lambda folder: families.save(loaded, folder, "eyespot"), state, run.config.to_dict())


def _schedule_step(stage: Stage, step: int, elapsed: float) -> int:
    """Where the schedule stands: at the step, or further on where the stage's seconds run out sooner."""
    if stage.seconds is None:
        return step
    return min(stage.steps, max(step, 1 + int(elapsed / stage.seconds * stage.steps)))


def _seconds_left(stage: Stage, step: int, elapsed: float) -> float:
    left = elapsed / step * (stage.steps - step)
    return left if stage.seconds is None else max(0.0, min(left, stage.seconds - elapsed))


def _not_finite(what: str, stage: Stage, step: int, samples: Sequence[str]) -> EyespotError:
    shown = ", ".join(samples[:8]) + (", …" if len(samples) > 8 else "")
    return EyespotError("loss-not-finite", f"{what}; samples: {shown}", where=_at(stage, step))


def _at(stage: Stage, step: int) -> str:
    return f"{stage.name} step {step}"
