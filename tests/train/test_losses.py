"""Each loss agrees with a naive form, value and gradient; chunks change nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyespot.train.losses import sigmoid_contrastive, softmax_contrastive, token_loss


class Head(nn.Module):
    """Something with `logits`."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 11)

    def logits(self, hidden):
        return self.map(hidden)


def sample(rows=17):
    hidden = torch.randn(rows, 8, requires_grad=True)
    targets = torch.randint(0, 11, (rows,))
    targets[::3] = -1
    weight = torch.rand(rows)
    weight[targets < 0] = 0
    weight[1] = 0
    return hidden, targets, weight


@pytest.mark.parametrize("chunk", [1, 4, 2048])
def test_token_loss_is_the_weighted_cross_entropy(chunk):
    head = Head()
    hidden, targets, weight = sample()
    total, count = token_loss(head, hidden, targets, weight, chunk=chunk)
    each = F.cross_entropy(head.logits(hidden), targets.clamp(min=0), reduction="none")
    naive = (each * weight).sum()
    torch.testing.assert_close(total, naive)
    torch.testing.assert_close(count, weight.sum())
    wanted = [hidden, *head.parameters()]
    for fast, slow in zip(torch.autograd.grad(total, wanted), torch.autograd.grad(naive, wanted), strict=True):
        torch.testing.assert_close(fast, slow)


def test_scores_are_made_for_supervised_rows_only_and_never_more_than_a_chunk():
    seen = []

    class Counting(Head):
        def logits(self, hidden):
            seen.append(len(hidden))
            return super().logits(hidden)

    hidden, targets, weight = sample()
    token_loss(Counting(), hidden, targets, weight, chunk=4)
    supervised = int(((targets >= 0) & (weight > 0)).sum())
    assert sum(seen) == supervised < len(hidden)
    assert max(seen) == 4


def test_a_batch_without_answers_gives_a_zero_that_can_be_differentiated():
    hidden = torch.randn(3, 8, requires_grad=True)
    total, count = token_loss(Head(), hidden, torch.full((3,), -1), torch.zeros(3))
    total.backward()
    assert total.item() == count.item() == 0
    assert hidden.grad is not None and not hidden.grad.any()


def test_z_loss_adds_the_squared_normaliser():
    head = Head()
    hidden, targets, weight = sample()
    plain, _ = token_loss(head, hidden, targets, weight)
    more, _ = token_loss(head, hidden, targets, weight, z_loss=0.1)
    z = head.logits(hidden).logsumexp(-1).square()
    torch.testing.assert_close(more - plain, 0.1 * (z * weight).sum())


def unit(rows, width=6):
    return F.normalize(torch.randn(rows, width), dim=-1).requires_grad_()


@pytest.mark.parametrize("chunk", [None, 1, 4, 9])
def test_softmax_contrastive_is_the_symmetric_cross_entropy(chunk):
    images, texts, scale = unit(9), unit(9), torch.tensor(1.5, requires_grad=True)
    total, count = softmax_contrastive(images, texts, scale, chunk)
    scores = scale.exp() * images @ texts.t()
    labels = torch.arange(9)
    naive = 9 * (F.cross_entropy(scores, labels) + F.cross_entropy(scores.t(), labels)) / 2
    torch.testing.assert_close(total, naive)
    assert count == 9
    wanted = (images, texts, scale)
    for fast, slow in zip(torch.autograd.grad(total, wanted), torch.autograd.grad(naive, wanted), strict=True):
        torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("chunk", [None, 1, 4, 9])
def test_sigmoid_contrastive_asks_of_each_pair_whether_it_belongs_together(chunk):
    images, texts = unit(9), unit(9)
    scale, bias = torch.tensor(1.2, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    total, count = sigmoid_contrastive(images, texts, scale, bias, chunk)
    scores = scale.exp() * images @ texts.t() + bias
    signs = 2 * torch.eye(9) - 1
    naive = -F.logsigmoid(signs * scores).sum()
    torch.testing.assert_close(total, naive)
    assert count == 9
    wanted = (images, texts, scale, bias)
    for fast, slow in zip(torch.autograd.grad(total, wanted), torch.autograd.grad(naive, wanted), strict=True):
        torch.testing.assert_close(fast, slow)


def test_a_swapped_pair_is_seen_by_both_contrastive_losses():
    same = unit(8)
    swapped = same[torch.tensor([1, 0, *range(2, 8)])]
    scale = torch.tensor(2.0)
    assert softmax_contrastive(same, swapped, scale)[0] > softmax_contrastive(same, same, scale)[0] + 1
    assert sigmoid_contrastive(same, swapped, scale)[0] > sigmoid_contrastive(same, same, scale)[0] + 1
