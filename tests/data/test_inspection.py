"""Every row read and its pictures opened, each fault with id, line and file."""

import pytest
from data_fakes import Counting, llava

from eyespot.data.inspection import inspect_rows
from eyespot.data.sources import open_source
from tests.films import film

FILMS = {"good": None, "text": "media-unreadable", "short": "media-truncated", "gone": "media-missing"}


@pytest.fixture
def source(pictures, write):
    """Six rows, three of them bad."""
    (pictures / "text.png").write_text("this is no picture")
    rows = [llava(i) for i in range(6)]
    rows[1]["image"] = "absent.png"
    rows[2]["image"] = "text.png"
    rows[4]["conversations"].append({"from": "gpt", "value": "again"})
    return open_source(write(rows))


@pytest.mark.parametrize("encoded", [False, True])
def test_each_bad_row_is_found_and_named(source, processor, encoded):
    reports = list(inspect_rows(source, processor if encoded else None))
    assert [r.where for r in reports] == [f"rows.jsonl:{i}" for i in range(1, 7)]
    assert {r.id: r.error.code for r in reports if r.error} == {
        "id1": "media-missing",
        "id2": "media-unreadable",
        "id4": "row-malformed",
    }
    assert all(r.where in r.error.where for r in reports if r.error)


def test_the_file_that_cannot_be_opened_is_named(source):
    error = list(inspect_rows(source))[1].error
    assert "absent.png" in str(error)


def test_videos_are_read_to_their_last_wanted_frame(pictures, write):
    film(pictures / "good.mp4", 8)
    (pictures / "text.mp4").write_text("this is no video")
    whole = (pictures / "good.mp4").read_bytes()
    (pictures / "short.mp4").write_bytes(whole[: len(whole) // 2])
    rows = [{"id": n, "video": f"{n}.mp4", "conversations": llava(0)["conversations"]} for n in FILMS]
    reports = list(inspect_rows(open_source(write(rows))))
    assert {r.id: r.error and r.error.code for r in reports} == FILMS
    assert "video 1" in reports[1].error.where


def test_a_row_that_teaches_nothing_is_a_fault_where_a_processor_is_given(source, processor):
    reports = list(inspect_rows(source, processor, mute=("id0",)))
    assert reports[0].error.code == "row-unsupervised"


def test_an_endless_source_is_read_as_far_as_asked():
    reports = list(inspect_rows(open_source(Counting()), rows=3))
    assert [(r.id, r.turns, r.images) for r in reports] == [(f"world:counting:train[{i}]", 2, 0) for i in range(3)]
