"""What a video processor's file says of which frames of a film are taken, read and written.

A file that has frames chosen by `transformers` itself (``do_sample_frames``) gets its way of choosing; without that the
authors' own tools choose, and bound the area of all frames together. Where frames share their bounds (Qwen3-VL), the
published class chooses. Numerics: video_processing_qwen2_vl.py, video_processing_qwen3_vl.py.
"""

import math
from typing import Any

from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.families.family import Json, check_sizes, unsupported

_FRAMES = {  # what the published class does, and for the area of all frames what the authors' tools do
    "fps": 2.0, "min_frames": 4, "max_frames": 768, "do_sample_frames": False, "cap_pixels_per_frame": True,
    "max_video_tokens": 128000,
}  # fmt: skip
_CONTEXT_SHARE = 0.9  # of those tokens, for a video


def frame_rule(raw: Json, rule: ImageRule) -> FrameRule:
    """What the video processor's file says, or what it leaves to its authors.

    Args:
        raw: the file.
        rule: of the frames of a video.
    """
    capped = raw.get("cap_pixels_per_frame")
    raw = {**_FRAMES, **{key: value for key, value in raw.items() if value is not None}}
    check_sizes(raw, ("min_frames", "max_frames", "max_video_tokens"), "video processor: ")
    fps, count = raw["fps"], raw.get("num_frames")
    if count is not None:
        check_sizes(raw, ("num_frames",), "video processor: ")
    fps = _rate(fps)
    tokens, span = raw["max_video_tokens"], rule.temporal_patch_size
    if raw["min_frames"] > raw["max_frames"]:
        raise unsupported("min_frames", raw["min_frames"], f"up to max_frames, {raw['max_frames']}")
    chosen: dict[str, Any] = {"multiple": span, "spacing": "steps" if raw["do_sample_frames"] else "ends"}
    if count:
        count = max(round(count / span), 1) * span
    if rule.shared_pixels:
        if capped:
            raise unsupported("cap_pixels_per_frame", True, "false")
        raw["cap_pixels_per_frame"], chosen = False, {"multiple": 1, "spacing": "ends_double"}
    total = int(tokens * (rule.patch_size * rule.merge_size) ** 2 * _CONTEXT_SHARE)
    return FrameRule(
        fps=None if count else fps, min_frames=1 if count else raw["min_frames"],
        max_frames=max(count or raw["max_frames"], span), **chosen,
        max_total_pixels=total if raw["cap_pixels_per_frame"] else None,
    )  # fmt: skip


def frame_keys(frames: FrameRule | None, rule: ImageRule) -> dict[str, Any]:
    """The inverse of `frame_rule`; none for a rule that takes no films."""
    if frames is None:
        return {}
    raw: dict[str, Any] = {"do_sample_frames": frames.spacing != "ends", "cap_pixels_per_frame": False}
    if frames.max_total_pixels is not None:
        share = (rule.patch_size * rule.merge_size) ** 2 * _CONTEXT_SHARE
        raw |= {"cap_pixels_per_frame": True, "max_video_tokens": math.ceil(frames.max_total_pixels / share)}
    if frames.fps is None:
        return raw | {"num_frames": frames.max_frames}
    return raw | {"fps": frames.fps, "min_frames": frames.min_frames, "max_frames": frames.max_frames}


def counted_rule(raw: Json, count: int, authors: str, theirs: str) -> FrameRule:
    """The rule of a model that takes a fixed number of frames, however long the film.

    Args:
        raw: the video processor's file; it may name another number, or a rate.
        count: frames that the authors take.
        authors: how these lie, where `transformers` does not choose (``do_sample_frames``).
        theirs: how they lie where it does.
    """
    fps, own = raw.get("fps"), raw.get("num_frames")
    if own is not None:
        check_sizes(raw, ("num_frames",), "video processor: ")
        fps = None
    fps = None if fps is None else _rate(fps)
    if raw.get("initial_shift", True) is not True:
        raise unsupported("initial_shift", raw["initial_shift"], "true")
    return FrameRule(
        fps=fps, min_frames=1, multiple=1,
        max_frames=own or (count if fps is None else FrameRule().max_frames),
        spacing=theirs if raw.get("do_sample_frames") else authors,
    )  # fmt: skip


def _rate(fps: Any) -> float:
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps < float("inf"):
        raise unsupported("fps", fps, "a positive number")
    return float(fps)


def counted_keys(frames: FrameRule | None) -> dict[str, Any]:
    """The inverse of `counted_rule`."""
    if frames is None:
        return {}
    own = {"num_frames": frames.max_frames} if frames.fps is None else {"fps": frames.fps}
    return {"do_sample_frames": frames.spacing in ("steps", "middles"), **own}
