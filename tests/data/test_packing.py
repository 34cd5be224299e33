"""A packed batch is the concatenation of its samples' own batches, and targets are shifted once, here."""

import numpy as np
import pytest
import torch
from data_fakes import same
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.data.packing import Packer, media_batch, pack, shift
from eyespot.errors import EyespotError


@st.composite
def plans(draw):
    """What a sample is made of: a tree of segments, weights, media whose slots lie anywhere."""
    count = draw(st.integers(1, 4))
    lengths = [draw(st.integers(1, 5)) for _ in range(count)]
    total = sum(lengths)
    return {
        "lengths": lengths,
        "parent": [-1] + [draw(st.integers(-1, i)) for i in range(count - 1)],
        "ids": draw(st.lists(st.integers(0, 50), min_size=total, max_size=total)),
        "weight": draw(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=total, max_size=total)),
        "media": draw(
            st.lists(st.tuples(st.sets(st.integers(0, total - 1), max_size=3), st.integers(1, 2)), max_size=2)
        ),
    }


def build(plan, name="s"):
    """The sample; a branch begins with a token that is not learnt."""
    weight = np.array(plan["weight"], dtype=np.float32)
    for start, parent in zip(np.cumsum([0, *plan["lengths"]]), plan["parent"], strict=False):
        weight[start] = 0.0 if parent >= 0 else weight[start]
    media = tuple(
        EncodedMedia(
            "image",
            np.full((2 * tiles, 3), len(slots), dtype=np.float32),
            np.array([[1, 1, 2]] * tiles, dtype=np.int64),
            np.array(sorted(slots), dtype=np.int64),
            (4, 4),
            (4, 4),
            f"{name}{i}",
        )
        for i, (slots, tiles) in enumerate(plan["media"])
    )
    ids = np.array(plan["ids"], dtype=np.int64)
    return Encoded(name, "src", ids, weight, lengths=tuple(plan["lengths"]), parent=tuple(plan["parent"]), media=media)


@given(st.lists(plans(), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_packed_batch_is_the_concatenation_of_single_batches(given_plans):
    samples = [build(plan, f"s{i}") for i, plan in enumerate(given_plans)]
    packed, singles = pack(samples), [pack([s]) for s in samples]
    for name in ("input_ids", "position_ids", "targets", "loss_weight"):
        assert torch.equal(getattr(packed, name), torch.cat([getattr(b, name) for b in singles], dim=-1))
    assert packed.segments.q_lens == sum((b.segments.q_lens for b in singles), ())
    assert packed.sample_ids == sum((b.sample_ids for b in singles), ())
    segment = token = 0
    parents, owners, slots, patches, counts = [], [], [], [], []
    for i, single in enumerate(singles):
        parents += [p + segment if p >= 0 else -1 for p in single.segments.parent]
        owners += [i] * len(single.segments.q_lens)
        if "vision" in single.media:
            slots += [s + token for s in single.media["vision"].slots.tolist()]
            patches.append(single.media["vision"].patches)
            counts += single.media["vision"].counts
        segment, token = segment + len(single.segments.q_lens), token + len(single.input_ids)
    assert packed.segments.parent == tuple(parents)
    assert packed.owners == tuple(owners)
    assert ("vision" in packed.media) == bool(patches)
    if patches:
        media = packed.media["vision"]
        assert media.slots.tolist() == slots
        assert list(media.counts) == counts
        assert torch.equal(media.patches, torch.cat(patches))
        assert sum(media.rows) == len(media.grid_thw)


@given(plans())
@settings(max_examples=50, deadline=None)
def test_each_position_predicts_the_next_token_of_its_own_segment_or_nothing(plan):
    sample = build(plan)
    targets, weight = shift(sample)
    start = 0
    for length in sample.lengths:
        for t in range(start, start + length):
            nxt = t + 1 if t + 1 < start + length else None
            learnt = float(sample.loss_weight[nxt]) if nxt is not None else 0.0
            assert weight[t] == learnt
            assert targets[t] == (sample.input_ids[nxt] if learnt else -1)
        start += length


def tree(weights):
    ids = np.arange(len(weights), dtype=np.int64)
    return Encoded("t", "s", ids, np.array(weights, dtype=np.float32), lengths=(2, 2, 2), parent=(-1, 0, 0))


def test_the_prefix_predicts_no_branch_and_positions_go_on_from_it():
    batch = pack([tree([0, 0, 0, 1, 0, 1])])
    assert batch.targets.tolist() == [-1, -1, 3, -1, 5, -1]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2, 3]]
    assert batch.segments.parent == (-1, 0, 0)


