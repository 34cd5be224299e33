"""A sound file or samples → `Media`: one channel of float32 samples, 16,000 a second, immutable and hashed.

Files are decoded by PyAV (the extra `video`), which resamples other rates; channels are averaged. There is no
spectrogram here: that belongs to the encoder that wants one.
"""

from collections.abc import Iterator
from io import BufferedIOBase, BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from eyespot.contracts.media import Media
from eyespot.errors import EyespotError
from eyespot.inputs.containers import container_of
from eyespot.inputs.decode import content_hash, scrubbed
from eyespot.inputs.fetch import fetch_file
from eyespot.inputs.film import library
from eyespot.inputs.naming import shown
from eyespot.runtime.limits import LIMITS, Limits

RATE = 16_000  # samples a second of every published encoder of sounds
LOUDEST = 64.0  # decoders may swing a little past 1; integers that were called floats are far above
_SHORT = 0.5  # seconds by which a file may miss what its header says


def decode_sound(
    source: Any,
    *,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
) -> Media:
    """`source` as one channel at 16 kHz.

    Args:
        source: a path, URL or bytes of a file (a video's sound too); float samples at 16 kHz; or decoded `Media`.
        root: see `fetch`. allow_private, limits: see `fetch`.
        name: the item for error messages; else the path or URL is named.

    Returns:
        `Media` of kind audio: `data` is float32 (samples,), `size` is (samples, 1), `rate` 16,000.

    Raises:
        EyespotError: ``media-unreadable`` for what holds no sound, ``media-truncated``, ``media-array``,
            ``media-empty``, ``media-too-large``, ``extra-missing`` without PyAV, and as `fetch`.
    """
    if isinstance(source, Media):
        if source.kind != "audio":
            raise EyespotError("media-unreadable", f"expected a sound, got {source.kind}", where=name)
        return source
    name = name or (shown(source) if isinstance(source, (str, Path)) else f"a {type(source).__name__}")
    if isinstance(source, np.ndarray):
        return _sound(_checked(source, name), limits, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BufferedIOBase = BytesIO(source)
    elif isinstance(source, (str, Path)):
        asked = {"root": root, "allow_private": allow_private, "limits": limits, "name": name, "kind": "audio"}
        file = fetch_file(source, **asked)
    else:
        message = f"expected a path, URL, bytes or samples, got {type(source).__name__}"
        raise EyespotError("media-unreadable", message, where=name, remedy="Give a sound file, or a float32 array.")
    with file:
        return _sound(_from_file(file, limits, name), limits, name)


def _checked(samples: np.ndarray, name: str) -> np.ndarray:
    remedy = f"Give one channel of float32 samples from -1 to 1, {RATE:,} a second (int16 / 32768)."
    if samples.ndim != 1 or samples.dtype not in (np.float32, np.float64):
        message = f"got samples of {samples.dtype} shaped {samples.shape}"
        raise EyespotError("media-array", message, where=name, remedy=remedy)
    if samples.size and not np.abs(samples).max() <= LOUDEST:  # NaN too
        raise EyespotError("media-array", "the samples are not finite, or far beyond 1", where=name, remedy=remedy)
    return samples


def _sound(samples: np.ndarray, limits: Limits, name: str) -> Media:
    if not samples.size:
        raise EyespotError("media-empty", "the sound has no samples", where=name)
    _check_length(samples.size / RATE, limits, name)
    data = np.array(samples, np.float32, copy=True)
    data.setflags(write=False)
    sha256 = content_hash("audio", data, (float(RATE),))
    return Media("audio", data, (data.size, 1), sha256, name=name, rate=float(RATE))


def _check_length(seconds: float, limits: Limits, name: str) -> None:
    if seconds > limits.max_sound_seconds:
        message = f"the sound runs longer than {limits.max_sound_seconds:,.0f} s"
        remedy = "Cut it, or raise limits.max_sound_seconds."
        raise EyespotError("media-too-large", message, where=name, remedy=remedy)


def _from_file(file: BufferedIOBase, limits: Limits, name: str) -> np.ndarray:
    """All samples of the first sound that a file holds."""
    av = library("sound files")
    container = None
    try:
        container = av.open(file, format=container_of(file, name, "audio"), metadata_errors="replace")
        if not container.streams.audio:
            what = "only pictures" if container.streams.video else "nothing that can be read"
            raise EyespotError("media-unreadable", f"the file holds no sound, {what}", where=name)
        stream = container.streams.audio[0]
        stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
        _check_length(stated, limits, name)
        pieces, count = [], 0
        for piece in _resampled(av, container, stream):
            pieces.append(piece)
            count += piece.size
            _check_length(count / RATE, limits, name)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, EOFError):
            raise EyespotError("media-empty", "the sound ends before its first sample", where=name) from None
        reason = getattr(error, "strerror", None) or scrubbed(error)
        raise EyespotError("media-unreadable", f"the sound cannot be read: {reason}", where=name) from None
    finally:
        if container is not None:
            container.close()
    if count and count / RATE < stated - max(_SHORT, 0.02 * stated):
        message = f"the sound ends after {count / RATE:.1f} of {stated:.1f} s"
        raise EyespotError("media-truncated", message, where=name)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _resampled(av: Any, container: Any, stream: Any) -> Iterator[np.ndarray]:
    """Stretches of the mean of all channels at 16 kHz; the library's own mix would be louder."""
    resampler = av.AudioResampler(format="fltp", rate=RATE)
    for frame in chain(container.decode(stream), [None]):  # None: what it holds back
        for made in resampler.resample(frame):
            yield made.to_ndarray().mean(axis=0, dtype=np.float32)
