"""Batches in an order that workers, stops and bad rows cannot change."""

import os
import signal
import time
from itertools import islice

import numpy as np
import pytest
from data_fakes import Counting, TinyProcessor, fingerprint, llava
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eyespot.data.loader import Loader
from eyespot.data.mixture import Mixture, open_mixture
from eyespot.data.sources import FileSource, open_source
from eyespot.errors import EyespotError


@pytest.fixture
def loader(pictures, write):
    """Makes a loader over a file of rows with pictures, and closes it in the end."""
    made = []

    def loader(rows=None, *, processor=None, seed=0, extra=(), shuffle=True, **options):
        rows = rows if rows is not None else [llava(i, answer="y" * (1 + i % 7)) for i in range(20)]
        parts = [(open_source(write(rows)), 3.0), *((source, 1.0) for source in extra)]
        mixture = Mixture(parts, seed, shuffle=shuffle)
        made.append(Loader(mixture, processor or TinyProcessor(), **{"batch_tokens": 64, **options}))
        return made[-1]

    yield loader
    for each in made:
        each.close()


def prints(loader, n):
    return [fingerprint(batch) for batch in islice(loader, n)]


def ids(loader, n):
    return [name for batch in islice(loader, n) for name in batch.sample_ids]


def test_batches_hold_whole_rows_in_order_with_their_pictures_and_answers(loader):
    batch = next(loader(shuffle=False))
    assert batch.sample_ids == ("id0", "id1", "id2")
    assert len(batch.input_ids) <= 64
    assert batch.media["vision"].counts == (3, 3, 3)
    learnt = batch.targets[batch.targets >= 0].tolist()
    assert learnt == [ord("y"), 301, ord("y"), ord("y"), 301, *[ord("y")] * 3, 301]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_no_byte(loader, workers):
    rows = [llava(i, answer="" if i == 7 else "y" * (1 + i % 7)) for i in range(20)]
    options = {"rows": rows, "extra": [open_source(Counting())], "max_dropped": 0.5}
    alone, many = loader(**options), loader(**options, workers=workers)
    assert prints(alone, 12) == prints(many, 12)
    assert alone.state() == many.state()


