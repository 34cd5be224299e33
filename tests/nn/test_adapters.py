"""Adapters on linear layers: nothing changes at first, merged = adapter, off again = as before."""

import pytest
import torch
from torch import nn

from eyespot.errors import EyespotError
from eyespot.nn.adapters import LoraConfig, LoraLinear, adapters, attach, attached, detach, merge, parameters

CONFIG = LoraConfig(rank=3, alpha=12, modules=r"^(q|deep\.)")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(6, 5)
        self.deep = nn.Sequential(nn.Linear(5, 7, bias=False), nn.GELU(), nn.Linear(7, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.deep(self.q(x)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def learnt(net: nn.Module) -> nn.Module:
    """As if the adapters had been trained."""
    generator = torch.Generator().manual_seed(2)
    for layer in adapters(net).values():
        layer.lora_B.data = torch.randn(layer.lora_B.shape, generator=generator)
    return net


def test_a_fresh_adapter_changes_no_bit_and_no_name(net, x):
    before, names = net(x), list(net.state_dict())
    weight = net.q.weight
    assert list(attach(net, CONFIG)) == ["q", "deep.0", "deep.2"]
    assert torch.equal(net(x), before)
    assert net.q.weight is weight
    assert [n for n in net.state_dict() if "lora" not in n] == names
    assert set(net.state_dict()) - set(names) == parameters(net)


def test_a_is_drawn_and_b_is_zero_in_float32_whatever_the_model_is(net):
    net.to(torch.bfloat16)
    attach(net, CONFIG)
    a, b = net.q.lora_A, net.q.lora_B
    assert (a.shape, b.shape) == ((3, 6), (5, 3))
    assert a.dtype == b.dtype == torch.float32
    assert a.abs().max() <= 6**-0.5 and a.std() > 0.1
    assert not b.any()
    assert net(torch.ones(1, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_merged_equals_adapter(net, x):
    attach(net, CONFIG)
    expected = learnt(net)(x)
    assert merge(net) == ["q", "deep.0", "deep.2"]
    assert torch.allclose(net(x), expected, rtol=1e-5, atol=1e-5)
    assert not adapters(net) and type(net.q) is nn.Linear
    assert merge(net) == []


def test_the_law_of_merging_sees_a_planted_fault(net, x, monkeypatch):
    attach(net, CONFIG)
    expected = learnt(net)(x)
    monkeypatch.setattr(LoraLinear, "product", lambda self: self.lora_B @ self.lora_A)  # forgets the scale
    merge(net)
    assert not torch.allclose(net(x), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_merging_rounds_once_to_the_weights_own_type(net, dtype):
    net.to(dtype)
    attach(net, CONFIG)
    learnt(net)
    wide = net.q.weight.double() + net.q.product().double()
    merge(net)
    assert net.q.weight.dtype == dtype
    assert torch.allclose(net.q.weight.double(), wide, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_taken_off_the_model_is_what_it_was(net, x):
    before = net(x)
    attach(net, CONFIG)
    learnt(net)
    assert not torch.equal(net(x), before)
    taken = detach(net)
    assert torch.equal(net(x), before)
    assert list(taken) == ["q", "deep.0", "deep.2"]


def test_the_scale_is_alpha_over_rank_or_over_its_root():
    assert LoraConfig(rank=4, alpha=8).scale == 2
    assert LoraConfig(rank=4, alpha=8, rslora=True).scale == 4


def test_dropout_acts_in_training_alone(net, x):
    attach(net, CONFIG.replace(dropout=0.5))
    learnt(net)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


def test_at_first_b_gets_a_gradient_and_a_gets_none(net, x):
    attach(net, CONFIG)
    net(x).sum().backward()
    assert net.q.lora_B.grad.any() and not net.q.lora_A.grad.any()


def test_whether_a_model_has_the_adapters_that_a_config_asks_for(net):
    assert not attached(net, CONFIG)
    attach(net, CONFIG)
    assert attached(net, CONFIG)
    assert attached(net, CONFIG.replace(modules="^q$|^deep"))  # another spelling of the same layers
    assert not attached(net, CONFIG.replace(alpha=1.0))
    assert not attached(net, CONFIG.replace(modules="^q$"))


def refused(code: str, act) -> str:
    with pytest.raises(EyespotError) as caught:
        act()
    assert caught.value.code == code
    return str(caught.value)


def test_what_matches_nothing_or_stands_already_is_refused(net):
    assert "'deep'" in refused("adapter-unmatched", lambda: attach(net, CONFIG.replace(modules="^dep")))
    assert "regular expression" in refused("config-value", lambda: attach(net, CONFIG.replace(modules="(")))
    attach(net, CONFIG)
    refused("not-supported", lambda: attach(net, CONFIG))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"alpha": float("nan")}])
def test_numbers_that_make_no_adapter_are_refused(wrong):
    assert f"lora.{next(iter(wrong))}" in refused("config-value", lambda: LoraConfig(**wrong))
