"""A film, or a list of frames and their rate → a video → raw patches.

Frames are resized one by one, as pictures are; those of a film as soon as each is decoded, so that no frame is kept
whole. A patch spans several frames; where they do not divide, the last frame is repeated, as published (Qwen2-VL).
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.contracts.encoded import EncodedMedia, MediaPlan
from eyespot.contracts.media import Media
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import pooled
from eyespot.inputs.decode import content_hash, decode_image
from eyespot.inputs.fetch import fetch_file
from eyespot.inputs.film import Film
from eyespot.inputs.frames import choose_frames, sized
from eyespot.inputs.naming import shown
from eyespot.inputs.patches import cut
from eyespot.inputs.resize import resize_image, resized_size
from eyespot.runtime.limits import LIMITS, Limits

FILE = (str, Path, bytes, bytearray, memoryview)


def decode_video(
    source: Any,
    fps: Any = None,
    *,
    frames: FrameRule | None = None,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
    rule: ImageRule | None = None,
) -> Media:
    """A film or frames as a video.

    Args:
        source: the path, URL or bytes of a film; frames in order, each as `decode_image` takes them; or a decoded
            video.
        fps: of a list: the rate of its frames. Of a film `frames` says what is wanted.
        frames: which frames of a film are taken; None: the model takes none from files.
        root: see `fetch`. allow_private, limits, name: as of `decode_image`.
        rule: as of `decode_image`; frames of a film are resized by it at once. None: they are kept as they are.

    Raises:
        EyespotError: ``media-unreadable`` for what is neither or has no rate, ``media-empty``, ``media-truncated``,
            ``media-size`` for frames of unlike size, ``media-too-large``, ``not-supported`` without `frames`,
            ``extra-missing`` without PyAV, and as `decode_image` for each frame.
    """
    if isinstance(source, Media) and source.kind == "video":
        return source
    asked: dict[str, Any] = {"root": root, "allow_private": allow_private, "limits": limits}
    if isinstance(source, FILE):
        if frames is None:
            remedy = "Give {'type': 'video', 'video': [frames], 'fps': 2.0}."
            message = "this model's contract does not say which frames of a film it takes"
            raise EyespotError("not-supported", message, where=name, remedy=remedy)
        name = name or (shown(source) if isinstance(source, (str, Path)) else f"a {type(source).__name__}")
        with open_film(source, name=name, upright=rule is None or rule.exif == "apply", **asked) as film:
            return _from_film(film, frames, rule, limits, name)
    return _from_list(source, fps, name, rule, asked)


@contextmanager
def open_film(
    source: Any, *, name: str = "", limits: Limits = LIMITS, upright: bool = True, **asked: Any
) -> Iterator[Film]:
    """A film by its path, URL or bytes; its file is closed with it. Arguments as of `fetch_file` and `Film`."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BufferedIOBase = io.BytesIO(source)
    else:
        file = fetch_file(source, name=name, limits=limits, **asked)
    with file, Film(file, limits=limits, name=name, upright=upright) as film:
        yield film


def _from_film(film: Film, frames: FrameRule, rule: ImageRule | None, limits: Limits, name: str) -> Media:
    """The frames that `frames` wants, in the size that `rule` gives them."""
    indices = choose_frames(film.count, film.rate, frames)
    _check_count(len(indices), limits, name)
    width, height = film.size
    if rule is not None:
        rule = sized(rule, frames, len(indices))
        height, width = resized_size(height, width, rule, name, len(indices))[0]
    _check_pixels(len(indices) * height * width, limits, name)
    asked: dict[str, Any] = {"limits": limits, "name": name}
    data, timing = np.empty((len(indices), height, width, 3), np.uint8), []
    for i, picture in enumerate(film.frames(indices.tolist())):
        data[i] = picture.pixels if rule is None else resize_image(picture.pixels, rule, count=len(indices), **asked)[0]
        timing.append(picture.seconds)
    return _video(data, film.size, tuple(timing), len(indices) / film.count * film.rate, name)


