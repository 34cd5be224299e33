"""Rotary position embedding (Su et al. 2021): tables from position ids, and their application.

Half-split form (`rotate_half`), as Llama's Hugging Face weights are laid out. Angles are made in fp32 and cast to
the activations' dtype. Scaling types: ``default``, ``linear``, ``llama3`` (frequency bands), ``dynamic`` and
``dynamic_ntk``, whose frequencies depend on how long a sequence is (`for_length`). With several position axes each
turns its own section of the frequencies (M-RoPE: Wang et al. 2024, Qwen2-VL); an encoder's axial form gives each axis
all frequencies of a narrower head instead.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from eyespot.contracts.config import Config
from eyespot.contracts.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class RopeConfig(Config):
    """Frequencies: ``theta ** (-2i / head_dim)``, then the scaling of `type`.

    Attributes:
        original_max_position_embeddings: length up to which ``dynamic`` changes nothing.
        sections: how many frequencies turn with each position axis, the fastest first; they sum to head_dim / 2.
            Empty: one axis.
        interleaved: the axes take turns, frequency by frequency, so that each has fast and slow ones, until each has
            as many as its section says; what is left is the first axis's (Qwen3-VL: Bai et al. 2025).
    """

    theta: float = 10000.0
    type: Literal["default", "linear", "llama3", "dynamic", "dynamic_ntk"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    sections: tuple[int, ...] = ()
    interleaved: bool = False

    @property
    def by_length(self) -> bool:
        """Whether the frequencies depend on how long a sequence is."""
        return self.type in ("dynamic", "dynamic_ntk")


def inverse_frequencies(config: RopeConfig, head_dim: int, device: torch.device | str = "cpu") -> Float[Tensor, " c"]:
    """fp32 (head_dim / 2,)."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64, device=device).float() / head_dim
    frequencies = 1.0 / (config.theta**steps)
    if config.type == "linear":
        return frequencies / config.factor
    if config.type == "llama3":
        return _llama3(frequencies, config)
    return frequencies


def for_length(config: RopeConfig, head_dim: int, length: int) -> RopeConfig:
    """The settings for a sequence of `length` tokens.

    The base grows with a sequence beyond the trained length (`original_max_position_embeddings`): slow frequencies are
    stretched, fast ones hardly change. Under ``dynamic_ntk`` it does so with each doubling that the sequence has begun,
    as in Qwen (Bai et al. 2023); under ``dynamic`` with each token, `factor` times as fast (InternLM2; Llama in
    `transformers`). Other settings do not depend on the length.
    """
    if not config.by_length:
        return config
    trained = config.original_max_position_embeddings
    if config.type == "dynamic_ntk":
        growth = 2 ** ((-(-length // trained) - 1).bit_length() + 1) - 1
    else:
        growth = max(config.factor * length / trained - (config.factor - 1), 1.0)
    return config.replace(type="default", theta=config.theta * growth ** (head_dim / (head_dim - 2)))


def _llama3(frequencies: Tensor, config: RopeConfig) -> Tensor:
    """Long waves are slowed by `factor`, short ones kept, those between are blended."""
    wavelengths = 2 * math.pi / frequencies
    longest = config.original_max_position_embeddings / config.low_freq_factor
    shortest = config.original_max_position_embeddings / config.high_freq_factor
    blend = (config.original_max_position_embeddings / wavelengths - config.low_freq_factor) / (
        config.high_freq_factor - config.low_freq_factor
    )
    between = (1 - blend) * frequencies / config.factor + blend * frequencies
    slowed = torch.where(wavelengths > longest, frequencies / config.factor, frequencies)
    return torch.where((wavelengths <= longest) & (wavelengths >= shortest), between, slowed)


def rotary_tables(
    position_ids: Int[Tensor, "A T"], config: RopeConfig, head_dim: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "T C"], Float[Tensor, "T C"]]:
    """Cosine and sine for each token.

    One row of `position_ids` stands for equal rows on every axis, as text has them.
    """
    frequencies = inverse_frequencies(config, head_dim, position_ids.device)
    if len(position_ids) == 1:
        angles = position_ids[0].float()[:, None] * frequencies
    else:
        assert len(position_ids) == len(config.sections), f"{len(position_ids)} position axes, {config.sections}"
        rows = position_ids.float()[:, :, None]
        if config.interleaved:
            angles = _taking_turns(rows * frequencies, config.sections)
        else:
            bands = frequencies.split(config.sections)
            angles = torch.cat([row * band for row, band in zip(rows, bands, strict=True)], dim=-1)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _taking_turns(angles: Float[Tensor, "A T c"], sections: tuple[int, ...]) -> Float[Tensor, "T c"]:
    """Of the angles with every axis, those with the axis whose turn it is."""
    mixed = angles[0].clone()
    for axis, size in enumerate(sections[1:], start=1):
        turns = slice(axis, len(sections) * size, len(sections))
        mixed[:, turns] = angles[axis, :, turns]
    return mixed


def axial_tables(
    places: Int[Tensor, "A P"], theta: float, head_dim: int
) -> tuple[Float[Tensor, "P C"], Float[Tensor, "P C"]]:
    """fp32 cosine and sine of patches: each axis turns an equal share of the pairs, with the same frequencies."""
    frequencies = inverse_frequencies(RopeConfig(theta), head_dim // len(places), places.device)
    angles = torch.cat(list(places.float()[:, :, None] * frequencies), dim=-1)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Float[Tensor, "T H C"], cos: Float[Tensor, "T C"], sin: Float[Tensor, "T C"]) -> Float[Tensor, "T H C"]:
    """Turn each pair (x_i, x_{i + C/2}) by its angle."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos[:, None].to(x.dtype) + turned * sin[:, None].to(x.dtype)