def test_a_branch_that_begins_with_a_learnt_token_is_refused():
    with pytest.raises(AssertionError, match="a branch begins with a token that is to be learnt"):
        pack([tree([0, 0, 1, 1, 0, 1])])


def test_nothing_is_learnt_across_the_border_of_two_samples():
    one = Encoded("a", "s", np.array([1, 2], dtype=np.int64), np.ones(2, dtype=np.float32))
    assert pack([one, one]).targets.tolist() == [2, -1, 2, -1]


def test_a_batch_does_not_share_memory_with_its_samples():
    one = Encoded("a", "s", np.array([1, 2], dtype=np.int64), np.ones(2, dtype=np.float32))
    pack([one]).input_ids[0] = 9
    assert one.input_ids[0] == 1


def test_a_text_only_batch_has_no_media_and_a_medium_without_slots_is_kept():
    grid, none = np.array([[1, 1, 2]], dtype=np.int64), np.zeros(0, dtype=np.int64)
    item = EncodedMedia("image", np.ones((2, 3), dtype=np.float32), grid, none, (4, 4), (4, 4), "h")
    assert media_batch([item, item]).counts == (0, 0)
    ids, weight = np.array([1, 2], dtype=np.int64), np.zeros(2, dtype=np.float32)
    assert pack([Encoded("a", "s", ids, weight)]).media == {}
    assert pack([Encoded("a", "s", ids, weight, media=(item,))]).media["vision"].patches.shape == (2, 3)


def sized(n, name="a", patches=0):
    grid, slots = np.array([[1, 1, max(patches, 1)]], dtype=np.int64), np.zeros(0, dtype=np.int64)
    item = EncodedMedia("image", np.ones((patches, 3), dtype=np.float32), grid, slots, (4, 4), (4, 4), "h")
    media = (item,) if patches else ()
    return Encoded(name, "s", np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.float32), media=media)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_the_packer_splits_nothing_keeps_the_order_and_wastes_no_room_for_the_next(sizes):
    packer, batches = Packer(10), []
    for i, n in enumerate(sizes):
        if not packer.fits(sized(n)):
            batches.append(packer.take())
        packer.add(sized(n, str(i)))
    batches.append(packer.take())
    assert [name for b in batches for name in b.sample_ids] == [str(i) for i in range(len(sizes))]
    assert all(len(b.input_ids) <= 10 for b in batches)
    assert all(len(a.input_ids) + b.segments.q_lens[0] > 10 for a, b in zip(batches, batches[1:], strict=False))


def test_patches_fill_a_batch_as_tokens_do():
    packer = Packer(100, max_patches=5)
    packer.add(sized(1, patches=3))
    assert packer.fits(sized(1, patches=2))
    assert not packer.fits(sized(1, patches=3))


@pytest.mark.parametrize("sample", [sized(11, "big"), sized(1, "big", patches=6)])
def test_a_sample_that_no_batch_holds_is_too_long_and_named(sample):
    with pytest.raises(EyespotError, match="too-long") as caught:
        Packer(10, max_patches=5).add(sample)
    assert caught.value.where == "big"


def test_the_same_samples_give_the_same_bytes_and_others_do_not():
    assert same(pack([sized(3)]), pack([sized(3)]))
    assert not same(pack([sized(3)]), pack([sized(4)]))