def _from_list(source: Any, fps: Any, name: str, rule: ImageRule | None, asked: dict[str, Any]) -> Media:
    limits: Limits = asked["limits"]
    stacked = isinstance(source, np.ndarray) and source.ndim == 4
    if not stacked and not isinstance(source, Sequence):
        message = f"expected a film or a list of frames, got {type(source).__name__}"
        raise EyespotError("media-unreadable", message, where=name, remedy="Give a path, or the frames and their fps.")
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps < float("inf"):
        message = f"expected the rate of the frames given, a positive number a second, got {fps!r}"
        remedy = "Give {'type': 'video', 'video': [frames], 'fps': 2.0}."
        raise EyespotError("media-unreadable", message, where=name, remedy=remedy)
    if len(source) == 0:
        raise EyespotError("media-empty", "the video has no frames", where=name)
    _check_count(len(source), limits, name)
    frames: list[np.ndarray] = []
    for i, given in enumerate(source):
        frame = decode_image(given, name=f"{name} frame {i}".strip(), rule=rule, **asked).data
        if frames and frame.shape != frames[0].shape:
            sizes = " and ".join(f"{f.shape[1]} x {f.shape[0]}" for f in (frames[0], frame))
            raise EyespotError("media-size", f"frames 0 and {i} have unlike sizes, {sizes}", where=name)
        _check_pixels(frame.shape[0] * frame.shape[1] * len(source), limits, name)
        frames.append(frame)
    height, width = frames[0].shape[:2]
    return _video(np.stack(frames), (width, height), tuple(i / fps for i in range(len(frames))), float(fps), name)


def _video(data: np.ndarray, size: tuple[int, int], timing: tuple[float, ...], rate: float, name: str) -> Media:
    data.setflags(write=False)
    return Media("video", data, size, content_hash("video", data, (rate, *timing)), timing, name, rate)


def _check_count(count: int, limits: Limits, name: str) -> None:
    if count > limits.max_frames:
        message = f"{count} frames, at most {limits.max_frames} are taken"
        raise EyespotError("media-too-large", message, where=name, remedy="Give fewer frames, or a lower fps.")


def _check_pixels(pixels: int, limits: Limits, name: str) -> None:
    if pixels > limits.max_total_pixels:
        message = f"more than {limits.max_total_pixels:,} pixels in all frames"
        remedy = "Give fewer or smaller frames, or raise limits.max_total_pixels."
        raise EyespotError("media-too-large", message, where=name, remedy=remedy)


def prepare_video(
    media: Media, rule: ImageRule, frames: FrameRule | None = None, *, limits: Limits = LIMITS
) -> EncodedMedia:
    """`media` resized, cut into patches and normalised by `rule`; its slots are still empty.

    Args:
        media: from `decode_video`.
        rule: of each frame.
        frames: limits the area of all together.
        limits: of sizes.

    Raises:
        EyespotError: as `resize_image`; ``media-size`` for a film that was decoded for another model.
    """
    rule = sized(rule, frames, len(media.data))
    width, height = media.size
    count = len(media.data)
    target, transform = resized_size(height, width, rule, media.name, count)
    if media.data.shape[1:3] not in (target, (height, width)):
        message = f"the frames were made {media.data.shape[2]} x {media.data.shape[1]} for another model"
        remedy = "Decode the film again, with this model's rule."
        raise EyespotError("media-size", message, where=media.name, remedy=remedy)
    pictures = [
        frame
        if frame.shape[:2] == target
        else resize_image(frame, rule, limits=limits, name=media.name, count=count)[0]
        for frame in media.data
    ]
    span = rule.temporal_patch_size
    pictures += [pictures[-1]] * (-len(pictures) % span)
    patches, grid = cut(np.stack(pictures), rule, media.name)
    # In a grid a video is one; in a line its frames follow one another as pictures do.
    grids = [grid] if rule.positions == "grid" and not rule.apart else [(1, *grid[1:])] * grid[0]
    seconds = span / media.rate if len(media.timing) > 1 else 0.0
    return EncodedMedia(
        kind=media.kind,
        patches=patches,
        grid_thw=np.array(grids, np.int64),
        slots=np.zeros(0, np.int64),
        original_size=media.size,
        input_size=(target[1], target[0]),
        sha256=media.sha256,
        plan=MediaPlan(
            merge_size=rule.merge_size, block_order=rule.block_order, positions=rule.positions,
            interval=1.0 if rule.tokens_per_second is None else rule.tokens_per_second * seconds,
            newline=rule.newline, scaled=pooled(grid[1:], rule.pool),
        ),
        transform=transform,
        timing=media.timing,
    )  # fmt: skip
