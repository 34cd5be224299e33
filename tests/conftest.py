"""What holds for every test: fixed seeds, one thread, no network, a cache of its own."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores; threads would fight

import importlib.util
import ipaddress
import random
import socket

import numpy as np
import pytest
import torch
from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

# In every test types are checked, and shapes where they are stated. jaxtyping's hook, which does both, costs several
# times as much for each call, so that it takes the modules with shapes alone (structure/test_shapes.py knows them).
SHAPED = (
    "contracts.batch", "contracts.protocols", "engine", "inputs.fast", "inputs.frames", "inputs.patches",
    "inputs.processor", "inputs.resize", "models", "nn", "runtime.dist", "train", "weights.peft",
)  # fmt: skip
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook([f"eyespot.{name}" for name in SHAPED], CHECKER)
beartype_package("eyespot", conf=BeartypeConf(is_pep484_tower=True, claw_is_pep526=False))

torch.set_num_threads(1)

# The reference of the parity tests is an extra (`make test-all` installs it).
collect_ignore_glob = [] if importlib.util.find_spec("transformers") else ["parity/test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory):
    """What is remembered of checked checkpoints goes to a temporary folder, of processes that a test starts too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(autouse=True)
def seed():
    """The same random state at the start of every test."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test may use the global state)
    torch.manual_seed(0)
    return 0


@pytest.fixture(autouse=True)
def no_network(request, monkeypatch):
    """Connections and name look-ups beyond this machine fail, unless the test is marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(function):
        def call(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                pytest.fail(f"a test tried to reach {address[0]}; mark it `network` or serve it on loopback")
            return function(self, address)

        return call

    def guarded_lookup(host, *args, **kwargs):
        if host is not None and not _is_address(host) and not _is_loopback(host):
            pytest.fail(f"a test tried to look up {host!r}; mark it `network` or patch the look-up")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)


def _is_loopback(host) -> bool:
    host = host.decode() if isinstance(host, bytes) else str(host)
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host.split("%")[0]).is_loopback)


def _is_address(host) -> bool:
    try:
        ipaddress.ip_address((host.decode() if isinstance(host, bytes) else str(host)).split("%")[0])
    except ValueError:
        return False
    return True
