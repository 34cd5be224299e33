"""Every row that was read is accounted for, and a run that loses too many stops."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.data.ledger import Ledger
from eyespot.errors import EyespotError

EVENTS = ("used", "truncated", "media-missing", "row-no-answer")


def bad(name, code="media-missing"):
    return EyespotError(code, "no such file", where=f"rows.jsonl:{name}, id {name}")


def record(ledger, event, name="x", source="a"):
    if event in ("used", "truncated"):
        ledger.used(source, truncated=event == "truncated")
    else:
        ledger.dropped(source, str(name), bad(name, event))


def lost(ledger):
    """Whether the ledger stops the run."""
    try:
        ledger.check(0.01)
    except EyespotError as error:
        assert error.code == "data-dropped"
        return True
    return False


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from("ab")), max_size=40))
@settings(max_examples=50, deadline=None)
def test_used_truncated_and_dropped_are_always_what_was_read(events):
    ledger = Ledger()
    for i, (event, source) in enumerate(events):
        record(ledger, event, i, source)
    facts = ledger.to_dict()
    assert facts["read"] == len(events) == facts["used"] + facts["truncated"] + sum(facts["dropped"].values())
    for name, count in facts["sources"].items():
        assert count["read"] == sum(s == name for _, s in events)
    assert len(facts["rows"]) == sum(facts["dropped"].values())
    again = Ledger()
    again.load_state(facts)
    assert again.to_dict() == facts


@pytest.mark.parametrize(("rows", "allowed"), [(10, 0), (100, 1), (1000, 10)])
def test_a_share_is_judged_against_a_whole_epoch_wherever_the_bad_rows_stand(rows, allowed):
    ledger = Ledger({"a": rows})
    for i in range(allowed):
        record(ledger, "media-missing", i)
        assert not lost(ledger)
    record(ledger, "media-missing", allowed)
    assert lost(ledger)


@pytest.mark.parametrize("order", [1, -1])
def test_exactly_the_allowed_share_is_no_error_in_any_epoch_and_one_more_is(order):
    ledger = Ledger({"a": 500})
    events = ["used"] * 495 + ["media-missing"] * 5
    for i, event in enumerate([*events[::order]] * 3):
        record(ledger, event, i)
        assert not lost(ledger)
    ledger.check(0.01, final=True)
    for i in range(6):
        record(ledger, "media-missing", i)
    assert lost(ledger)


@pytest.mark.parametrize(("length", "every", "before"), [(1_000_000, 1, 20), (1_000_000, 20, 700), (None, 20, 700)])
def test_a_share_far_beyond_the_limit_stops_long_before_the_epoch_ends(length, every, before):
    ledger = Ledger({"a": length})
    for i in range(before):
        record(ledger, "used" if i % every else "media-missing", i)
    assert lost(ledger)


def test_a_share_below_the_limit_stops_nothing_by_chance():
    for seed in range(10):
        ledger = Ledger({"a": 100_000})
        for i, bad_row in enumerate(np.random.default_rng(seed).random(2000) < 0.009):
            record(ledger, "media-missing" if bad_row else "used", i)
            assert not (bad_row and lost(ledger))


@pytest.mark.parametrize("length", [5000, None])
def test_at_the_end_of_a_run_the_rows_that_were_read_count(length):
    ledger = Ledger({"a": length})
    for i in range(200):
        record(ledger, "media-missing" if i < 3 else "used", i)
    assert not lost(ledger)
    with pytest.raises(EyespotError, match="3 of 200 rows"):
        ledger.check(0.01, final=True)


def test_one_bad_row_among_the_few_of_a_short_run_is_no_error_but_among_the_few_of_a_short_file_it_is():
    for length, stops in ((5000, False), (50, True)):
        ledger = Ledger({"a": length})
        for i in range(20):
            record(ledger, "used" if i else "media-missing", i)
        try:
            ledger.check(0.01, final=True)
            assert not stops
        except EyespotError:
            assert stops


def test_the_error_names_rows_and_reasons_and_the_source_on_one_line():
    ledger = Ledger({"a": 10})
    record(ledger, "media-missing", "id7")
    with pytest.raises(EyespotError) as caught:
        ledger.check(0.01)
    assert "rows.jsonl:id7, id id7: no such file (media-missing)" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.where == "a"


def test_many_dropped_rows_are_counted_in_full_and_named_in_part():
    ledger = Ledger()
    for i in range(1500):
        record(ledger, "media-missing", i)
    assert ledger.to_dict()["dropped"] == {"media-missing": 1500}
    assert len(ledger.to_dict()["rows"]) == 1000


def test_a_row_dropped_in_each_epoch_is_named_once_with_its_times():
    ledger = Ledger()
    for _ in range(3):
        record(ledger, "media-missing", "id7")
    assert [row["times"] for row in ledger.to_dict()["rows"]] == [3]


def test_repeated_ids_are_one_warning_and_a_row_read_again_is_none(caplog):
    ledger = Ledger()
    with caplog.at_level(logging.WARNING):
        for row, name in enumerate("abab"):
            ledger.seen("s", name, row)
        ledger.seen("s", "a", 0)
    assert len(ledger.warnings) == len(caplog.records) == 1
    fresh = Ledger()
    fresh.seen("s", "a", 0)
    fresh.seen("s", "a", 0)
    assert fresh.warnings == []


def test_it_prints_as_one_sum():
    ledger = Ledger()
    for event in EVENTS:
        record(ledger, event)
    assert str(ledger) == "4 read = 1 used + 1 truncated + 2 dropped (1 media-missing, 1 row-no-answer)"
