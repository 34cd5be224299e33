"""Data files: any row at any time, and each bad line named."""

import hashlib
import json

import pytest

from eyespot.data.rows import index_rows
from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS

GOOD = b'{"a": 1}'


def read(path):
    """Each row, or the error it gives."""
    rows = index_rows(path, LIMITS.replace(max_row_bytes=200))

    def one(i):
        try:
            return rows.read(i)
        except EyespotError as error:
            return error

    return [one(i) for i in range(len(rows))]


@pytest.fixture
def lines(tmp_path):
    def lines(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return lines


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"a": ', "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "' + b"x" * 300 + b'"}', "the row has 310 bytes"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
        (b"[" * 100_000, "bytes"),
        (b'{"a": ' + b"9" * 150 + b"}", None),
        (b'"a', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        ("{'a': 1}".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_bad_line_costs_that_line_and_is_named(lines, bad, why):
    found = read(lines(GOOD + b"\n" + bad + b"\n" + GOOD))
    assert found[0] == found[-1] == {"a": 1}
    if why:
        assert found[1].code == "row-malformed"
        assert why in found[1].message
        assert found[1].where == "rows.jsonl:2"


def test_a_deeply_nested_row_is_malformed_and_no_crash(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_bytes(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n" + GOOD)
    rows = index_rows(path)
    with pytest.raises(EyespotError, match="row-malformed"):
        rows.read(0)
    assert rows.read(1) == {"a": 1}


def test_bom_crlf_blank_lines_and_a_missing_last_newline_are_no_faults(lines):
    path = lines(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \n" + '{"a": "한"}'.encode() + b"\r\n" + GOOD)
    assert read(path) == [{"a": 1}, {"a": "한"}, {"a": 1}]
    assert [index_rows(path).where(i) for i in range(3)] == ["rows.jsonl:1", "rows.jsonl:4", "rows.jsonl:5"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_json_list_gives_its_elements_with_their_lines(lines, indent, mark):
    rows = [{"a": 1}, {"a": "한\u2028글"}, {"b": [1, {"c": 2}]}]
    path = lines(mark + json.dumps(rows, indent=indent, ensure_ascii=False).encode(), "rows.json")
    assert read(path) == rows
    assert [index_rows(path).where(i) for i in range(2)] == (
        ["rows.json:2", "rows.json:5"] if indent else ["rows.json:1"] * 2
    )


def test_a_bad_element_of_a_list_costs_that_element(lines):
    path = lines(b'[{"a": 1},\n{"a": NaN},\n{"a": 1, "a": 1},\n{"a": "\xff"},\n{"a": 5}]', "rows.json")
    found = read(path)
    assert (found[0], found[4]) == ({"a": 1}, {"a": 5})
    assert [e.where for e in found[1:4]] == ["rows.json:2", "rows.json:3", "rows.json:4"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'[{"a": 1},\n{"a": ]', 2),
        (b'[{"a": 1},\n{"a": 2}', 2),
        (b'[{"a": 1}\n{"a": 2}]', 2),
        (b"[{}] x", 1),
        (b"[1,]", 1),
    ],
)
def test_a_list_that_is_broken_as_a_whole_stops_and_names_the_line(lines, content, line):
    with pytest.raises(EyespotError, match="data-unreadable") as caught:
        index_rows(lines(content, "rows.json"))
    assert caught.value.where.endswith(f"rows.json:{line}")


def test_lines_under_the_name_json_are_read_as_lines(lines):
    assert read(lines(GOOD + b"\n" + GOOD, "rows.json")) == [{"a": 1}, {"a": 1}]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("rows.csv", b"a", "data-unknown-format"),
        ("rows.jsonl", b"\n \n", "data-empty"),
        ("rows.json", b"[]", "data-empty"),
    ],
)
def test_what_is_no_data_file_is_refused(lines, name, content, code):
    with pytest.raises(EyespotError, match=code):
        index_rows(lines(content, name))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(EyespotError) as caught:
            index_rows(path)
        assert str(path) in caught.value.where


def test_the_hash_is_that_of_the_file(lines):
    for name, content in (("rows.jsonl", GOOD + b"\n" + b"x" * 3000 + b"\n"), ("rows.json", b"[" + GOOD + b"]")):
        path = lines(content, name)
        assert index_rows(path, LIMITS.replace(max_row_bytes=100)).sha256 == hashlib.sha256(content).hexdigest()
