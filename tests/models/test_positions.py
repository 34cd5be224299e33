"""Places of tokens: lines, grids, branches; the published examples and a slow oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.models.positions import Grid, positions
from eyespot.nn.rope import RopeConfig, rotary_tables


def test_a_picture_after_text_and_text_after_it():
    made = positions((12,), (-1,), grids=[Grid(4, (1, 2, 3))])
    assert made.tolist() == [
        [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7, 8],
        [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7, 8],
        [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8],
    ]


def test_two_pictures_with_text_between():
    made = positions((14,), (-1,), grids=[Grid(1, (1, 2, 2)), Grid(7, (1, 2, 3))])
    assert made[0].tolist() == [0, 1, 1, 1, 1, 3, 4, 5, 5, 5, 5, 5, 5, 8]


def test_times_are_spaced_and_rounded_down_and_what_follows_goes_on_behind_them():
    made = positions((8,), (-1,), grids=[Grid(2, (5, 1, 1), interval=2.5)])
    assert made[0].tolist() == [0, 1, 2, 4, 7, 9, 12, 13]


def test_text_alone_is_one_row():
    assert positions((3, 2), (-1, -1)).tolist() == [[0, 1, 2, 0, 1]]


def test_branches_go_on_behind_the_picture_of_their_prefix():
    made = positions((6, 2, 3), (-1, 0, 0), grids=[Grid(1, (1, 2, 2))])
    assert made[1].tolist() == [0, 1, 1, 2, 2, 3, 4, 5, 4, 5, 6]
    alone = positions((8,), (-1,), grids=[Grid(1, (1, 2, 2))])
    assert torch.equal(made[:, :8], alone)


def test_a_grid_across_two_segments_is_a_bug():
    with pytest.raises(AssertionError, match="cut"):
        positions((3, 3), (-1, -1), grids=[Grid(2, (1, 2, 1))])


def oracle(runs: list) -> list[list[int]]:
    """Token by token."""
    rows: list[list[int]] = [[], [], []]
    at = 0
    for run in runs:
        if isinstance(run, int):
            for _ in range(run):
                for row in rows:
                    row.append(at)
                at += 1
            continue
        (times, height, width), interval = run
        for t in range(times):
            for y in range(height):
                for x in range(width):
                    for row, value in zip(rows, (int(t * interval), y, x), strict=True):
                        row.append(at + value)
        at = max(map(max, rows)) + 1
    return rows


GRID = st.tuples(st.tuples(*[st.integers(1, 4)] * 3), st.sampled_from([0.5, 1.0, 2.0, 2.5]))


@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(0, 4), GRID), min_size=1, max_size=4), tail=st.integers(0, 3))
def test_any_row_is_what_counting_token_by_token_gives(runs, tail):
    grids, at, flat = [], 0, []
    for text, (size, interval) in runs:
        grids.append(Grid(at + text, size, interval))
        at += text + grids[-1].tokens
        flat += [text, (size, interval)]
    assert positions((at + tail,), (-1,), grids=grids).tolist() == oracle([*flat, tail])


@settings(max_examples=20, deadline=None)
@given(samples=st.lists(st.tuples(st.integers(0, 3), GRID, st.integers(0, 3)), min_size=1, max_size=4))
def test_samples_in_a_pack_have_the_places_that_they_have_alone(samples):
    lengths, grids, alone, at = [], [], [], 0
    for before, (size, interval), after in samples:
        grid = Grid(before, size, interval)
        lengths.append(before + grid.tokens + after)
        alone.append(positions((lengths[-1],), (-1,), grids=[grid]))
        grids.append(Grid(at + before, size, interval))
        at += lengths[-1]
    packed = positions(tuple(lengths), (-1,) * len(lengths), grids=grids)
    assert torch.equal(packed, torch.cat(alone, dim=1))


def test_sections_turn_with_their_own_axis():
    rope = RopeConfig(theta=1e6, sections=(2, 3, 3))
    places = torch.tensor([[5, 1], [7, 1], [2, 1]])
    cos, sin = rotary_tables(places, rope, 16, torch.float32)
    plain = [rotary_tables(places[i : i + 1], rope, 16, torch.float32)[0] for i in range(3)]
    for axis, band in ((0, slice(0, 2)), (1, slice(2, 5)), (2, slice(5, 8)), (0, slice(8, 10)), (2, slice(13, 16))):
        assert torch.equal(cos[:, band], plain[axis][:, band])
    assert torch.equal(cos[1], plain[0][1])
    assert sin.shape == (2, 16)


def test_axes_take_turns_until_each_has_its_share_and_the_first_has_the_rest():
    rope = RopeConfig(theta=1e6, sections=(4, 2, 2), interleaved=True)
    places = torch.tensor([[5, 1], [7, 1], [2, 1]])
    cos, _ = rotary_tables(places, rope, 16, torch.float32)
    plain = [rotary_tables(places[i : i + 1], rope, 16, torch.float32)[0] for i in range(3)]
    for i, axis in enumerate([0, 1, 2, 0, 1, 2, 0, 0] * 2):
        assert torch.equal(cos[:, i], plain[axis][:, i])
