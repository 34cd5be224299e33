"""Whatever a user may call a picture becomes upright RGB, or an error that names it and says what to do."""

import io
import re
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from eyespot.contracts.contract import ImageRule
from eyespot.contracts.media import Media
from eyespot.errors import EyespotError
from eyespot.inputs.decode import content_hash, decode_image, image_media, scrubbed
from eyespot.runtime.limits import LIMITS


def noise(height: int = 6, width: int = 9, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: Image.Image, format_: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def pixels(source, **options) -> np.ndarray:
    return decode_image(source, **options).data


def refusal(source, **options) -> EyespotError:
    with pytest.raises(EyespotError) as caught:
        decode_image(source, **options)
    return caught.value


def png(width: int, height: int, depth: int = 8, color: int = 2, extra: bytes = b"") -> bytes:
    """A PNG header that claims a size, with one empty line of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


RED_ON_CLEAR = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
RED_ON_WHITE = [[255, 0, 0], [255, 255, 255], [127, 127, 127]]


# Modes


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_exact_pixels(format_: str) -> None:
    original = noise()
    options = {"lossless": True} if format_ == "WEBP" else {}
    assert np.array_equal(pixels(encoded(Image.fromarray(original), format_, **options)), original)


def test_a_jpeg_gives_what_pil_gives() -> None:
    data = encoded(Image.fromarray(noise(40, 50)), "JPEG")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_on_white(format_: str) -> None:
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    result = pixels(encoded(Image.fromarray(RED_ON_CLEAR), format_, **options))
    assert np.abs(result[0].astype(int) - RED_ON_WHITE).max() == 0


def test_alpha_can_be_dropped_by_a_contract_that_says_so() -> None:
    result = pixels(Image.fromarray(RED_ON_CLEAR), rule=ImageRule(alpha="drop"))
    assert np.array_equal(result, RED_ON_CLEAR[:, :, :3])


def test_a_palette_with_a_transparent_entry_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    with_alpha = encoded(image, "PNG", transparency=b"\x00\xff")
    assert pixels(with_alpha).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    assert pixels(encoded(image, "PNG")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_a_transparent_colour_without_an_alpha_channel_is_laid_on_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (4, 5, 6))
    assert pixels(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 9)
    assert pixels(encoded(grey, "PNG", transparency=7)).tolist() == [[[255] * 3, [9] * 3]]


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_257_and_rounded(format_: str) -> None:
    values = np.array([[0, 128, 129, 257, 300, 32768, 65535]], np.uint16)
    data = encoded(Image.fromarray(values), format_)
    assert pixels(data)[0, :, 0].tolist() == [0, 0, 1, 1, 1, 128, 255]
    assert pixels(data, rule=ImageRule(sixteen_bit="clip"))[0, :, 0].tolist() == [0, 128, 129, 255, 255, 255, 255]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_every_sixteen_bit_mode_of_pil_is_scaled(mode: str) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), 255 * 257)
    image.putpixel((1, 0), 77 * 257)
    assert pixels(image)[0].tolist() == [[255] * 3, [77] * 3]


def test_a_transparent_sixteen_bit_grey_is_laid_on_white() -> None:
    image = Image.fromarray(np.array([[1000, 257 * 9]], np.uint16))
    assert pixels(encoded(image, "PNG", transparency=1000))[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_pil_modes_become_rgb(mode: str) -> None:
    result = pixels(Image.new(mode, (3, 2)))
    assert result.shape == (2, 3, 3)


def test_cmyk_jpegs_are_converted() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red = pixels(data)[4, 4]
    assert red[0] > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize("image", [Image.new("F", (2, 2)), Image.new("I", (2, 2), 70_000), Image.new("I", (2, 2), -1)])
def test_pictures_without_a_known_range_are_refused(image: Image.Image) -> None:
    error = refusal(image, name="depth map")
    assert (error.code, error.where) == ("media-unreadable", "depth map")
    assert "uint8" in error.remedy


# EXIF


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format_: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # a white corner, top left
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    stored = upright[::rows, ::columns]  # where the standard puts the stored first row and column
    stored = stored.swapaxes(0, 1) if orientation >= 5 else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {"quality": 100} if format_ == "JPEG" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), format_, exif=exif, **options)
    for source in (data, Image.open(io.BytesIO(data))):
        media = decode_image(source)
        assert media.size == (32, 16)
        assert np.abs(media.data.astype(int) - upright).max() < 20


def test_exif_can_be_ignored_by_a_contract_that_says_so() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(noise(4, 8)), "PNG", exif=exif)
    assert decode_image(data, rule=ImageRule(exif="ignore")).size == (8, 4)
    assert decode_image(data).size == (4, 8)


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = encoded(Image.fromarray(noise(8, 8)), "JPEG", exif=b"Exif\0\0" + b"\xff" * 30)
    assert decode_image(data).size == (8, 8)


def test_a_broken_exif_block_of_a_pil_image_is_ignored() -> None:
    image, same = Image.fromarray(noise(4, 8)), Image.fromarray(noise(4, 8))
    image.info["exif"] = same.info["exif"] = b"Exif\0\0 no TIFF header here"
    with pytest.raises(SyntaxError):
        same.getexif()
    assert decode_image(image).size == (8, 4)


def test_the_users_own_object_is_left_as_it_was() -> None:
    image = Image.fromarray(RED_ON_CLEAR)
    image.getexif()[0x0112] = 6
    decode_image(image)
    assert (image.mode, image.size, image.getexif()[0x0112]) == ("RGBA", (3, 1), 6)


# Several frames


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format_: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert pixels(data)[4, 4].tolist() == [255, 0, 0]


# Arrays, objects, other types


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (3, 3), (3, 3, 3), (1, 1, 4), (4, 4, 4), (1, 3, 3)])
def test_uint8_arrays_are_height_width_channels(shape: tuple[int, ...]) -> None:
    media = decode_image(np.full(shape, 255, np.uint8))
    assert media.data.shape == (shape[0], shape[1], 3)
    assert media.size == (shape[1], shape[0])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 7, 3), np.float32),
        np.zeros((5, 7), np.int64),
        np.zeros((5, 7), bool),
        np.zeros((3, 50, 70), np.uint8),
        np.zeros((5, 7, 1), np.uint8),
        np.zeros((5, 7, 2), np.uint8),
        np.zeros((1, 5, 7, 3), np.uint8),
        np.zeros(5, np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_other_arrays_are_refused_with_the_shapes_that_are_read(array: np.ndarray) -> None:
    error = refusal(array, name="row 3, image 0")
    assert (error.code, error.where) == ("media-array", "row 3, image 0")
    assert "(H, W, 3)" in error.remedy


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3), (0, 0, 4)])
def test_arrays_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    assert refusal(np.zeros(shape, np.uint8)).code == "media-empty"


def test_the_media_is_sealed_and_does_not_follow_the_users_array() -> None:
    array = noise()
    media = decode_image(array)
    array[:] = 0
    assert media.data.any()
    with pytest.raises(ValueError, match="read-only"):
        media.data[0, 0] = 0


def test_image_media_copies_what_it_seals() -> None:
    array = noise()
    media = image_media(array)
    array[:] = 0
    assert media.data.any()


def test_a_media_is_returned_as_it_is() -> None:
    media = decode_image(noise())
    assert decode_image(media) is media
    assert refusal(Media("audio", np.zeros(3), (0, 0), "0")).code == "media-unreadable"


@pytest.mark.parametrize("source", [None, 7, io.BytesIO(), ["a.png"], {"path": "a.png"}])
def test_what_is_no_picture_at_all_is_refused_by_its_type(source) -> None:
    error = refusal(source)
    assert error.code == "media-unreadable"
    assert type(source).__name__ in error.message


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_read(kind) -> None:
    assert decode_image(kind(encoded(Image.fromarray(noise()), "PNG"))).size == (9, 6)


def test_paths_are_read_and_named_in_errors(tmp_path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture at all")
    assert decode_image(tmp_path / "a.png").size == (9, 6)
    assert decode_image("a.png", root=tmp_path).name == "a.png"
    error = refusal("b.png", root=tmp_path)
    assert (error.code, error.where) == ("media-unreadable", "b.png")
    assert "looks like text" in error.message


# Hash


def test_the_hash_is_of_content_and_shape() -> None:
    flat = np.arange(36, dtype=np.uint8)
    hashes = {
        decode_image(flat.reshape(2, 6, 3)).sha256,
        decode_image(flat.reshape(6, 2, 3)).sha256,
        decode_image(flat.reshape(6, 6)).sha256,
        decode_image(flat.reshape(3, 3, 4)).sha256,
        content_hash("video", flat.reshape(2, 6, 3)),
        content_hash("video", flat.reshape(2, 6, 3), (0.0, 1.0)),
        content_hash("image", flat.reshape(2, 6, 3).astype(np.uint16)),
    }
    assert len(hashes) == 7
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)


def test_the_same_picture_hashes_alike_however_it_comes() -> None:
    original = noise()
    hashes = {
        decode_image(source).sha256
        for source in (original, Image.fromarray(original), encoded(Image.fromarray(original), "BMP"))
    }
    assert len(hashes) == 1


def test_what_changes_the_meaning_of_equal_bytes_changes_the_hash() -> None:
    index = Image.new("P", (4, 4))
    hashes = set()
    for palette in ([9, 9, 9], [8, 8, 8]):
        index.putpalette(palette)
        hashes.add(decode_image(encoded(index, "PNG")).sha256)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        hashes.add(decode_image(encoded(Image.fromarray(noise(4, 4)), "PNG", exif=exif)).sha256)
    assert len(hashes) == 4


# Size limits


def headers() -> dict[str, bytes]:
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    frame = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    lzw = b"\x02\x02\x4c\x01\x00;"
    bmp = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 65535, 65535, 1, 24, *[0] * 6)
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    tiff_header = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 8)
    entries = [
        (256, 4, 65535),
        (257, 4, 65535),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, 65535),
        (279, 4, 9),
    ]
    tiff_data = tiff_header + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries) + b"\0" * 8
    vp8x = struct.pack("<I", 0) + (29_999).to_bytes(3, "little") * 2
    vp8l = b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + b"\0" * 8
    vp8 = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + b"\0" * 8
    webp = {k: k + struct.pack("<I", len(v)) + v for k, v in ((b"VP8X", vp8x), (b"VP8L", vp8l), (b"VP8 ", vp8))}
    return {
        "png 30,000": png(30_000, 30_000),
        "png one bit": png(13_000, 13_000, 1, 0),
        "png one line": png(2_000_000_000, 1),
        "gif": gif + frame[13:] + lzw,
        "gif whose frame is larger than itself": frame + lzw,
        "bmp": bmp,
        "jpeg": bytes(jpeg),
        "tiff": tiff_data,
        **{
            f"webp {k.decode()}": b"RIFF" + struct.pack("<I", len(v) + 4) + b"WEBP" + v for k, v in webp.items()
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted(headers()))
@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_huge_size_is_refused_from_the_header(kind: str) -> None:
    data = headers()[kind]
    started = time.perf_counter()
    error = refusal(data, name="bomb")
    assert (error.code, error.where) == ("media-too-large", "bomb")
    assert time.perf_counter() - started < 2


def test_libwebp_is_not_asked_before_the_size_is_known(monkeypatch) -> None:
    chunk = b"VP8X" + struct.pack("<II", 10, 0) + (8999).to_bytes(3, "little") * 2
    monkeypatch.setattr("PIL.WebPImagePlugin._webp.WebPAnimDecoder", lambda *_: pytest.fail("the decoder was made"))
    assert "9,000 x 9,000" in refusal(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk).message


def test_the_pixel_limit_is_exact_and_can_be_raised() -> None:
    data = encoded(Image.new("1", (8000, 8001)), "PNG")
    assert refusal(data).code == "media-too-large"
    array = np.zeros((100, 101), np.uint8)
    assert refusal(array, limits=LIMITS.replace(max_pixels=10_099)).code == "media-too-large"
    assert decode_image(array, limits=LIMITS.replace(max_pixels=10_100)).size == (101, 100)
    assert refusal(Image.new("L", (8000, 8001))).code == "media-too-large"


def test_a_raised_limit_needs_no_change_of_pil() -> None:
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")  # PIL alone refuses above 179 megapixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = refusal(data, limits=LIMITS.replace(max_pixels=199_999_999))
    assert "20,000 x 10,000" in error.message


def test_the_byte_limit_holds_for_bytes_in_memory() -> None:
    data = encoded(Image.fromarray(noise()), "BMP")
    assert refusal(data, limits=LIMITS.replace(max_image_bytes=len(data) - 1)).code == "media-too-large"


def test_a_compressed_metadata_bomb_is_not_expanded() -> None:
    payload = zlib.compress(b"\0" * 100_000_000, 9)
    body = b"iCCP" + b"x\0\0" + payload
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    started = time.perf_counter()
    with pytest.raises(EyespotError):
        decode_image(png(4, 4, extra=chunk))
    assert time.perf_counter() - started < 2


# Broken, truncated, foreign


def cuts(format_: str) -> tuple[bytes, list[int]]:
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}.get(format_, {})
    data = encoded(Image.fromarray(noise(40, 60)), format_, **options)
    return data, list(range(0, len(data) - 1, max(1, len(data) // 60)))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_file_is_an_error_or_the_whole_picture(format_: str) -> None:
    data, places = cuts(format_)
    whole = pixels(data)
    refused = 0
    for at in places:
        try:
            part = pixels(data[:at])
        except EyespotError as error:
            assert error.code in ("media-truncated", "media-unreadable", "media-empty")
            refused += 1
        else:
            assert np.array_equal(part, whole), f"cut at {at} of {len(data)} gives other pixels in silence"
    assert refused >= 0.9 * len(places)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_in_half_says_truncated(format_: str) -> None:
    data, _ = cuts(format_)
    assert refusal(data[: len(data) // 2], name="half").code == "media-truncated"


def test_leniency_elsewhere_in_the_process_does_not_reach_us(monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data, _ = cuts("JPEG")
    assert refusal(data[: len(data) // 2]).code == "media-truncated"
    assert refusal(Image.open(io.BytesIO(data[: len(data) // 2]))).code == "media-truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"plain words\n", "text"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7 ...\xff", "a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"8BPS\0\1" + b"\0" * 40, "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "JPEG 2000"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "HEIC"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 40, "a video"),
        (b"\0\0\1\0\1\0" + b"\0" * 40, "no JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\xd7\xcd\xc6\x9a" + b"\0" * 40, "no JPEG"),
    ],
)
def test_foreign_formats_are_refused_and_named_and_no_other_decoder_is_called(data, what: str, monkeypatch) -> None:
    def called(*_args, **_options):
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(Image, "open", called)
    error = refusal(data, name="x.png")
    assert error.code == "media-unreadable"
    assert what in error.message


def test_an_empty_file_says_so() -> None:
    assert refusal(b"").code == "media-empty"


@settings(max_examples=150, deadline=None)
@given(
    head=st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8L", b"BM", b"II*\0"]
    ),
    tail=st.binary(max_size=120),
)
def test_garbage_after_a_known_beginning_is_always_our_error(head: bytes, tail: bytes) -> None:
    try:
        decode_image(head + tail, limits=LIMITS.replace(max_pixels=1_000_000))
    except EyespotError as error:
        assert not re.search(r"0x[0-9a-f]{5}|/(usr|tmp|home|root)|Traceback", str(error))


def test_messages_lose_addresses_and_paths() -> None:
    error = ValueError(
        "cannot identify <_io.BytesIO object at 0x7f3c2ab0> in '/home/someone/secret/a.png' at 0x7fffdeadbeef"
    )
    assert scrubbed(error) == "cannot identify … in '…' at …"
    assert scrubbed(ValueError()) == "ValueError"
    assert len(scrubbed(ValueError("x" * 500))) == 120


def test_image_media_names_its_source() -> None:
    assert image_media(noise(), "world:scenes 3").name == "world:scenes 3"
