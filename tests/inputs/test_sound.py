"""Sound files and samples → one channel at 16 kHz; what is no sound, too long or cut off is refused."""

import base64
import sys

import av
import numpy as np
import pytest

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.contracts.media import Media, MediaRef
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages
from eyespot.inputs.processor import Processor
from eyespot.inputs.sound import RATE, decode_sound
from eyespot.inputs.tokenizer import words
from eyespot.runtime.limits import LIMITS
from tests.films import film

CODECS = {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "ogg": "libopus", "m4a": "aac", "mkv": "pcm_f32le"}


def tone(seconds: float = 2.0, rate: int = RATE, pitch: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def recorded(path, samples: np.ndarray, rate: int = RATE, stereo: bool = False):
    """A sound file, its container by the name's ending."""
    layout = "stereo" if stereo else "mono"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix[1:]], rate=rate, layout=layout)
        resampler = av.AudioResampler(stream.format, layout, rate, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.stack([samples] * (1 + stereo)), "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        for made in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(made))
        container.mux(stream.encode())
    return path


def refused(source, **options) -> EyespotError:
    with pytest.raises(EyespotError) as caught:
        decode_sound(source, **options)
    return caught.value


@pytest.mark.parametrize("ending", CODECS)
def test_every_kind_of_file_gives_its_tone(tmp_path, ending):
    made = decode_sound(recorded(tmp_path / f"a.{ending}", tone()))
    assert (made.kind, made.rate, made.data.dtype, made.size) == ("audio", RATE, np.float32, (len(made.data), 1))
    assert abs(len(made.data) - 2 * RATE) < 0.1 * RATE
    spectrum = np.abs(np.fft.rfft(made.data[: 2 * RATE], 2 * RATE))
    assert abs(spectrum.argmax() / 2 - 440) <= 1


def test_samples_written_without_loss_come_back(tmp_path):
    samples = (np.round(tone() * 32767) / 32768).astype(np.float32)
    for ending in ("wav", "flac"):
        assert np.abs(decode_sound(recorded(tmp_path / f"a.{ending}", samples)).data - samples).max() <= 1 / 32768


def test_two_channels_at_another_rate_become_one_at_16_khz(tmp_path):
    path = recorded(tmp_path / "a.wav", tone(rate=44100), 44100, stereo=True)
    made = decode_sound(path).data
    assert abs(len(made) - 2 * RATE) <= 32
    middle = slice(RATE // 2, RATE)
    assert np.abs(made[middle] - tone()[middle]).max() < 0.01  # two equal channels mixed are as loud as one


def test_samples_are_taken_as_they_are_and_sealed():
    samples = tone(0.1)
    made = decode_sound(samples)
    assert np.array_equal(made.data, samples)
    assert decode_sound(made) is made
    assert decode_sound(samples.astype(np.float64)).sha256 == made.sha256 != decode_sound(samples[:-1]).sha256
    with pytest.raises(ValueError, match="read-only"):
        made.data[0] = 1
    samples[0] = 1
    assert made.data[0] == 0


@pytest.mark.parametrize(("samples", "code"), [
    (np.zeros(9, np.int16), "media-array"), (np.zeros((2, 9), np.float32), "media-array"),
    (np.full(9, np.nan, np.float32), "media-array"), (np.full(9, 2e4, np.float32), "media-array"),
    (np.zeros(0, np.float32), "media-empty"), ([0.0, 0.1], "media-unreadable"),
    (Media("image", np.zeros((1, 1, 3), np.uint8), (1, 1), ""), "media-unreadable"),
])  # fmt: skip
def test_what_are_no_samples_is_refused(samples, code):
    assert refused(samples).code == code


@pytest.mark.parametrize(("content", "words"), [
    (b"this is text", "text"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a picture"),
    (b"#EXTM3U\nhttp://a/b\n", "a playlist"),
    (b"", "empty"), (b"RIFF\x10\0\0\0WAVE" + b"\0" * 20, "cannot be read"),
])  # fmt: skip
def test_what_is_no_sound_is_named(tmp_path, content, words):
    (tmp_path / "a.wav").write_bytes(content)
    error = refused(tmp_path / "a.wav")
    assert error.code in ("media-unreadable", "media-empty", "media-truncated")
    assert words in error.message


def test_a_film_has_a_sound_or_says_that_it_has_none(tmp_path):
    assert abs(len(decode_sound(film(tmp_path / "a.mp4", 5, sound=True)).data) - RATE) < 0.1 * RATE
    error = refused(film(tmp_path / "b.mp4", 5))
    assert (error.code, "only pictures" in error.message) == ("media-unreadable", True)


@pytest.mark.parametrize("ending", ["wav", "flac", "m4a"])
def test_a_sound_that_ends_early_is_refused(tmp_path, ending):
    whole = recorded(tmp_path / f"a.{ending}", tone(4.0)).read_bytes()
    (tmp_path / f"b.{ending}").write_bytes(whole[: len(whole) // 2])
    assert refused(tmp_path / f"b.{ending}").code in ("media-truncated", "media-unreadable")


def test_length_size_and_places_are_limited(tmp_path):
    path = recorded(tmp_path / "a.wav", tone())
    for changes in ({"max_sound_seconds": 1.0}, {"max_film_bytes": 1000}):
        assert refused(path, limits=LIMITS.replace(**changes)).code == "media-too-large"
    assert refused(tone(), limits=LIMITS.replace(max_sound_seconds=1.0)).code == "media-too-large"
    assert refused("gone.wav", root=tmp_path).code == "media-missing"
    assert refused("../a.wav", root=tmp_path / "in").code == "media-refused"
    assert refused("http://127.0.0.1/a.wav").code == "media-refused"


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = recorded(tmp_path / "a.wav", tone())
    monkeypatch.setitem(sys.modules, "av", None)
    assert "eyespot[video]" in refused(path).remedy
    assert len(decode_sound(tone()).data) == 2 * RATE


def test_parts_of_a_conversation_in_every_spelling():
    data = base64.b64encode(b"x").decode()
    for part, source in (
        ({"type": "audio", "audio": "a.wav"}, "a.wav"),
        ({"type": "audio_url", "audio_url": {"url": "a.wav"}}, "a.wav"),
        ({"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}, f"data:audio/mp3;base64,{data}"),
    ):
        (message,) = read_messages([{"role": "user", "content": [part]}])
        assert message.parts == (MediaRef("audio", source),)
    for part in ({"type": "audio"}, {"type": "input_audio"}):
        with pytest.raises(EyespotError, match="needs a sound"):
            read_messages([{"role": "user", "content": [part]}])


def test_a_model_without_an_encoder_for_sounds_says_so():
    text = TextRule(template="{{ messages[0].content }}", image_token="<image>", image_token_id=1)
    processor = Processor(Contract(image=ImageRule(), text=text), words(["What?"], ["<unk>", "<image>"]))
    message = read_messages([{"role": "user", "content": [{"type": "audio", "audio": tone()}]}])
    with pytest.raises(EyespotError, match="takes pictures, not audio") as caught:
        processor.encode(message)
    assert caught.value.code == "not-supported"