@given(stop=st.integers(0, 25), seed=st.integers(0, 3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resumed_loader_gives_the_batches_of_one_that_never_stopped(loader, stop, seed):
    rows = [llava(i, answer="" if i == 7 else "y" * (1 + i * 5 % 30)) for i in range(20)]
    options = {"rows": rows, "seed": seed, "extra": [open_source(Counting())], "max_dropped": 1.0}
    whole = loader(**options)
    prints(whole, stop)
    resumed = loader(**options)
    resumed.load_state(whole.state())
    assert prints(resumed, 4) == prints(whole, 4)
    assert resumed.state() == whole.state()


def test_a_resume_may_use_another_number_of_workers(loader):
    whole, resumed = loader(workers=2), loader(workers=0)
    prints(whole, 3)
    resumed.load_state(whole.state())
    assert prints(resumed, 5) == prints(whole, 5)


def test_a_loader_can_be_put_back_to_an_earlier_state(loader):
    one = loader(workers=1)
    state, first = one.state(), prints(one, 3)
    one.load_state(state)
    assert prints(one, 3) == first


def test_a_resume_on_changed_data_is_refused(loader):
    state = loader().state()
    with pytest.raises(EyespotError, match="data-changed"):
        loader([llava(i, answer="other") for i in range(20)]).load_state(state)


def test_the_state_never_counts_a_row_that_is_in_no_batch(loader):
    one = loader()
    for _ in range(5):
        names = ids(one, 1)
        assert names
    assert one.ledger.total.read == one.mixture.number == one.state()["mixture"]["number"]
    assert one.ledger.total.used == one.ledger.total.read


def bad_rows():
    """Twelve rows, five of them bad, one for each reason."""
    rows = [llava(i) for i in range(12)]
    rows[1]["image"] = "absent.png"
    rows[3]["conversations"][1]["value"] = " "
    rows[5]["image"] = ["5.png", "6.png"]
    rows[7]["image"] = "../outside.png"
    rows[9]["image"] = "text.png"
    return rows


def test_the_id_of_a_row_stands_once_in_an_error(loader):
    one = loader([llava(i, image="absent.png") for i in range(3)], shuffle=False)
    error = one._reader(one.mixture.copy().next()).error
    assert error.where.startswith("rows.jsonl:1, id id0")
    assert error.where.count("id0") == 1


def test_bad_rows_go_to_the_ledger_with_id_reason_and_line_and_the_others_train(loader, pictures):
    (pictures / "text.png").write_text("this is no picture")
    one = loader(bad_rows(), max_dropped=1.0)
    seen = ids(one, 8)
    assert set(seen) == {f"id{i}" for i in (0, 2, 4, 6, 8, 10, 11)}
    dropped = {row["id"]: row["code"] for row in one.ledger.to_dict()["rows"]}
    assert dropped == {
        "id1": "media-missing",
        "id3": "row-no-answer",
        "id5": "media-count",
        "id7": "media-refused",
        "id9": "media-unreadable",
    }
    assert {row["where"].partition(",")[0] for row in one.ledger.to_dict()["rows"]} == {
        f"rows.jsonl:{n}" for n in (2, 4, 6, 8, 10)
    }
    assert one.ledger.total.read == one.ledger.total.used + one.ledger.total.dropped.total()


def test_a_picture_outside_the_root_is_refused_with_the_key_that_allows_it(loader):
    rows = [llava(i, image="/etc/hostname") for i in range(2)]
    one = loader(rows, max_dropped=1.0)
    with pytest.raises(EyespotError, match="data-dropped"):
        next(one)
    refused = one._reader(one.mixture.copy().next()).error
    assert refused.code == "media-refused"
    assert "image_root" in str(refused)


def test_good_batches_are_those_of_the_same_rows_without_the_bad_ones(loader, pictures):
    (pictures / "text.png").write_text("this is no picture")
    rows = bad_rows()
    good = [row for i, row in enumerate(rows) if i not in (1, 3, 5, 7, 9)]
    with_bad = prints(loader(rows, shuffle=False, max_dropped=1.0), 6)
    assert with_bad == prints(loader(good, shuffle=False), 6)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_rows_stop_the_run_and_are_named(loader, pictures, workers):
    one = loader(bad_rows(), workers=workers)
    with pytest.raises(EyespotError, match="data-dropped") as caught:
        prints(one, 10)
    assert any(name in caught.value.message for name in ("id1", "id3", "id5", "id7", "id9"))


def test_only_bad_rows_stop_the_run_whatever_the_limit_is(loader):
    with pytest.raises(EyespotError, match="4 of 4 rows"):
        next(loader([llava(i, answer="") for i in range(4)], max_dropped=1.0))


def test_one_percent_of_bad_rows_is_survived_and_counted(loader):
    one = loader([llava(i, answer="" if i in (50, 150) else "yes") for i in range(200)])
    seen = ids(one, 150)
    assert len(set(seen)) == 198
    assert [row["id"] for row in sorted(one.ledger.to_dict()["rows"], key=lambda r: r["id"])] == ["id150", "id50"]


def test_a_row_with_an_answer_but_nothing_to_learn_stops_the_run_with_its_id(loader):
    one = loader(max_dropped=1.0, options={"mute": ("id4",)})
    with pytest.raises(EyespotError, match="row-unsupervised") as caught:
        prints(one, 20)
    assert caught.value.where == "rows.jsonl:5, id id4"


def test_truncation_that_leaves_nothing_to_learn_stops_the_run(loader):
    with pytest.raises(EyespotError, match=r"no token of it is learnt \(\d+ tokens were cut off\)"):
        next(loader(max_length=10))


def test_truncated_rows_are_counted_apart(loader):
    one = loader([llava(i, answer="yes" if i % 2 else "a long answer") for i in range(10)], max_length=20)
    ids(one, 20)
    total = one.ledger.total
    assert total.truncated > 0
    assert total.used > 0
    assert total.read == total.used + total.truncated


def test_a_sample_longer_than_a_batch_is_dropped_as_too_long(loader):
    rows = [llava(i, answer="y" * (200 if i == 3 else 2)) for i in range(10)]
    one = loader(rows, max_dropped=0.5)
    assert "id3" not in ids(one, 8)
    assert one.ledger.to_dict()["rows"][0]["code"] == "too-long"
    assert "batch_tokens" in one.ledger.to_dict()["rows"][0]["message"]


def test_epochs_are_counted(loader):
    one = loader([llava(i) for i in range(5)], batch_tokens=20)
    ids(one, 11)
    assert next(iter(one.ledger.to_dict()["sources"].values()))["epochs"] == 2


def test_repeated_ids_are_one_warning_over_all_epochs(loader):
    one = loader([llava(i % 6, image="0.png") for i in range(10)])
    assert len(ids(one, 15)) > 20
    assert len(one.ledger.warnings) == 1


def test_independent_turns_become_branches_of_the_picture(loader):
    turns = [
        {"from": "human", "value": "<image>\nA?"},
        {"from": "gpt", "value": "a"},
        {"from": "human", "value": "B?"},
        {"from": "gpt", "value": "b"},
    ]
    batch = next(loader([llava(i, conversations=turns, turns="independent") for i in range(3)], batch_tokens=11))
    assert batch.segments.parent == (-1, 0, 0)
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6]]


