"""`RunConfig` and `Stage`: everything a training run is told. Recipes are functions that return a `RunConfig`.

A run is a list of stages over one model. A stage may bring a model of its own (a throw-away decoder to pre-train
an encoder with, say); later stages take parts of it with ``init_from={"vision_encoder": "stage:encoder"}``.
``key=value`` and YAML fill the same dataclasses and know no key that these do not have.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from eyespot.contracts.config import Config, convert
from eyespot.errors import EyespotError, nearest
from eyespot.nn.adapters import PARAMETERS, LoraConfig
from eyespot.train.names import name_of

STAGE_NAME = re.compile(r"[A-Za-z][\w-]*")


def _require(ok: Any, expected: str, value: Any, where: str) -> None:
    if not ok:
        raise EyespotError("config-value", f"expected {expected}, got {value!r}", where=where)


def _require_lists(config: Config, *names: str) -> None:
    """A lone text would be read letter by letter."""
    for name in names:
        value = getattr(config, name)
        _require(not isinstance(value, str), f"a tuple, such as ({value!r},)", value, name)


@dataclass(frozen=True)
class Stage(Config):
    """One stretch of training with one set of trainable parameters and one schedule.

    Attributes:
        name: what the log, the overrides (``align.steps=10``) and later stages call it.
        steps: optimiser steps.
        seconds: end after this many seconds of training even if `steps` are not reached; the schedule follows the
            clock then, so such a run is not repeatable bit by bit. None: steps alone.
        lr: learning rate of every trainable parameter whose pattern names none.
        trainable: ``REGEX[:lr]`` or ``REGEX:frozen``; the first that is found in a parameter's name wins, what
            nothing matches is frozen, and each must match something. Empty: connector, decoder and head, or with `lora`
            the adapters alone.
        lora: adapters on linear layers (``lora.rank=8 lora.modules=REGEX``), trained at `lr` besides what `trainable`
            names; a stage without merges those of the stage before.
        data: sources of this stage; None takes the run's. A source is a path, ``world:NAME[:SPLIT]``, an object with
            `examples`, or a pair (source, weight); ``SOURCE*WEIGHT`` in text.
        batch_tokens: decoder tokens (after placeholders are expanded) of a micro-batch.
        max_length: tokens of one sample; longer ones are truncated, never inside a picture.
        max_patches: raw picture patches of a micro-batch at most; None: no limit.
        accumulation: micro-batches of an optimiser step.
        pairs: picture–text pairs of a step, for the contrastive objectives only.
        model: a model of its own (path, hub id, ``package.module:function`` or callable); None carries the run's on.
        init_from: part name → path, hub id or ``stage:NAME`` of an earlier stage.
        objective: ``tokens``, ``contrastive_softmax``, ``contrastive_sigmoid`` or ``package.module:object``.
        z_loss: weight of the squared log-normaliser, which keeps logits from drifting.
        optimizer: AdamW, or Muon on the hidden matrices with AdamW on the rest (same learning rate, RMS-matched).
        weight_decay: on matrices; never on norms, biases and other vectors.
        betas, momentum: of AdamW and of Muon.
        schedule: ``cosine``, ``wsd`` (warm-up, stable, linear decay) or ``constant`` (after the warm-up).
        warmup, decay: shares of the steps.
        final_lr: share of the learning rate that is left at the end.
        clip: largest gradient norm; 0 for no limit.
        zero_at_start: patterns of parameters whose gradient is rightly zero at the first step.
    """

    name: str = "train"
    steps: int = 100
    seconds: float | None = None
    lr: float = 1e-3
    trainable: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    data: tuple[Any, ...] | None = None
    batch_tokens: int = 4096
    max_length: int = 2048
    max_patches: int | None = None
    accumulation: int = 1
    pairs: int = 64
    model: Any = None
    init_from: Mapping[str, Any] = field(default_factory=dict)
    objective: Any = "tokens"
    z_loss: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.95
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup: float = 0.03
    decay: float = 0.2
    final_lr: float = 0.0
    clip: float = 1.0
    zero_at_start: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_lists(self, "trainable", "data", "zero_at_start")
        _require(STAGE_NAME.fullmatch(self.name), "a name of letters, digits, _ and -", self.name, "stage.name")
        for name in ("steps", "batch_tokens", "max_length", "accumulation", "pairs"):
            value = getattr(self, name)
            _require(value >= 1, "1 or more", value, f"{self.name}.{name}")
        for name in ("warmup", "decay", "final_lr"):
            value = getattr(self, name)
            _require(0 <= value <= 1, "a share from 0 to 1", value, f"{self.name}.{name}")
        for name in ("lr", "weight_decay", "clip", "z_loss"):
            value = getattr(self, name)
            _require(value >= 0, "0 or more", value, f"{self.name}.{name}")
        _require(self.seconds is None or self.seconds > 0, "seconds above 0", self.seconds, f"{self.name}.seconds")

    @property
    def patterns(self) -> tuple[str, ...]:
        """What is trained, the adapters first."""
        if self.lora is not None:
            return (PARAMETERS, *self.trainable)
        return self.trainable or ("connector|decoder|lm_head",)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a callable or object becomes its name."""
        return {key: name_of(value) for key, value in super().to_dict().items()}


