"""`MediaRef` is what a message names; `Media` is what decoding gives: immutable, hashed, upright, RGB."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["image", "video", "audio"]


@dataclass(frozen=True, slots=True)
class MediaRef:
    """A medium as a user, dataset row or request gives it; opened by `inputs.fetch`, nowhere else.

    Attributes:
        kind: image, video or audio.
        source: a path or URL (str), encoded bytes, a PIL image, a uint8 array, a decoded `Media`,
            or None for "the next of the media given beside the messages"; of a video: a film's path, URL or bytes, or
            its frames, each as a picture; of a sound: a path, URL or bytes, or float32 samples at 16 kHz.
        options: what the caller asked for this medium (fps, detail, …).
    """

    kind: Kind
    source: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Media:
    """Decoded content.

    Attributes:
        kind: image, video or audio.
        data: image: uint8 (height, width, 3), EXIF applied, alpha laid on white; video: (frames, height, width, 3),
            of a film at once in the size that the model takes, so that no whole frame is kept; audio: float32
            (samples,) of one channel.
        size: (width, height) in pixels, of a film as it was recorded; (samples, 1) of a sound.
        timing: seconds of each frame for video; empty for images.
        sha256: of the decoded content, its shape and everything that changes its meaning; cache keys use it.
        name: where it came from, for error messages only.
        rate: frames a second of a video: of those that are here, not of the film that they were chosen from; samples a
            second of a sound.
    """

    kind: Kind
    data: np.ndarray
    size: tuple[int, int]
    sha256: str
    timing: tuple[float, ...] = ()
    name: str = ""
    rate: float = 0.0