class Broken(TinyProcessor):
    """Has a bug, or dies, or hangs, at one row."""

    def __init__(self, how):
        self.how = how

    def encode_example(self, example, **options):
        if example.id == "id6":
            if self.how == "bug":
                raise RuntimeError("a bug")
            if self.how == "config":
                raise EyespotError("template-missing", "no template")
            if self.how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super().encode_example(example, **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_that_is_not_the_rows_own_stops_the_run(loader, workers):
    with pytest.raises(EyespotError, match="template-missing") as caught:
        prints(loader(processor=Broken("config"), workers=workers, max_dropped=1.0), 30)
    assert "id6" in caught.value.where


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_is_shown_as_it_is(loader, workers):
    with pytest.raises(RuntimeError, match="a bug"):
        prints(loader(processor=Broken("bug"), workers=workers), 30)


@pytest.mark.parametrize(("how", "timeout"), [("die", 60), ("hang", 1)])
def test_a_worker_that_dies_or_hangs_is_a_clear_error_within_seconds(loader, how, timeout):
    began = time.monotonic()
    with pytest.raises(EyespotError, match="data-worker") as caught:
        prints(loader(processor=Broken(how), workers=2, timeout_s=timeout), 30)
    assert time.monotonic() - began < 15
    assert "waiting for rows.jsonl:" in caught.value.where


def test_kept_samples_are_read_once_and_change_no_byte(loader, monkeypatch):
    reads = []
    read = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, i: reads.append(i) or read(self, i))
    rows = [llava(i, answer="y" * (1 + i % 7)) for i in range(7)]
    plain = prints(loader(rows), 12)
    reads.clear()
    kept = loader(rows, keep_bytes=10**6)
    assert prints(kept, 12) == plain
    assert len(reads) == 7 < kept.ledger.total.read
    reads.clear()
    small = loader(rows, keep_bytes=600)  # a cache that is full keeps what it has
    assert prints(small, 12) == plain
    assert 7 < len(reads) < small.ledger.total.read


def test_the_wait_for_data_is_measured(loader):
    class Slow(TinyProcessor):
        def encode_example(self, example, **options):
            time.sleep(0.01)
            return super().encode_example(example, **options)

    one = loader(processor=Slow())
    next(one)
    waited = one.data_wait
    assert waited >= 0.03
    time.sleep(0.05)
    assert one.data_wait == waited


def test_the_global_random_state_is_untouched(loader):
    import torch

    before = torch.get_rng_state().clone(), np.random.get_state()[2]  # noqa: NPY002
    prints(loader(workers=1), 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[2] == before[1]  # noqa: NPY002


def test_a_mixture_opened_by_names_feeds_a_loader(pictures, write):
    path = write([llava(i) for i in range(4)])
    loader = Loader(open_mixture([f"{path}*1", (Counting(), 1.0)], seed=1), TinyProcessor(), batch_tokens=50)
    assert {name[:2] for name in ids(loader, 10)} == {"id", "tr"}
