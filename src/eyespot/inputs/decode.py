"""Anything a user may call a picture → `Media`: upright, RGB, uint8, immutable, hashed.

Bytes come from `fetch`; no resizing here. The format is sniffed from the bytes and only that format's decoder is
called, after the size in its header was checked; a picture that ends early is an error, never a half-grey picture,
whatever `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` says elsewhere in the process. What PIL does in silence and we do not:
16-bit grey is scaled by 1/257 (PIL clips at 255), transparency is laid on white (PIL drops it), EXIF turns the picture.
"""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.media import Kind, Media
from eyespot.errors import EyespotError
from eyespot.inputs.fast import decode_jpeg
from eyespot.inputs.fetch import fetch
from eyespot.inputs.naming import shown
from eyespot.runtime.limits import LIMITS, Limits

# What a file begins with → its decoder. The classes are called directly: `Image.open` would try every plug-in.
DECODERS: tuple[tuple[re.Pattern[bytes], str, type[ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", JpegImagePlugin.JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", PngImagePlugin.PngImageFile),
    (re.compile(rb"GIF8[79]a"), "GIF", GifImagePlugin.GifImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", WebPImagePlugin.WebPImageFile),
    (re.compile(rb"BM"), "BMP", BmpImagePlugin.BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF", TiffImagePlugin.TiffImageFile),
)
# Frequent wrong guesses, so that the error can say what the file is instead of only what it is not.
OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"%PDF"), "a PDF"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1|avif)", re.DOTALL), "a HEIC or AVIF picture"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3", re.DOTALL), "a video"),
    (re.compile(rb"\0\0\0\x0cjP|\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (re.compile(rb"\s*(<!doctype|<html)", re.IGNORECASE), "a web page"),
    (re.compile(rb"\s*<(\?xml|svg)", re.IGNORECASE), "SVG or XML"),
    (re.compile(rb"[\t\n\r\x20-\x7e]+\Z"), "text"),
)
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112
TRUNCATED = re.compile(r"truncat|broken|unexpected end|premature|not enough|incomplete|next frame", re.IGNORECASE)


def decode_image(
    source: Any,
    *,
    root: Path | None = None,
    allow_private: bool = False,
    limits: Limits = LIMITS,
    name: str = "",
    rule: ImageRule | None = None,
) -> Media:
    """`source` as an upright RGB picture.

    Args:
        source: a path or URL, encoded bytes, a PIL image, a uint8 array (H, W), (H, W, 3) or (H, W, 4), or `Media`.
        root: see `fetch`: paths are read below it only.
        allow_private: see `fetch`.
        limits: what the picture may cost.
        name: the item for error messages ("row 12, image 0"); else the path or URL is named.
        rule: how alpha, EXIF and 16 bits are treated, as the model's contract records it.

    Raises:
        EyespotError: ``media-unreadable``, ``-truncated``, ``-too-large``, ``-array``, ``-empty``, and as `fetch`.
    """
    rule = rule or ImageRule()
    if isinstance(source, Media):
        if source.kind != "image":
            raise EyespotError("media-unreadable", f"expected a picture, got {source.kind}", where=name)
        return source
    name = name or (shown(source) if isinstance(source, (str, Path)) else f"a {type(source).__name__}")
    if isinstance(source, np.ndarray):
        return _from_array(source, rule, limits, name)
    if isinstance(source, Image.Image):
        return image_media(_decoded(source, rule, limits, name), name)
    if isinstance(source, (str, Path)):
        source = fetch(source, root=root, allow_private=allow_private, limits=limits, name=name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return image_media(_from_bytes(bytes(source), rule, limits, name), name)
    raise EyespotError(
        "media-unreadable",
        f"expected a path, URL, bytes, PIL image or uint8 array, got {type(source).__name__}",
        where=name,
        remedy="Convert it first: a tensor with .numpy(), a file object with .read().",
    )


def image_media(pixels: np.ndarray, name: str = "") -> Media:
    """`Media` of uint8 (height, width, 3) pixels; they are copied and sealed, the hash is theirs."""
    pixels = np.array(pixels, np.uint8, order="C", copy=True)
    pixels.setflags(write=False)
    height, width = pixels.shape[:2]
    return Media("image", pixels, (width, height), content_hash("image", pixels), name=name)


def content_hash(kind: Kind, data: np.ndarray, timing: tuple[float, ...] = ()) -> str:
    """sha256 of decoded content with its kind, type, shape and timing: equal bytes in another shape differ."""
    header = json.dumps([kind, data.dtype.str, data.shape, timing])
    digest = hashlib.sha256(header.encode() + b"\0")
    digest.update(np.ascontiguousarray(data).data)
    return digest.hexdigest()


def _from_array(array: np.ndarray, rule: ImageRule, limits: Limits, name: str) -> Media:
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if array.dtype != np.uint8 or channels not in ((1,) if array.ndim == 2 else (3, 4)):
        raise EyespotError("media-array", f"got an array of {array.dtype} shaped {array.shape}", where=name)
    check_size(array.shape[1], array.shape[0], limits, name)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return image_media(_rgb(Image.fromarray(np.ascontiguousarray(array), mode=mode), rule, name), name)


def _from_bytes(data: bytes, rule: ImageRule, limits: Limits, name: str) -> np.ndarray:
    if len(data) > limits.max_image_bytes:
        raise EyespotError(
            "media-too-large", f"the file has {len(data):,} bytes, the limit is {limits.max_image_bytes:,}", where=name
        )
    format_, decoder = _sniff(data, name)
    stated = _stated_length(format_, data)
    if stated > len(data):
        raise EyespotError("media-truncated", f"the {format_} ends at byte {len(data):,} of {stated:,}", where=name)
    if format_ == "WebP":
        check_size(*_webp_size(data), limits, name)
    with _decoding(name, format_):
        image = decoder(io.BytesIO(data), name)  # reads the header only
    if rule.pixels == "fast" and format_ == "JPEG" and image.mode == "RGB":
        check_size(*image.size, limits, name)
        pixels = decode_jpeg(data)
        if pixels is not None:  # else PIL says what is wrong
            return _upright(Image.fromarray(pixels), image, rule)
    return _decoded(image, rule, limits, name, format_)


def _decoded(image: Image.Image, rule: ImageRule, limits: Limits, name: str, format_: str = "picture") -> np.ndarray:
    """Header check, decode, convert; the image object may still be undecoded."""
    check_size(*image.size, limits, name)
    with _decoding(name, format_):
        image.load()
        return _rgb(image, rule, name)


def _sniff(data: bytes, name: str) -> tuple[str, type[ImageFile.ImageFile]]:
    for pattern, format_, decoder in DECODERS:
        if pattern.match(data):
            return format_, decoder
    if not data:
        raise EyespotError("media-empty", "the file is empty", where=name)
    guess = next((f"; it looks like {what}" for pattern, what in OTHERS if pattern.match(data[:512])), "")
    raise EyespotError("media-unreadable", f"this is no JPEG, PNG, GIF, WebP, BMP or TIFF picture{guess}", where=name)


def check_size(width: int, height: int, limits: Limits, name: str, what: str = "picture") -> None:
    """Refuse what has no pixels or too many, by its header.

    Raises:
        EyespotError: ``media-empty``, ``media-too-large``.
    """
    if width < 1 or height < 1:
        raise EyespotError("media-empty", f"the {what} has {width} x {height} pixels", where=name)
    if width * height > limits.max_pixels:
        raise EyespotError(
            "media-too-large",
            f"the {what} has {width:,} x {height:,} pixels, the limit is {limits.max_pixels:,} in all",
            where=name,
        )


def _stated_length(format_: str, data: bytes) -> int:
    """How many bytes the file says it has at least, where its first bytes say so."""
    if format_ == "WebP":
        return max(30, 8 + int.from_bytes(data[4:8], "little"))
    if format_ == "TIFF":
        order = "little" if data[:2] == b"II" else "big"
        return 2 + int.from_bytes(data[8:16] if data[2:4].strip(b"\0") == b"+" else data[4:8], order)
    return 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read by hand, as libwebp allocates the canvas as soon as its decoder is made."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _rgb(image: Image.Image, rule: ImageRule, name: str) -> np.ndarray:
    """uint8 (height, width, 3) of a decoded image of any mode."""
    given = image
    if image.mode == "F":
        raise EyespotError(
            "media-unreadable",
            "the picture holds floats, whose range is not known",
            where=name,
            remedy="Scale it to 0–255 and give it as uint8.",
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _eight_bit(image, rule, name)
    if rule.alpha == "white" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return _upright(image.convert("RGB"), given, rule)


def _upright(image: Image.Image, given: Image.Image, rule: ImageRule) -> np.ndarray:
    """The pixels of `image`, turned as the EXIF block of the picture that was given says."""
    orientation = _orientation(given) if rule.exif == "apply" else 1
    return np.asarray(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image)


def _eight_bit(image: Image.Image, rule: ImageRule, name: str) -> Image.Image:
    """16-bit grey as 8-bit grey; a transparent grey value stays transparent."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise EyespotError(
            "media-unreadable",
            f"the picture holds values from {values.min()} to {values.max()}, beyond 16 bits",
            where=name,
            remedy="Scale it to 0–255 and give it as uint8.",
        )
    grey = (values + 128) // 257 if rule.sixteen_bit == "divide_257" else values.clip(max=255)
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(grey.astype(np.uint8))
    alpha = np.where(values == key, 0, 255)
    return Image.fromarray(np.stack([grey, alpha], axis=-1).astype(np.uint8), mode="LA")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a broken EXIF block raises anything; the pixels are whole, and viewers show them unturned
        return 1


class _StrictPil:
    """`with` this, PIL refuses truncated pictures, even where another library of the process asked for leniency."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.outside_value = False

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.outside_value = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                ImageFile.LOAD_TRUNCATED_IMAGES = self.outside_value


STRICT_PIL = _StrictPil()


@contextmanager
def _decoding(name: str, format_: str) -> Iterator[None]:
    """PIL strict, and its errors as ours, without addresses or paths."""
    try:
        with STRICT_PIL:
            yield
    except EyespotError:
        raise
    except Image.DecompressionBombError as error:
        raise EyespotError("media-too-large", scrubbed(error), where=name) from None
    except Exception as error:  # decoders of broken files raise whatever they please, SyntaxError and IndexError too
        code = "media-truncated" if TRUNCATED.search(str(error)) else "media-unreadable"
        raise EyespotError(code, f"this {format_} cannot be decoded: {scrubbed(error)}", where=name) from None


def scrubbed(error: BaseException) -> str:
    """A decoder's message without object addresses and file paths, 120 characters at most."""
    text = re.sub(r"<[^<>]*\b0x[0-9a-fA-F]+[^<>]*>|\b0x[0-9a-fA-F]{5,}", "…", str(error))
    text = re.sub(r"(?<![\w/])(?:/|[A-Za-z]:\\)[^\s'\":]+", "…", text)
    text = " ".join(text.split())[:120]
    return text or type(error).__name__
