"""Which frames of a film are taken: counts, places, what a caller may ask, and the area that they share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.contract import Contract, FrameRule, ImageRule
from eyespot.errors import EyespotError
from eyespot.inputs.frames import choose_frames, sized, wanted_frames

ENDS, STEPS = FrameRule(), FrameRule(spacing="steps")


@pytest.mark.parametrize(("total", "rate", "count", "first"), [
    (300, 30.0, 20, [0, 16, 31, 47]),  # ten seconds: two a second
    (481, 24.0, 40, [0, 12, 25, 37]),
    (100, 29.97, 6, [0, 20, 40, 59]),
    (57000, 25.0, 768, [0, 74, 149, 223]),  # no more than the most
    (20, 30.0, 4, [0, 6, 13, 19]),  # no fewer than the least
    (3, 30.0, 2, [0, 2]),
    (1, 30.0, 1, [0]),
])  # fmt: skip
def test_published_lengths_give_published_frames(total, rate, count, first):
    chosen = choose_frames(total, rate, ENDS)
    assert len(chosen) == count
    assert chosen[:4].tolist() == first
    assert chosen[-1] == total - 1 or count == 1


def test_where_less_than_a_multiple_is_wanted_one_is_taken():
    assert choose_frames(10, 12.5, FrameRule(fps=0.5, min_frames=1, spacing="steps")).tolist() == [0, 5]


def test_in_steps_the_last_frame_is_not_reached():
    assert choose_frames(300, 30.0, STEPS)[[0, 1, -1]].tolist() == [0, 15, 285]


@pytest.mark.parametrize(("spacing", "total", "expected"), [
    ("ends_down", 100, [0, 14, 28, 42, 56, 70, 84, 99]),
    ("middles", 100, [6, 18, 31, 43, 56, 68, 81, 93]),
    ("segments", 100, [6, 18, 31, 43, 56, 68, 80, 93]),
    ("segments", 8, [0, 1, 2, 3, 4, 5, 6]),  # 4 twice
    ("ends_down", 3, [0, 1, 2]),
])  # fmt: skip
def test_a_fixed_number_of_frames_lies_as_the_authors_have_it(spacing, total, expected):
    rule = FrameRule(fps=None, min_frames=1, max_frames=8, multiple=1, spacing=spacing)
    assert choose_frames(total, 25.0, rule).tolist() == expected


SPACINGS = ["ends", "ends_double", "ends_down", "steps", "middles", "segments"]
rules = st.builds(
    FrameRule, fps=st.sampled_from([None, 0.5, 1.0, 2.0, 7.3]), min_frames=st.integers(1, 9),
    max_frames=st.integers(9, 800), multiple=st.integers(1, 4), spacing=st.sampled_from(SPACINGS),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(total=st.integers(1, 5000), rate=st.sampled_from([1.0, 12.5, 24.0, 30000 / 1001, 60.0]), rule=rules)
def test_frames_rise_exist_and_are_whole_multiples_up_to_the_most(total, rate, rule):
    chosen = choose_frames(total, rate, rule)
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < total
    assert len(chosen) <= rule.max_frames
    doubled = rule.spacing == "segments" and total < 2 * rule.max_frames  # frames that would come twice come once
    assert len(chosen) % rule.multiple == 0 or len(chosen) == total < rule.multiple or doubled


def test_a_caller_asks_for_a_rate_or_a_number():
    assert len(choose_frames(300, 30.0, wanted_frames(ENDS, {"fps": 1}))) == 10
    assert len(choose_frames(300, 30.0, wanted_frames(ENDS, {"num_frames": 7}))) == 8  # to whole multiples
    assert len(choose_frames(300, 30.0, wanted_frames(ENDS, {"max_frames": 6}))) == 6
    assert len(choose_frames(300, 30.0, wanted_frames(ENDS, {"max_frames": 2}))) == 2
    assert len(choose_frames(300, 30.0, wanted_frames(ENDS, {"min_frames": 31}))) == 32
    assert wanted_frames(ENDS, {"fps": None}) == ENDS


@pytest.mark.parametrize("asked", [
    {"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": float("inf")}, {"fps": "2"}, {"fps": True},
    {"num_frames": 0}, {"num_frames": 2.5}, {"fps": 1, "num_frames": 2}, {"min_frames": 9, "max_frames": 8},
    {"max_frames": 1},
])  # fmt: skip
def test_what_is_no_rate_or_number_is_refused(asked):
    with pytest.raises(EyespotError) as caught:
        wanted_frames(ENDS, asked)
    assert caught.value.code == "message-malformed"


@pytest.mark.parametrize("changes", [{"fps": 0.0}, {"min_frames": 0}, {"min_frames": 900}, {"multiple": 0}])
def test_a_rule_that_no_film_could_be_read_by_is_refused(changes):
    with pytest.raises(EyespotError, match="contract.frames"):
        FrameRule(**changes)


def test_many_frames_share_an_area_and_few_do_not():
    rule = ImageRule(resize="dynamic", min_pixels=1000, max_pixels=50_000, temporal_patch_size=2)
    frames = FrameRule(max_total_pixels=1_000_000)
    assert sized(rule, frames, 40) == rule
    assert sized(rule, frames, 100).max_pixels == 20_000
    assert sized(rule, frames, 10**6).max_pixels == 1050  # not below the least area and a little
    assert sized(rule, FrameRule(), 10**6) == sized(rule, None, 10**6) == rule


def test_the_rule_is_part_of_the_contracts_id_and_absent_leaves_it():
    assert Contract().id == Contract(frames=None).id
    assert len({Contract(frames=f).id for f in (None, ENDS, STEPS, ENDS.replace(max_frames=9))}) == 4


def test_a_rate_asked_of_a_rule_that_counts_is_not_cut_to_its_count():
    counted = FrameRule(fps=None, min_frames=1, max_frames=8, multiple=1, spacing="segments")
    assert len(choose_frames(1500, 25.0, wanted_frames(counted, {"fps": 1.0}))) == 60
    assert len(choose_frames(1500, 25.0, wanted_frames(counted, {"fps": 1.0, "max_frames": 9}))) == 9
    assert len(choose_frames(1500, 25.0, wanted_frames(counted, {"max_frames": 4}))) == 4
