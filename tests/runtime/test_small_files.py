"""Small files are read whole, up to the limit; what is wrong with them names the file."""

import os
import threading

import pytest

from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS
from eyespot.runtime.small_files import read_bytes, read_json, read_text

FOUR = LIMITS.replace(max_config_bytes=4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.json"


def test_a_file_of_the_limit_is_read_and_one_of_a_byte_more_is_not(path):
    path.write_bytes(b"1234")
    assert read_json(path, FOUR) == 1234
    path.write_bytes(b"12345")
    with pytest.raises(EyespotError, match="5 bytes, at most 4") as caught:
        read_json(path, FOUR)
    assert (caught.value.code, caught.value.where) == ("checkpoint-too-large", str(path))


def test_what_states_no_size_is_not_read_beyond_the_limit(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"12345",))
    writer.start()
    with pytest.raises(EyespotError, match="at most 4"):
        read_bytes(pipe, FOUR)
    writer.join()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(EyespotError) as caught:
        read_json(path)
    assert (caught.value.code, caught.value.where) == ("checkpoint-corrupt", str(path))


def test_a_file_that_is_not_there_is_named(path):
    with pytest.raises(EyespotError) as caught:
        read_bytes(path)
    assert (caught.value.code, caught.value.where) == ("checkpoint-corrupt", str(path))


def test_ends_of_line_are_read_as_python_reads_them(path):
    path.write_bytes(b"a\r\nb\rc\n")
    assert read_text(path) == path.read_text(encoding="utf-8") == "a\nb\nc\n"