@dataclass(frozen=True)
class RunConfig(Config):
    """A whole run.

    Attributes:
        model: the model that the run is about: path, hub id, ``package.module:function`` or a callable that gives a
            `families.Loaded`.
        data: sources of every stage that names none of its own.
        out: the run's folder.
        seed: of weights, data order and everything else that is drawn.
        stages: in order.
        image_root: folder that pictures in data rows are read from; None: the data file's own folder.
        save_every: steps between checkpoints within a stage (each stage also ends with one); 0: at the ends only.
        log_every: steps between rows of ``log.jsonl``.
        eval_every: steps between calls of `evaluator`, which also runs before the first and after the last step of
            a stage; 0: only there.
        evaluator: callable or ``package.module:function``, called with (loaded, stage=name, step=n, out=folder);
            what it returns goes to ``result.json``.
        report: callable or dotted name, called with (out) when everything is written.
        max_dropped: largest share of data rows that may be lost before the run stops.
        precision: ``bfloat16`` computes under autocast with float32 masters; ``auto``: where the hardware has it.
        device: ``auto``, ``cpu``, ``cuda``, ….
        workers: processes that prepare data; 0 does it in this one. The order of samples does not depend on it.
        cache_gib: memory for encoded samples of finite sources, so that later epochs need no reading; in each worker.
        keep: checkpoints kept within a stage (those at a stage's end are always kept).
        audit: batches that the gradient audit may look at before step 1; 0 leaves it out.
        layout: of the final model; None: the one it came in.
        card: text for the model's README, such as what it may be asked.
    """

    model: Any = None
    data: tuple[Any, ...] = ()
    out: str = "runs/train"
    seed: int = 0
    stages: tuple[Stage, ...] = (Stage(),)
    image_root: str | None = None
    save_every: int = 0
    log_every: int = 1
    eval_every: int = 0
    evaluator: Any = None
    report: Any = None
    max_dropped: float = 0.01
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    workers: int = 0
    cache_gib: float = 0.0
    keep: int = 2
    audit: int = 8
    layout: str | None = None
    card: str = ""

    def __post_init__(self) -> None:
        _require_lists(self, "data")
        _require(self.stages, "at least one stage", "none", "stages")
        names = [stage.name for stage in self.stages]
        _require(len(set(names)) == len(names), "stages of different names", ", ".join(names), "stages")
        for name, least in (("log_every", 1), ("save_every", 0), ("eval_every", 0), ("workers", 0), ("keep", 1)):
            value = getattr(self, name)
            _require(value >= least, f"{least} or more", value, name)
        _require(0 <= self.max_dropped <= 1, "a share from 0 to 1", self.max_dropped, "max_dropped")

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a callable or object becomes its name."""
        return {key: name_of(value) for key, value in super().to_dict().items()}

    def check(self) -> None:
        """Refuse a plan that cannot work before anything is read: a stage without model or data, or out of order."""
        seen: list[str] = []
        for stage in self.stages:
            _require(stage.model or self.model, "a model (model=PATH)", "none", f"{stage.name}.model")
            _require(stage.data or self.data, "data (data=PATH or data=world:NAME)", "none", f"{stage.name}.data")
            for part, source in stage.init_from.items():
                name = str(source).removeprefix("stage:")
                if str(source).startswith("stage:"):
                    where = f"{stage.name}.init_from.{part}"
                    _require(name in seen, f"an earlier stage (one of: {', '.join(seen) or 'none'})", name, where)
            seen.append(stage.name)


RUN_KEYS = frozenset(f.name for f in dataclasses.fields(RunConfig)) - {"stages"}
STAGE_KEYS = frozenset(f.name for f in dataclasses.fields(Stage)) - {"name"}


def read_overrides(config: RunConfig, pairs: Iterable[str]) -> RunConfig:
    """`config` with the ``key=value`` pairs of a command line.

    Raises:
        EyespotError: ``config-unknown-key`` naming the nearest key, ``config-value``, ``argument``.
    """
    split = [_split(pair) for pair in pairs]
    for key, value in sorted(split, key=lambda pair: _specific(config, pair[0])):
        config = _set(config, key, value)
    return config


def read_config(path: str | Path) -> RunConfig:
    """A `RunConfig` from a YAML or JSON file."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise EyespotError("config-value", f"not YAML: {error}", where=str(path)) from error
    if not isinstance(data, Mapping):
        raise EyespotError("config-value", f"expected a mapping of keys, got {type(data).__name__}", where=str(path))
    return RunConfig.from_dict(data)


