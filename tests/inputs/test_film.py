"""Video files: what they hold, frames by jumping as by reading on, and every broken file refused by what is wrong."""

import sys

import av
import numpy as np
import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.containers import container_of, looks_like_video
from eyespot.inputs.film import Film
from eyespot.inputs.video import open_film
from eyespot.runtime.limits import LIMITS
from tests.films import film, frame, sound_only

WANTED = [0, 3, 20, 21, 40, 49]
ENDINGS = ("mp4", "mov", "mkv", "webm", "avi", "ts", "flv", "gif")


def refused(path, **options) -> EyespotError:
    with pytest.raises(EyespotError) as caught, open_film(path, **options):
        pass
    return caught.value


@pytest.fixture(scope="module", params=ENDINGS)
def made(request, tmp_path_factory):
    return film(tmp_path_factory.mktemp("films") / f"a.{request.param}", 50)


def test_facts_and_frames_are_those_of_decoding_everything(made):
    with av.open(str(made)) as container:
        every = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    with open_film(made) as opened:
        assert (opened.count, opened.size, opened.seconds) == (50, (64, 48), pytest.approx(5.0))
        for jump in (True, False):
            got = list(opened.frames(WANTED, jump=jump))
            assert [p.seconds for p in got] == pytest.approx([i / 10 for i in WANTED])
            for index, picture in zip(WANTED, got, strict=True):
                assert np.array_equal(picture.pixels, every[index]), (index, jump)


def test_a_jump_saves_decoding(tmp_path, monkeypatch):
    decoded = []
    own = Film._decoded

    def counted(self, key=None):
        for picture in own(self, key):
            decoded.append(picture.pts)
            yield picture

    monkeypatch.setattr(Film, "_decoded", counted)
    with open_film(film(tmp_path / "a.mp4", 200)) as opened:
        decoded.clear()
        list(opened.frames([0, 190]))
    assert len(decoded) < 20


def test_a_container_that_lands_elsewhere_is_read_on_instead(tmp_path, monkeypatch):
    made = film(tmp_path / "a.mp4", 50)
    own = Film._decoded
    monkeypatch.setattr(Film, "_decoded", lambda self, key=None: own(self, None if key is None else self.shown[-1]))
    with open_film(made) as opened:
        got = [p.pixels for p in opened.frames([0, 20, 30])]
        monkeypatch.undo()
        assert all(np.array_equal(a, b.pixels) for a, b in zip(got, opened.frames([0, 20, 30]), strict=True))


def test_exact_codecs_give_the_very_frames(tmp_path):
    with open_film(film(tmp_path / "a.mkv", 8, codec="exact")) as opened:
        assert all(np.array_equal(p.pixels, frame(i)) for i, p in enumerate(opened.frames(range(8))))


def test_frames_of_uneven_times_keep_them(tmp_path):
    with open_film(film(tmp_path / "a.mp4", 5, times=[0, 1, 5, 6, 20])) as opened:
        assert [p.seconds for p in opened.frames(range(5))] == pytest.approx([0, 0.1, 0.5, 0.6, 2.0])


def test_a_film_that_lies_on_its_side_is_set_upright(tmp_path):
    path = film(tmp_path / "a.mp4", [frame(i, 32, 64) for i in range(3)])
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track's header
    turned = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30))
    path.write_bytes(data[:at] + turned + data[at + 36 :])
    with open_film(path, upright=False) as lying, open_film(path) as standing:
        a, b = (next(iter(f.frames([1]))).pixels for f in (lying, standing))
        assert (lying.size, standing.size) == ((64, 32), (32, 64))
        assert np.array_equal(b, np.rot90(a, -1))  # a quarter turn with the clock, as players show it


def test_a_file_without_video_says_what_it_holds(tmp_path):
    error = refused(sound_only(tmp_path / "a.mp4"))
    assert error.code == "media-unreadable"
    assert "only sound" in error.message


def test_sound_beside_the_frames_changes_nothing(tmp_path):
    with open_film(film(tmp_path / "a.mp4", 12, sound=True)) as opened:
        assert opened.count == len(list(opened.frames(range(12)))) == 12


