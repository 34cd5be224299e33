"""Which frames of a film are taken, and how large they may be together. Pure arithmetic; `film` reads them.

The ways of the field give the same number of frames from different places, and count in single precision or double,
which decides which frame a half falls to; so does this. Upstream: qwen-vl-utils vision_process.py (``ends``),
transformers video_processing_qwen2_vl.py (``steps``, and the shared area of frames), video_processing_qwen3_vl.py
(``ends_double``), video_processing_internvl.py (``middles``); ``load_video`` of the model cards of LLaVA-OneVision
(``ends_down``) and of InternVL2.5 (``segments``).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.contracts.shapes import Int
from eyespot.errors import EyespotError

ASKED = ("fps", "num_frames", "min_frames", "max_frames")  # what a video part may ask of a film
_FLOOR = 1.05  # of the least area of a frame, below which a long video's frames do not shrink


def wanted_frames(rule: FrameRule, asked: Mapping[str, Any], name: str = "") -> FrameRule:
    """`rule` with what a caller asked for one film: ``fps`` or ``num_frames``, ``min_frames``, ``max_frames``.

    Raises:
        EyespotError: ``message-malformed`` for what is no rate or number of frames, or for both a rate and a number.
    """
    given = {key: asked[key] for key in ASKED if asked.get(key) is not None}
    for key, value in given.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = whole or (key == "fps" and isinstance(value, float))
        if not good or not 0 < value < float("inf"):
            what = "frames a second, a positive number" if key == "fps" else "a positive whole number"
            raise EyespotError(
                "message-malformed", f"expected {what}, got {value!r}", where=f"{name}: {key}".lstrip(": ")
            )
    if "fps" in given and "num_frames" in given:
        raise EyespotError("message-malformed", "expected fps or num_frames, got both", where=name)
    if "num_frames" in given:
        count = max(round(given["num_frames"] / rule.multiple), 1) * rule.multiple
        return rule.replace(fps=None, min_frames=1, max_frames=count)
    if "fps" in given and rule.fps is None:  # the rule's number of frames is for films of any length, not for a rate
        rule = rule.replace(max_frames=FrameRule().max_frames)
    least = given.get("min_frames", min(rule.min_frames, given.get("max_frames", rule.min_frames)))
    most = given.get("max_frames", max(rule.max_frames, least))
    if least > most or most < rule.multiple:
        message = f"expected {rule.multiple} <= max_frames and min_frames <= max_frames, got {least} and {most}"
        raise EyespotError("message-malformed", message, where=name)
    return rule.replace(fps=float(given.get("fps", rule.fps or 0)) or None, min_frames=least, max_frames=most)


def count_frames(total: int, rate: float, rule: FrameRule) -> int:
    """How many of `total` frames are taken: whole multiples, at least one, unless the film has fewer frames."""
    multiple = rule.multiple
    most = min(rule.max_frames, total) // multiple * multiple
    wanted = float(most) if rule.fps is None else total / rate * rule.fps
    least = math.ceil(rule.min_frames / multiple) * multiple if rule.spacing == "ends" else rule.min_frames
    return int(min(max(wanted, least), most, total)) // multiple * multiple or min(multiple, total)


def choose_frames(total: int, rate: float, rule: FrameRule) -> Int[np.ndarray, "n"]:
    """Indices of the frames taken, in order.

    Args:
        total: frames of the film, from 1 up.
        rate: of the film, frames a second.
        rule: what is wanted.
    """
    count = count_frames(total, rate, rule)
    if rule.spacing == "ends_double":
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    if rule.spacing == "ends_down":
        return np.linspace(0, total - 1, count, dtype=np.int64)
    if rule.spacing == "segments":
        stretch = (total - 1) / count
        # Of a film hardly longer than that many frames theirs takes some twice; here each comes once.
        return np.unique(np.array([int(stretch / 2 + np.round(stretch * i)) for i in range(count)], np.int64))
    if rule.spacing == "middles":
        return torch.arange(total / count / 2, total, total / count).int()[:count].long().numpy()
    if rule.spacing == "ends":
        return torch.linspace(0, total - 1, count).round().long().numpy()
    return torch.arange(0, total, total / count).int()[:count].long().numpy()  # rounding may give one too many


def sized(rule: ImageRule, frames: FrameRule | None, count: int) -> ImageRule:
    """`rule` with each of `count` frames limited to its share of the area of all."""
    if frames is None or frames.max_total_pixels is None or rule.resize != "dynamic":
        return rule
    assert rule.min_pixels is not None and rule.max_pixels is not None, "the rule has checked that"
    share = frames.max_total_pixels * rule.temporal_patch_size // count
    return rule.replace(max_pixels=max(min(rule.max_pixels, share), int(rule.min_pixels * _FLOOR)))
