"""Sums over ranks: two processes on loopback, and the no-ops of one."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from eyespot.runtime import dist as ours


def work(rank: int, address: str, results) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    used, once, never = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    used.grad = torch.full((2,), 1.0 + rank)
    if rank == 0:
        once.grad = torch.full((2,), 5.0)
    ours.sum_gradients([used, once, never])
    results.put((ours.ranks(), ours.sum_scalars(1.0 + rank, 10.0), used.grad.tolist(), once.grad.tolist(), never.grad))
    dist.destroy_process_group()


@pytest.mark.slow
def test_gradients_and_weights_are_summed_over_two_processes(tmp_path):
    results = mp.get_context("spawn").SimpleQueue()
    mp.spawn(work, (f"file://{tmp_path}/meet", results), nprocs=2)
    for _ in range(2):
        assert results.get() == (2, [3.0, 20.0], [3.0, 3.0], [5.0, 5.0], None)


def test_one_process_sums_nothing():
    parameter = torch.nn.Parameter(torch.zeros(2))
    ours.sum_gradients([parameter])
    assert parameter.grad is None
    assert ours.sum_scalars(1.5, 2.0) == [1.5, 2.0]
    assert (ours.rank(), ours.ranks()) == (0, 1)
