"""What a stage learns: an objective makes its batches and turns a batch into (sum of losses, weight).

Three are built in; a stage may name any object of this shape by dotted path, so that new methods bring no second loop.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from eyespot.contracts.shapes import Tensor
from eyespot.data.ledger import Ledger
from eyespot.data.loader import Loader
from eyespot.data.mixture import Mixture, open_mixture
from eyespot.errors import EyespotError, nearest
from eyespot.train.losses import sigmoid_contrastive, softmax_contrastive, token_loss
from eyespot.train.names import is_dotted, resolve
from eyespot.train.pairs import PairProcessor, rows_of
from eyespot.train.run import RunConfig, Stage

MAX_LOGIT_SCALE = math.log(100.0)  # CLIP's bound on the temperature


class Batches(Protocol):
    """A resumable stream of batches."""

    ledger: Ledger
    mixture: Mixture

    def __iter__(self) -> Iterator[Any]:
        """Batches with `input_ids`, `sample_ids` and `to(device)`."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the stream is, as plain data: after the last batch that was handed out."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...

    def close(self) -> None:
        """End what runs in the background."""
        ...


@dataclass(frozen=True)
class Objective:
    """One way to learn.

    Attributes:
        batches: (config, stage, loaded, seed) → a fresh stream from its beginning.
        loss: (module, batch, stage) → sum of losses and their weight.
        after_step: what must hold after each update, such as a bound on a temperature.
        accumulates: whether the loss of a step is the sum over micro-batches; contrastive losses are not.
    """

    batches: Callable[[RunConfig, Stage, Any, int], Batches]
    loss: Callable[[nn.Module, Any, Stage], tuple[Tensor, Tensor | float]]
    after_step: Callable[[nn.Module], None] | None = None
    accumulates: bool = True


def find(stage: Stage) -> Objective:
    """The objective that a stage names.

    Raises:
        EyespotError: ``config-value`` naming the known ones, or for accumulation with a contrastive loss.
    """
    where = f"{stage.name}.objective"
    objective = stage.objective
    if isinstance(objective, str) and not is_dotted(objective):
        if objective not in OBJECTIVES:
            raise EyespotError(
                "config-value", f"unknown objective {objective!r}{nearest(objective, OBJECTIVES)}", where=where
            )
        objective = OBJECTIVES[objective]
    objective = resolve(objective, where)
    if not objective.accumulates and stage.accumulation > 1:
        raise EyespotError(
            "config-value",
            "a contrastive loss compares all pairs of a step at once and cannot be accumulated",
            where=f"{stage.name}.accumulation",
            remedy="Set accumulation=1 and choose the step's size with pairs=….",
        )
    return objective


def _token_batches(config: RunConfig, stage: Stage, loaded: Any, seed: int) -> Loader:
    return Loader(
        _mixture(config, stage, seed),
        loaded.processor,
        batch_tokens=stage.batch_tokens,
        max_length=min(stage.max_length, stage.batch_tokens),
        max_patches=stage.max_patches,
        workers=config.workers,
        max_dropped=config.max_dropped,
        keep_bytes=int(config.cache_gib * 2**30),
    )


def _pair_batches(config: RunConfig, stage: Stage, loaded: Any, seed: int) -> Loader:
    processor = PairProcessor(loaded.processor)
    return Loader(
        _mixture(config, stage, seed),
        processor,
        batch_tokens=stage.pairs * processor.length,
        workers=config.workers,
        max_dropped=config.max_dropped,
    )


def _mixture(config: RunConfig, stage: Stage, seed: int) -> Mixture:
    return open_mixture(stage.data or config.data, seed=seed, image_root=config.image_root)


def _tokens(module: nn.Module, batch: Any, stage: Stage) -> tuple[Tensor, Tensor]:
    return token_loss(module, module(batch).last, batch.targets, batch.loss_weight, z_loss=stage.z_loss)


def _softmax(module: nn.Module, batch: Any, stage: Stage) -> tuple[Tensor, float]:
    images, texts = module.encode_images(batch.media["vision"]), module.encode_texts(rows_of(batch))
    return softmax_contrastive(images, texts, module.logit_scale)


def _sigmoid(module: nn.Module, batch: Any, stage: Stage) -> tuple[Tensor, float]:
    images, texts = module.encode_images(batch.media["vision"]), module.encode_texts(rows_of(batch))
    return sigmoid_contrastive(images, texts, module.logit_scale, module.logit_bias)


def _bound_scale(module: nn.Module) -> None:
    with torch.no_grad():
        module.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


OBJECTIVES = {
    "tokens": Objective(_token_batches, _tokens),
    "contrastive_softmax": Objective(_pair_batches, _softmax, _bound_scale, accumulates=False),
    "contrastive_sigmoid": Objective(_pair_batches, _sigmoid, _bound_scale, accumulates=False),
}
