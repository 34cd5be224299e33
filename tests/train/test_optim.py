"""Schedules, the division of parameters between Muon and AdamW, and states that go on exactly."""

from copy import deepcopy as copy_of

import pytest
import torch
from torch import nn

from eyespot.train.muon import StackedMuon
from eyespot.train.optim import Optimizer, hidden_matrices, lr_share, scale_and_clip
from eyespot.train.run import Stage


class Tiny(nn.Module):
    """One of each kind of parameter."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 8)
        self.embed_tokens = nn.Embedding(5, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 8)])
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 5, bias=False)


def lrs(module, lr=1e-2):
    return dict.fromkeys(dict(module.named_parameters()), lr)


def test_cosine_rises_linearly_then_falls_to_almost_nothing():
    stage = Stage(steps=100, warmup=0.1, schedule="cosine")
    shares = [lr_share(stage, step) for step in range(1, 101)]
    assert shares[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert all(a > b for a, b in zip(shares[9:], shares[10:], strict=False))
    assert 0 < shares[-1] < 0.01


def test_wsd_is_flat_between_warm_up_and_decay():
    stage = Stage(steps=100, warmup=0.1, decay=0.2, schedule="wsd", final_lr=0.1)
    shares = [lr_share(stage, step) for step in range(1, 101)]
    assert shares[9:80] == [1.0] * 71
    assert all(a > b for a, b in zip(shares[80:], shares[81:], strict=False))
    assert shares[-1] == pytest.approx(0.1 + 0.9 / 21)


def test_constant_stays_after_its_warm_up():
    assert {lr_share(Stage(steps=50, warmup=0.02, schedule="constant"), s) for s in range(1, 51)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
@pytest.mark.parametrize(("steps", "warmup", "decay"), [(1, 0.0, 0.0), (1, 1.0, 1.0), (2, 0.5, 0.5), (7, 1.0, 0.0)])
def test_a_share_is_above_zero_and_at_most_one_however_short_the_run(schedule, steps, warmup, decay):
    stage = Stage(steps=steps, warmup=warmup, decay=decay, schedule=schedule)
    assert all(0 < lr_share(stage, step) <= 1 for step in range(1, steps + 1))


def test_muon_takes_hidden_matrices_only():
    assert hidden_matrices(Tiny()) == {"layers.0.weight", "layers.1.weight"}
    optimizer = Optimizer(Tiny(), lrs(Tiny()), Stage(optimizer="muon"))
    assert optimizer.names["muon"] == ["layers.0.weight", "layers.1.weight"]
    assert set(optimizer.names["adamw"]) == {n for n, _ in Tiny().named_parameters()} - set(optimizer.names["muon"])


def test_an_update_of_muon_is_about_as_large_as_one_of_adamw():
    moved = {}
    for name in ("adamw", "muon"):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 64, bias=False))
        before = module[0].weight.detach().clone()
        optimizer = Optimizer(module, lrs(module, 1e-2), Stage(optimizer=name))
        for _ in range(4):
            module(torch.randn(256, 64)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        moved[name] = (module[0].weight - before).square().mean().sqrt().item()
    assert 0.1 < moved["muon"] / moved["adamw"] < 2


def test_vectors_never_decay():
    module = Tiny()
    optimizer = Optimizer(module, lrs(module), Stage(weight_decay=0.1))
    for group in optimizer.parts["adamw"].param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_set_lr_scales_each_group_by_its_own_rate():
    module = Tiny()
    rates = {**lrs(module, 1e-2), "norm.weight": 1e-4}
    optimizer = Optimizer(module, rates, Stage(optimizer="muon"))
    optimizer.set_lr(0.5)
    found = {group["lr"] for part in optimizer.parts.values() for group in part.param_groups}
    assert found == {5e-3, 5e-5}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_loaded_state_goes_on_bit_for_bit(name):
    def steps(module, optimizer, seeds):
        for seed in seeds:
            torch.manual_seed(seed)
            x = module.layers[0](module.norm(module.stem(torch.randn(4, 3)) + module.embed_tokens(torch.arange(4))))
            module.lm_head(module.layers[1](x)).square().sum().backward()
            optimizer.set_lr(1 / (1 + seed))
            optimizer.step()
            optimizer.zero_grad()

    stage = Stage(optimizer=name, weight_decay=0.1)
    torch.manual_seed(0)
    straight = Tiny()
    first = Optimizer(straight, lrs(straight), stage)
    steps(straight, first, range(3))
    copy = Tiny()
    copy.load_state_dict(straight.state_dict())
    second = Optimizer(copy, lrs(copy), stage)
    second.load_state_dict(copy_of(first.state_dict()))  # as through a file: torch would share the moments
    steps(straight, first, range(3, 6))
    steps(copy, second, range(3, 6))
    for a, b in zip(straight.parameters(), copy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_other_parameters_is_refused():
    module = Tiny()
    state = Optimizer(module, lrs(module), Stage()).state_dict()
    fewer = Optimizer(module, {"norm.weight": 1e-3}, Stage())
    with pytest.raises(ValueError, match="other parameters"):
        fewer.load_state_dict(state)


def test_gradients_are_divided_once_and_clipped_to_the_norm():
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))
    a.grad, b.grad = torch.full((3,), 2.0), torch.full((4,), 4.0)
    expected = (3 * 4 + 4 * 16) ** 0.5 / 2
    assert scale_and_clip([a, b], 2.0, clip=1.0) == pytest.approx(expected)
    assert torch.cat([a.grad, b.grad]).norm() == pytest.approx(1.0)


def test_a_norm_below_the_limit_is_left_alone():
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([0.3, 0.4])
    assert scale_and_clip([a], 1.0, clip=1.0) == pytest.approx(0.5)
    assert torch.equal(a.grad, torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_matrices_moved_together_move_as_each_alone(decay):
    """Of several shapes, tall ones and wide ones of the same sides, and one without a gradient."""
    shapes = [(8, 16), (16, 8), (8, 16), (12, 12), (4, 32), (12, 12)]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(s, generator=generator) for s in shapes]
    gradients = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(3)]
    found = []
    for kind in (StackedMuon, torch.optim.Muon):
        matrices = [torch.nn.Parameter(t.clone()) for t in start]
        optimizer = kind(matrices, lr=0.02, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        for step in gradients:
            for matrix, gradient in zip(matrices[:-1], step, strict=False):
                matrix.grad = gradient.clone()
            optimizer.step()
        found.append((matrices, optimizer.state_dict()))
    (ours, own), (theirs, their) = found
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).abs().max() <= 0.02 * (b - before).abs().max()  # bfloat16 inside
    assert torch.equal(ours[-1], start[-1])
    for i, state in their["state"].items():
        torch.testing.assert_close(own["state"][i]["momentum_buffer"], state["momentum_buffer"])
