"""RMSNorm's own backward pass on CPU against what autograd makes of the plain formula."""

import pytest
import torch
import torch.nn.functional as F

from eyespot.nn.norm import RMSNorm


def plain(x, weight, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), None, eps).to(x.dtype) * weight


@pytest.mark.parametrize("shape", [(7, 16), (3, 5, 16), (1, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_formula(shape, dtype):
    norm, eps = RMSNorm(16, 1e-5), 1e-5
    with torch.no_grad():
        norm.weight.normal_(1, 0.3)
    x = (torch.randn(shape) * torch.logspace(-3, 1, 16)).to(dtype).requires_grad_()
    given = torch.randn(shape)
    found = []
    for act in (norm, lambda t: plain(t, norm.weight, eps)):
        y = act(x)
        found.append((y, *torch.autograd.grad(y, (x, norm.weight), given.to(y.dtype))))
    bar = 1e-6 if dtype is torch.float32 else 2e-2
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert (a - b).abs().max() <= bar * b.abs().max()


def test_frozen_weights_get_no_gradient_and_without_gradients_nothing_changes():
    norm = RMSNorm(16, 1e-6).requires_grad_(False)
    x = torch.randn(4, 16, requires_grad=True)
    norm(x).sum().backward()
    assert x.grad is not None and norm.weight.grad is None
    with torch.no_grad():
        torch.testing.assert_close(norm(x), plain(x, norm.weight, 1e-6), rtol=0, atol=1e-6)


def test_a_gradient_of_a_gradient_is_refused():
    x = torch.randn(4, 16, requires_grad=True)
    (first,) = torch.autograd.grad(RMSNorm(16, 1e-6)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
