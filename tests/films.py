"""Small video files of known frames, made by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CODECS = {"webm": ("libvpx-vp9", "yuv420p"), "avi": ("mpeg4", "yuv420p"), "gif": ("gif", "rgb8")}
EXACT = ("ffv1", "bgr0")  # loses nothing, in .mkv


def frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey that rises with the number, and a bar that moves."""
    pixels = np.full((height, width, 3), (number * 7) % 200, np.uint8)
    pixels[:, number * 3 % (width - 4) :][:, :4] = 255
    return pixels


def film(
    path: Path, frames: int | list[np.ndarray] = 25, rate: Fraction | int = 10, *, codec: str = "", gop: int = 6,
    times: list[int] | None = None, sound: bool = False, options: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A video file, its container by the name's ending.

    Args:
        path: where.
        frames: the frames, or how many of `frame`.
        rate: frames a second.
        codec: by default H.264, or what the container takes.
        gop: a key frame at least so often.
        times: of each frame in steps of 1 / rate; by default one after the other.
        sound: a second of silence beside them.
        options: of the container.
    """
    pictures = [frame(i) for i in range(frames)] if isinstance(frames, int) else frames
    name, pixels = CODECS.get(path.suffix[1:], ("libx264", "yuv420p"))
    if codec == "exact":
        name, pixels = EXACT
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(name, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (48, 64)
        stream.pix_fmt, stream.gop_size = pixels, gop
        if sound:
            silence(container)
        container.start_encoding()  # also where no frame follows
        for i, picture in enumerate(pictures):
            made = av.VideoFrame.from_ndarray(picture, "rgb24")
            if times is not None:
                made.pts, made.time_base = times[i], 1 / Fraction(rate)
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    return path


def silence(container: av.container.OutputContainer, codec: str = "aac") -> None:
    """A second of it, as a stream of its own."""
    stream = container.add_stream(codec, rate=16000, layout="mono")
    for start in range(0, 16000, 1000):
        made = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
        made.sample_rate, made.pts = 16000, start
        container.mux(stream.encode(made))
    container.mux(stream.encode())


def sound_only(path: Path) -> Path:
    """A file that could hold a video and does not."""
    with av.open(str(path), "w") as container:
        silence(container)
    return path
