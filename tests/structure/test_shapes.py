"""The tests run with shapes and types checked; without that, annotations would be prose."""

import pytest
import torch

from eyespot.contracts.batch import MediaBatch, Segments


def test_a_wrong_rank_in_a_dataclass_is_refused():
    with pytest.raises(Exception, match="grid_thw"):
        MediaBatch("image", torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), (1,), torch.arange(4), (4,))


def test_a_wrong_argument_type_is_refused():
    with pytest.raises(Exception, match="lens"):
        Segments.of("three")  # type: ignore[arg-type]
