"""A video file → facts and frames, by PyAV (the extra `video`). Which frames are wanted is said by `frames`.

Packets are counted before anything is decoded, as what a header says of their number may be absent or wrong. Frames
are then decoded in order, one in memory at a time; where the next wanted one lies behind a later key frame, what lies
between is jumped over. Nothing is concealed: a frame that cannot be had is an error.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np

from eyespot.errors import EyespotError
from eyespot.inputs.containers import container_of
from eyespot.inputs.decode import check_size, scrubbed
from eyespot.runtime.limits import LIMITS, Limits


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame: its pixels, upright uint8 (height, width, 3), and when it is shown, in seconds from the first."""

    pixels: np.ndarray
    seconds: float


class Film:
    """An open video file; use it in a ``with``.

    Args:
        file: the file, at its beginning; the caller closes it.
        limits: what it may cost.
        name: for errors.
        upright: turn frames as the file says that they are shown.

    Raises:
        EyespotError: ``extra-missing`` without PyAV; ``media-unreadable``, ``media-truncated``, ``media-empty``,
            ``media-too-large``.

    Attributes:
        count: frames.
        rate: frames a second, the mean of the whole film.
        size: (width, height) as it is shown.
        codec: the library's name of it.
    """

    def __init__(self, file: BufferedIOBase, *, limits: Limits = LIMITS, name: str = "", upright: bool = True) -> None:
        self.name, self.limits, self.upright = name, limits, upright
        self.file = file
        self.format = container_of(file, name)
        self.container, self.stream = self._opened()
        try:
            self._check()
            self.shown, self.keys = self._packets()
            self.count = len(self.shown)
            self.rate = self._rate()
            self.turns = self._turns()
            width, height = self.stream.width, self.stream.height
            self.size = (height, width) if self.turns % 2 else (width, height)
            self.codec = self.stream.codec_context.name
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def seconds(self) -> float:
        """How long it runs."""
        return self.count / self.rate

    def frames(self, indices: Sequence[int], jump: bool = True) -> Iterator[Picture]:
        """The frames at `indices`, which rise.

        Args:
            indices: in the order in which frames are shown.
            jump: over what is not needed; the same frames come without, only later.
        """
        first = self.shown[0]
        here, decoded, frame = first, self._decoded(), None
        for index in indices:
            time = self.shown[index]
            key = self.keys[max(bisect_right(self.keys, time) - 1, 0)] if self.keys else first
            if jump and key > here:
                decoded = self._decoded(key)
                frame = _at(time, None, decoded)
                if frame is None or frame.pts != time:  # a container that cannot be sought in exactly
                    jump, decoded, frame = False, self._decoded(), None
            frame = _at(time, frame, decoded)
            if frame is None:
                message = f"frame {index:,} of {self.count:,} is not there"
                raise EyespotError("media-truncated", message, where=self.name)
            here = frame.pts
            yield Picture(self._pixels(frame), float((frame.pts - first) * self.stream.time_base))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[Any, Any]:
        av = library()
        try:
            self.file.seek(0)
            container = av.open(self.file, format=self.format, metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise self._unreadable(error) from None
        if not container.streams.video:
            what = "only sound" if container.streams.audio else "nothing that can be read"
            container.close()
            raise EyespotError("media-unreadable", f"the file holds no video, {what}", where=self.name)
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": str(self.limits.max_pixels)}
        return container, stream

    def _unreadable(self, error: Exception) -> EyespotError:
        if isinstance(error, EOFError):
            return EyespotError("media-empty", "the video ends before its first frame", where=self.name)
        reason = getattr(error, "strerror", None) or scrubbed(error)
        return EyespotError("media-unreadable", f"the video cannot be read: {reason}", where=self.name)

    def _check(self) -> None:
        """What the header says of size and length; the number of frames is counted later."""
        check_size(self.stream.width, self.stream.height, self.limits, self.name, "video")
        stated = (self.container.duration or 0) / 1_000_000
        if stated > self.limits.max_film_seconds:
            message = f"the video runs {stated:,.0f} s, at most {self.limits.max_film_seconds:,.0f} are taken"
            remedy = "Cut it, or raise limits.max_film_seconds."
            raise EyespotError("media-too-large", message, where=self.name, remedy=remedy)

    def _packets(self) -> tuple[list[int], list[int]]:
        """When each frame is shown, in order, and when key frames are, in units of the stream."""
        av = library()
        times, keys = [], []
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    raise EyespotError("media-truncated", f"frame {len(times):,} is cut off", where=self.name)
                time = packet.dts if packet.pts is None else packet.pts
                times.append(time)
                if packet.is_keyframe:
                    keys.append(time)
                if len(times) > self.limits.max_film_frames:
                    message = f"the video has more than {self.limits.max_film_frames:,} frames"
                    raise EyespotError("media-too-large", message, where=self.name)
        except av.error.FFmpegError as error:
            raise self._unreadable(error) from None
        if not times:
            raise EyespotError("media-empty", "the video has no frames", where=self.name)
        if len(times) < self.stream.frames:
            message = f"the video ends at frame {len(times):,} of {self.stream.frames:,}"
            raise EyespotError("media-truncated", message, where=self.name)
        if None in times or len({*times}) < len(times):  # nothing to go by: as they come
            times, keys = self._times_of_frames(), []
        return sorted(times), sorted(keys)

    def _times_of_frames(self) -> list[int]:
        """By decoding all of them."""
        times = [frame.pts for frame in self._decoded()]
        if None in times or not times:
            raise EyespotError("media-unreadable", "the video does not say when its frames are shown", where=self.name)
        return times

    def _rate(self) -> float:
        rate = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        span = (self.shown[-1] - self.shown[0]) * self.stream.time_base
        if not rate and span:
            rate = float((self.count - 1) / span)
        return rate or 1.0  # one frame: any rate is as good

    def _turns(self) -> int:
        """Quarter turns, against the clock, that set a frame upright."""
        frame = next(self._decoded(), None)
        if frame is None:
            raise EyespotError("media-truncated", "the first frame is not there", where=self.name)
        return round(frame.rotation / 90) % 4 if self.upright else 0

    def _decoded(self, key: int | None = None) -> Iterator[Any]:
        """Frames from a key frame on; from the first, the file is opened anew, as not every container finds back."""
        av = library()
        try:
            if key is None:
                self.container.close()
                self.container, self.stream = self._opened()
            else:
                self.container.seek(key, stream=self.stream, backward=True)
            yield from self.container.decode(self.stream)
        except av.error.FFmpegError as error:
            raise self._unreadable(error) from None

    def _pixels(self, frame: Any) -> np.ndarray:
        if (frame.width, frame.height) != (self.stream.width, self.stream.height):
            sizes = f"{self.stream.width} x {self.stream.height} and {frame.width} x {frame.height}"
            raise EyespotError("media-size", f"frames of one video have unlike sizes, {sizes}", where=self.name)
        if frame.is_corrupt:
            raise EyespotError("media-truncated", "a frame of the video is damaged", where=self.name)
        return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), self.turns))


def _at(time: int, frame: Any, decoded: Iterator[Any]) -> Any:
    """The first frame from `frame` on that is shown at `time` or later; None where there is none."""
    while frame is None or frame.pts < time:
        frame = next(decoded, None)
        if frame is None:
            return None
    return frame


def library(what: str = "video files") -> Any:
    """PyAV.

    Raises:
        EyespotError: ``extra-missing`` where it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise EyespotError(
            "extra-missing", f"{what} are read by PyAV, which is not installed",
            remedy="pip install 'eyespot[video]', or give a video as frames with their fps and a sound as samples.",
        ) from error  # fmt: skip
    return av
