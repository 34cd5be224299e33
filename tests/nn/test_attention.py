"""The attention seam: the grouped path agrees with the one-segment-at-a-time oracle, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.batch import Segments
from eyespot.nn.attention import ancestry, attend, visible


@st.composite
def forests(draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lengths and parents of a packed row: roots, branches, now and then deeper trees."""
    count = draw(st.integers(1, 9))
    lens = tuple(draw(st.integers(1, 7)) for _ in range(count))
    parent = tuple(draw(st.integers(-1, i - 1)) if draw(st.booleans()) else -1 for i in range(count))
    return lens, parent


def both(segments: Segments, window: int | None, kv_heads: int = 2):
    generator = torch.Generator().manual_seed(0)
    outputs = []
    for backend in ("reference", "grouped"):
        generator.manual_seed(0)
        q = torch.randn(sum(segments.q_lens), 4, 8, generator=generator).requires_grad_()
        k = torch.randn(sum(segments.k_lens), kv_heads, 8, generator=generator).requires_grad_()
        v = torch.randn(sum(segments.k_lens), kv_heads, 8, generator=generator).requires_grad_()
        out = attend(q, k, v, segments, window=window, backend=backend)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        outputs.append((out.detach(), q.grad, k.grad, v.grad))
    return outputs


@settings(max_examples=60, deadline=None)
@given(forests(), st.sampled_from(["causal", "full"]), st.sampled_from([None, 1, 3]))
def test_grouped_agrees_with_reference_on_any_forest(forest, rule, window):
    lens, parent = forest
    if rule == "full":
        parent = (-1,) * len(lens)
    for a, b in zip(*both(Segments.of(lens, parent=parent, rule=rule), window), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=5), st.sampled_from([None, 2]))
def test_grouped_agrees_with_reference_on_cached_queries(pairs, window):
    q_lens = tuple(q for q, _ in pairs)
    k_lens = tuple(q + extra for q, extra in pairs)
    segments = Segments(q_lens, k_lens, (-1,) * len(pairs))
    for a, b in zip(*both(segments, window), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_branch_never_sees_its_sibling():
    segments = Segments.of((3, 2, 2), parent=(-1, 0, 0))
    q, k, v = (torch.randn(7, 2, 4) for _ in range(3))
    for backend in ("reference", "grouped"):
        before = attend(q, k, v, segments, backend=backend)
        changed = v.clone()
        changed[3:5] += 100.0  # the first branch
        after = attend(q, k, changed, segments, backend=backend)
        torch.testing.assert_close(before[5:], after[5:])
        assert not torch.allclose(before[3:5], after[3:5])


def test_causality_hides_the_future_and_window_hides_the_past():
    mask = visible("causal", 2, 5, window=3)
    assert mask.tolist() == [[False, True, True, True, False], [False, False, True, True, True]]


def test_blocks_let_a_token_see_blocks_not_after_its_own():
    blocks = torch.tensor([0, 0, 1, 2])
    assert visible("blocks", 2, 4, blocks=blocks).tolist() == [[True, True, True, False], [True] * 4]
    assert visible("blocks", 1, 4, block_window=2, blocks=blocks).tolist() == [[False, False, True, True]]


def test_ancestry_lists_the_oldest_first():
    assert ancestry((-1, 0, 1, -1), 2) == [0, 1, 2]


def test_observer_receives_probabilities_that_sum_to_one_and_changes_nothing():
    segments = Segments.of((4, 3))
    q, k, v = (torch.randn(7, 2, 4) for _ in range(3))
    seen = {}
    out = attend(q, k, v, segments, observe=lambda s, p: seen.update({s: p}))
    torch.testing.assert_close(out, attend(q, k, v, segments, backend="reference"), rtol=1e-5, atol=1e-6)
    assert sorted(seen) == [0, 1]
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(2, 4))


def test_softcap_bounds_scores_so_far_keys_keep_some_weight():
    segments = Segments.of((2,), rule="full")
    q, k, v = (
        torch.full((2, 1, 4), 50.0),
        torch.stack([torch.full((1, 4), 50.0), torch.full((1, 4), -50.0)]),
        torch.eye(4)[:2, None],
    )
    hard = attend(q, k, v, segments)
    soft = attend(q, k, v, segments, softcap=1.0)
    assert hard[0, 0, 1] < 1e-6 < soft[0, 0, 1]


def test_queries_longer_than_keys_are_refused_under_causal():
    with pytest.raises(AssertionError, match="last of a segment's keys"):
        Segments((3,), (2,), (-1,))


def test_tables_made_while_answering_serve_training_too():
    segments = Segments.of((3, 5, 4, 9, 2), rule="full")
    q = torch.randn(23, 2, 8)
    with torch.inference_mode():
        expected = attend(q, q, q, segments)
    q = q.requires_grad_()
    out = attend(q, q, q, segments)
    out.sum().backward()
    torch.testing.assert_close(out.detach(), expected.clone(), rtol=1e-4, atol=1e-5)
