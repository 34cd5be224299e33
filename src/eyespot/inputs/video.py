"""A list of frames and their rate → a video → raw patches. No video files: nothing here reads a container or a codec.

Frames are decoded and resized one by one, as pictures are. A patch spans several frames; where they do not divide,
the last frame is repeated, as published (Qwen2-VL).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.contracts.media import Media
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import pooled
from eyespot.inputs.decode import content_hash, decode_image
from eyespot.inputs.patches import cut
from eyespot.inputs.resize import resize_image
from eyespot.runtime.limits import LIMITS, Limits


def decode_video(
    source: Any,
    fps: Any,
    *,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
    rule: ImageRule | None = None,
) -> Media:
    """Frames as a video.

    Args:
        source: frames in order, each as `decode_image` takes them; or a decoded video.
        fps: frames a second.
        root: see `fetch`. allow_private, limits, name, rule: as of `decode_image`.

    Raises:
        EyespotError: ``media-unreadable`` for what is no list of frames or has no rate, ``media-empty``,
            ``media-size`` for frames of unlike size, ``media-too-large``, and as `decode_image` for each frame.
    """
    if isinstance(source, Media) and source.kind == "video":
        return source
    stacked = isinstance(source, np.ndarray) and source.ndim == 4
    if not stacked and (isinstance(source, (str, bytes, bytearray)) or not isinstance(source, Sequence)):
        message = f"expected a list of frames, got {type(source).__name__}"
        raise EyespotError("media-unreadable", message, where=name, remedy="Decode the video first, and give frames.")
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps < float("inf"):
        message = f"expected the rate of the frames given, a positive number a second, got {fps!r}"
        remedy = "Give {'type': 'video', 'video': [frames], 'fps': 2.0}."
        raise EyespotError("media-unreadable", message, where=name, remedy=remedy)
    if len(source) == 0:
        raise EyespotError("media-empty", "the video has no frames", where=name)
    if len(source) > limits.max_frames:
        message = f"{len(source)} frames, at most {limits.max_frames} are taken"
        raise EyespotError("media-too-large", message, where=name, remedy="Give fewer frames, and their own rate.")
    frames: list[np.ndarray] = []
    for i, given in enumerate(source):
        frame = decode_image(
            given, root=root, allow_private=allow_private, limits=limits, name=f"{name} frame {i}".strip(), rule=rule
        ).data
        if frames and frame.shape != frames[0].shape:
            sizes = " and ".join(f"{f.shape[1]} x {f.shape[0]}" for f in (frames[0], frame))
            raise EyespotError("media-size", f"frames 0 and {i} have unlike sizes, {sizes}", where=name)
        if frame.shape[0] * frame.shape[1] * len(source) > limits.max_total_pixels:
            message = f"more than {limits.max_total_pixels:,} pixels in all frames"
            raise EyespotError("media-too-large", message, where=name)
        frames.append(frame)
    data, timing = np.stack(frames), tuple(i / fps for i in range(len(frames)))
    data.setflags(write=False)
    return Media("video", data, (data.shape[2], data.shape[1]), content_hash("video", data, timing), timing, name)


def prepare_video(media: Media, rule: ImageRule, *, limits: Limits = LIMITS) -> EncodedMedia:
    """`media` resized, cut into patches and normalised by `rule`; its slots are still empty.

    Where embeddings stand in a line, each time is a picture of its own to the encoder, with its own grid.
    """
    frames = []
    for frame in media.data:
        pixels, transform = resize_image(frame, rule, limits=limits, name=media.name)
        frames.append(pixels)
    span = rule.temporal_patch_size
    frames += [frames[-1]] * (-len(frames) % span)
    patches, grid = cut(np.stack(frames), rule, media.name)
    # In a grid a video is one; in a line its frames follow one another as pictures do.
    grids = [grid] if rule.positions == "grid" else [(1, *grid[1:])] * grid[0]
    seconds = span * (media.timing[1] - media.timing[0]) if len(media.timing) > 1 else 0.0
    return EncodedMedia(
        kind=media.kind,
        patches=patches,
        grid_thw=np.array(grids, np.int64),
        slots=np.zeros(0, np.int64),
        original_size=media.size,
        input_size=(frames[0].shape[1], frames[0].shape[0]),
        sha256=media.sha256,
        plan=MediaPlan(
            merge_size=rule.merge_size, positions=rule.positions,
            interval=1.0 if rule.tokens_per_second is None else rule.tokens_per_second * seconds,
            newline=rule.newline, scaled=pooled(grid[1:], rule.pool),
        ),
        transform=transform,
        timing=media.timing,
    )  # fmt: skip