def known_keys(config: RunConfig) -> list[str]:
    """Every key that `read_overrides` takes for this run."""
    keys = STAGE_KEYS | {f"lora.{f.name}" for f in dataclasses.fields(LoraConfig)}
    return sorted(RUN_KEYS | keys | {f"{s.name}.{key}" for s in config.stages for key in keys})


def _split(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise EyespotError("argument", f"expected key=value, got {pair!r}", remedy="Write overrides as key=value.")
    return key.strip(), value


def _specific(config: RunConfig, key: str) -> int:
    """How much a key says: what addresses one stage is applied last."""
    head, _, rest = key.partition(".")
    return int(bool(rest) and head in {s.name for s in config.stages})


def _set(config: RunConfig, key: str, value: str) -> RunConfig:
    head, _, rest = key.partition(".")
    names = {stage.name for stage in config.stages}
    if rest and head in names:
        return _stages(config, lambda s: _set_stage(s, rest, value, key, config) if s.name == head else s)
    if key == "data":  # the run's own, and no stage keeps another
        config = _stages(config, lambda s: s.replace(data=None))
    if key in RUN_KEYS:
        return config.replace(**{key: convert(value, _hints(RunConfig)[key], key)})
    return _stages(config, lambda s: _set_stage(s, key, value, key, config))


def _set_stage(stage: Stage, key: str, value: str, where: str, config: RunConfig) -> Stage:
    name, _, part = key.partition(".")
    if name == "init_from" and part:
        return stage.replace(init_from={**stage.init_from, part: value})
    if name == "lora" and part:
        given = {**(stage.lora or LoraConfig()).to_dict(), part: value}
        return stage.replace(lora=LoraConfig.from_dict(given, where.removesuffix(f".{part}")))
    if key not in STAGE_KEYS:
        known = known_keys(config)
        raise EyespotError("config-unknown-key", f"unknown key {where!r}{nearest(where, known)}", where=where)
    return stage.replace(**{key: convert(value, _hints(Stage)[key], where)})


def _stages(config: RunConfig, change: Callable[[Stage], Stage]) -> RunConfig:
    return config.replace(stages=tuple(change(stage) for stage in config.stages))


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
