"""The audit finds parts that no gradient reaches; hashes see any change and no change of width."""

import pytest
import torch
from torch import nn

from eyespot.errors import EyespotError
from eyespot.train.preflight import audit, check_frozen, digests, part_hashes


class Net(nn.Module):
    """`connector` is used by odd batches only, `aside` by none."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 2)
        self.connector = nn.Linear(2, 2)
        self.aside = nn.Linear(2, 2)

    def loss(self, batch):
        x = torch.ones(1, 2)
        return self.decoder(self.connector(x) if batch % 2 else x).square().sum()


def names(*parts):
    return [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]


def test_the_audit_stops_when_every_part_was_used():
    net = Net()
    assert audit(net, names("decoder"), iter(range(8)), net.loss, 8) == 1
    assert audit(net, names("decoder", "connector"), iter(range(8)), net.loss, 8) == 2


def test_a_part_that_no_batch_uses_is_named_as_absent():
    net = Net()
    with pytest.raises(EyespotError) as caught:
        audit(net, names("decoder", "aside"), iter(range(8)), net.loss, 3)
    assert caught.value.code == "gradient-missing"
    assert "aside.weight (absent)" in caught.value.message
    assert "decoder" not in caught.value.message
    assert "3 batch" in caught.value.message


def test_a_gradient_that_is_exactly_zero_is_named_as_zero():
    net = Net()
    nn.init.zeros_(net.decoder.weight)
    nn.init.zeros_(net.decoder.bias)
    net.decoder.weight.requires_grad_(False)

    def loss(batch):
        return net.decoder(net.connector(torch.ones(1, 2))).sum()

    with pytest.raises(EyespotError) as caught:
        audit(net, names("connector"), iter(range(2)), loss, 2)
    assert "connector.weight (zero)" in caught.value.message


def test_a_gradient_that_is_zero_by_construction_may_be_declared():
    net = Net()
    assert audit(net, names("decoder", "aside"), iter(range(2)), net.loss, 2, zero_at_start=["^aside"]) == 1
    net.zero_at_start = lambda: names("aside")
    assert audit(net, names("decoder", "aside"), iter(range(2)), net.loss, 2) == 1


def test_a_stream_that_ends_is_enough_to_judge():
    net = Net()
    with pytest.raises(EyespotError):
        audit(net, names("connector"), iter([0]), net.loss, 8)


def test_the_audit_leaves_no_gradient():
    net = Net()
    audit(net, names("decoder"), iter(range(8)), net.loss, 8)
    assert all(p.grad is None for p in net.parameters())


def test_a_hash_sees_the_smallest_change_of_its_part_only():
    net = Net()
    before = digests(net)
    with torch.no_grad():
        net.decoder.weight[0, 0] = torch.nextafter(net.decoder.weight[0, 0], torch.tensor(9.0))
    first, second = part_hashes(before), part_hashes(digests(net))
    assert first["decoder"] != second["decoder"]
    assert {k: v for k, v in first.items() if k != "decoder"} == {k: v for k, v in second.items() if k != "decoder"}


def test_a_hash_is_of_values_and_not_of_their_width():
    net = Net().to(torch.bfloat16)
    narrow = digests(net)
    assert digests(net.float()) == narrow


def test_a_frozen_tensor_that_moved_is_named():
    net = Net()
    before = digests(net)
    nn.init.ones_(net.aside.bias)
    nn.init.ones_(net.decoder.bias)
    with pytest.raises(EyespotError) as caught:
        check_frozen(before, digests(net), names("decoder"))
    assert caught.value.code == "frozen-changed"
    assert "aside.bias" in caught.value.message
    assert "decoder.bias" not in caught.value.message
    check_frozen(before, digests(net), names("decoder", "aside"))
