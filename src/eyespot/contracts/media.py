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
            or None for "the next of the pictures given beside the messages"; of a video: its frames, each of these.
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
        data: image: uint8 (height, width, 3), EXIF applied, alpha laid on white; video: (frames, height, width, 3).
        size: (width, height) in pixels.
        timing: seconds of each frame for video; empty for images.
        sha256: of the decoded content, its shape and everything that changes its meaning; cache keys use it.
        name: where it came from, for error messages only.
    """

    kind: Kind
    data: np.ndarray
    size: tuple[int, int]
    sha256: str
    timing: tuple[float, ...] = ()
    name: str = ""
