"""Devices and number types by name."""

import pytest
import torch

from eyespot.errors import EyespotError
from eyespot.runtime import device


def test_a_name_gives_its_device():
    assert device.pick("cpu") == torch.device("cpu")
    assert device.pick().type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["gpu0", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(EyespotError) as caught:
        device.pick(name)
    assert caught.value.code == "argument"


@pytest.mark.parametrize(("able", "dtype"), [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)])
def test_auto_takes_bfloat16_only_where_the_processor_multiplies_it(monkeypatch, able, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert device.compute_dtype("auto", "cpu") == dtype
    assert device.compute_dtype("float32", "cpu") == torch.float32


def test_autocast_of_float32_changes_nothing():
    x = torch.ones(2, 2)
    with device.autocast(torch.device("cpu"), torch.float32):
        assert (x @ x).dtype == torch.float32
    with device.autocast(torch.device("cpu"), torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