def test_a_video_without_frames_is_empty(tmp_path):
    for ending in ("mkv", "avi", "flv", "ts"):
        assert refused(film(tmp_path / f"a.{ending}", 0)).code == "media-empty", ending
    assert "no video" in refused(film(tmp_path / "a.mp4", 0)).message
    (tmp_path / "b.mp4").write_bytes(b"")
    assert refused(tmp_path / "b.mp4").code == "media-empty"


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "webm", "ts", "flv"])
@pytest.mark.parametrize("kept", [0.97, 0.6, 0.2, 0.02])
def test_a_film_that_ends_early_is_refused_or_counts_what_is_there(tmp_path, ending, kept):
    whole = film(tmp_path / f"a.{ending}", [frame(i, 96, 128) for i in range(40)]).read_bytes()
    (tmp_path / f"b.{ending}").write_bytes(whole[: int(len(whole) * kept)])
    if ending in ("ts", "flv"):  # streams state no length
        try:
            with open_film(tmp_path / f"b.{ending}") as opened:
                assert opened.count <= 40 * kept + 2
        except EyespotError as error:
            assert error.code.startswith("media-")
        return
    assert refused(tmp_path / f"b.{ending}").code == "media-truncated"


def test_a_film_written_for_streaming_that_ends_early_is_truncated(tmp_path):
    whole = film(tmp_path / "a.mp4", 40, options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[:-200])
    assert refused(tmp_path / "b.mp4").code == "media-truncated"


@pytest.mark.parametrize(("content", "words"), [
    (b"hello, this is text", "text"),
    (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", "a playlist"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a picture"),
    (b"ID3\x04" + b"\0" * 40, "a sound"),
    (b"<!DOCTYPE html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "text"),
    (b"\x01\x02\x03" * 20, "no MP4"),
])  # fmt: skip
def test_what_is_no_video_is_named(tmp_path, content, words):
    (tmp_path / "a.mp4").write_bytes(content)
    error = refused(tmp_path / "a.mp4")
    assert (error.code, words in error.message) == ("media-unreadable", True)


def test_noise_behind_the_first_bytes_of_a_video_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    for name, head in {"a.mp4": b"\0\0\0\x18ftypisom", "a.mkv": b"\x1aE\xdf\xa3", "a.ts": b""}.items():
        path = tmp_path / name
        path.write_bytes(head + noise)
        assert refused(path).code in ("media-unreadable", "media-truncated")


def test_a_film_is_opened_by_the_rules_of_every_medium(tmp_path):
    assert refused("no.mp4", root=tmp_path).code == "media-missing"
    assert refused(tmp_path).code == "media-refused"
    assert refused("../a.mp4", root=tmp_path / "in").code == "media-refused"
    assert refused("http://127.0.0.1/a.mp4").code == "media-refused"
    assert refused("concat:a.mp4|b.mp4", root=tmp_path).code == "media-missing"
    assert refused("rtsp://example.com/a").code == "media-refused"
    error = refused("data:image/png;base64,AAAA")
    assert (error.code, "video" in error.message) == ("media-refused", True)


def test_a_film_may_be_bytes_or_a_data_url(tmp_path):
    import base64

    data = film(tmp_path / "a.mp4", 5).read_bytes()
    for source in (data, "data:video/mp4;base64," + base64.b64encode(data).decode()):
        with open_film(source) as opened:
            assert opened.count == 5


@pytest.mark.parametrize("changes", [
    {"max_film_bytes": 1000}, {"max_film_frames": 20}, {"max_film_seconds": 2.0}, {"max_pixels": 3000},
])  # fmt: skip
def test_size_length_and_number_of_frames_are_limited(tmp_path, changes):
    error = refused(film(tmp_path / "a.mp4", 25), limits=LIMITS.replace(**changes))
    assert error.code == "media-too-large"


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4", 5)
    monkeypatch.setitem(sys.modules, "av", None)
    error = refused(path)
    assert (error.code, "eyespot[video]" in error.remedy) == ("extra-missing", True)


def test_a_container_is_known_by_its_first_bytes(made):
    with made.open("rb") as file:
        assert looks_like_video(file) == (made.suffix != ".gif")
        known = {"mp4": "mov", "mov": "mov", "mkv": "matroska", "webm": "matroska", "ts": "mpegts"}
        assert container_of(file, "") == known.get(made.suffix[1:], made.suffix[1:])
        assert file.tell() == 0
