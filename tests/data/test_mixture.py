"""Which row comes next: by weight, without loss within an epoch, and the same after a resume."""

import pytest
from data_fakes import Counting, llava
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.data.mixture import Mixture, open_mixture
from eyespot.data.sources import open_source
from eyespot.errors import EyespotError


def source(n, name="rows"):
    return open_source([llava(i) for i in range(n)], name=name)


def take(mixture, n):
    return [mixture.next() for _ in range(n)]


def test_an_epoch_loses_and_doubles_no_row_and_the_next_is_shuffled_anew():
    picks = take(Mixture([(source(7), None)], seed=3), 21)
    epochs = [[p.row for p in picks[i : i + 7]] for i in (0, 7, 14)]
    assert all(sorted(rows) == list(range(7)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3
    assert [p.number for p in picks if p.last] == [6, 13, 20]


def test_every_source_of_a_mixture_keeps_its_own_epochs():
    mixture = Mixture([(source(5, "a"), 1), (source(3, "b"), 2), (open_source(Counting()), 1)], seed=0)
    picks = take(mixture, 400)
    for which, length in ((0, 5), (1, 3)):
        rows = [p.row for p in picks if p.source == which]
        assert all(sorted(rows[i : i + length]) == list(range(length)) for i in range(0, len(rows) - length, length))
        assert mixture.epochs[which] == len(rows) // length
    assert [p.row for p in picks if p.source == 2] == list(range(sum(p.source == 2 for p in picks)))


def test_weights_are_shares_of_rows_and_by_default_follow_the_sizes():
    weighted = take(Mixture([(source(5), 3), (source(50), 1)], seed=1), 4000)
    assert sum(p.source == 0 for p in weighted) / 4000 == pytest.approx(0.75, abs=0.03)
    sized = take(Mixture([(source(5), None), (source(15), None)], seed=1), 4000)
    assert sum(p.source == 0 for p in sized) / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_seed_alone_makes_the_order():
    orders = {seed: [take(Mixture([(source(9), 1), (source(4), 1)], seed), 50) for _ in range(2)] for seed in (0, 1)}
    assert orders[0][0] == orders[0][1]
    assert orders[0][0] != orders[1][0]


def test_without_shuffle_rows_come_in_their_own_order():
    assert [p.row for p in take(Mixture([(source(3), None)], shuffle=False), 5)] == [0, 1, 2, 0, 1]


@given(stop=st.integers(0, 2500), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_resumed_order_goes_on_where_it_stopped(stop, seed):
    parts = [(source(5, "a"), 1), (source(700, "b"), 3), (open_source(Counting()), 1)]
    whole, resumed = Mixture(parts, seed), Mixture(parts, seed)
    take(whole, stop)
    resumed.load_state(whole.state())
    assert take(resumed, 30) == take(whole.copy(), 30) == take(whole, 30)


def test_a_state_of_other_data_weights_or_seed_is_refused():
    state = Mixture([(source(5), 1)], seed=0).state()
    for other in (Mixture([(source(6), 1)]), Mixture([(source(5), 2)]), Mixture([(source(5), 1)], seed=1)):
        with pytest.raises(EyespotError, match="data-changed"):
            other.load_state(state)
    with pytest.raises(EyespotError, match="began with 1 sources, not 2"):
        Mixture([(source(5), 1), (source(5), 1)]).load_state(state)


def test_sources_are_opened_from_what_a_user_names(pictures, write):
    path = write([llava(i) for i in range(4)])
    mixture = open_mixture([f"{path}*3", (Counting(), 2), path], seed=5)
    assert mixture.weights == (3.0, 2.0, 4.0)
    assert mixture.rows is None
    assert mixture.sources[1].seed == 5


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_is_refused(weight):
    with pytest.raises(EyespotError, match="a weight is above 0"):
        Mixture([(source(3), weight)])


def test_a_mixture_needs_a_source_and_an_endless_one_beside_others_a_weight():
    with pytest.raises(EyespotError, match="at least one source"):
        Mixture([])
    with pytest.raises(EyespotError, match="endless source beside others needs one"):
        Mixture([(source(3), None), (open_source(Counting()), None)])
    with pytest.raises(EyespotError, match="SOURCE\\*WEIGHT needs a number"):
        open_mixture(["rows.jsonl*x"])
