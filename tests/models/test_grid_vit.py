"""The tower for pictures of any size: order, places, who sees whom, and the merger behind it."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from eyespot.contracts.batch import MediaBatch
from eyespot.errors import EyespotError
from eyespot.models.connectors import Connector, ConnectorConfig
from eyespot.models.encoders.grid_vit import GridVit, GridVitConfig, grid_layout

CPU = torch.device("cpu")


def tower(**changes) -> GridVit:
    torch.manual_seed(0)
    config = GridVitConfig(hidden_size=16, num_layers=3, num_heads=2, intermediate_size=24, patch_size=4)
    module = GridVit(config.replace(**changes))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.eval()


def media(*grids: tuple[int, int, int], seed: int = 0) -> MediaBatch:
    count = sum(t * h * w for t, h, w in grids)
    patches = torch.randn(count, 3 * 2 * 16, generator=torch.Generator().manual_seed(seed))
    counts = tuple(t * h * w // 4 for t, h, w in grids)
    return MediaBatch("image", patches, torch.tensor(grids), (1,) * len(grids), torch.arange(sum(counts)), counts)


def one(batch: MediaBatch, start: int, grid: tuple[int, int, int]) -> MediaBatch:
    count = grid[0] * grid[1] * grid[2]
    slots = torch.arange(count // 4)
    return MediaBatch("image", batch.patches[start : start + count], torch.tensor([grid]), (1,), slots, (count // 4,))


def test_patches_stand_in_merge_blocks():
    places = grid_layout(((1, 4, 4),), 2, None, CPU).places
    assert places.T.tolist()[:9] == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 0]]


def test_every_frame_has_the_places_of_the_first_and_is_a_segment_of_its_own():
    layout = grid_layout(((3, 2, 4), (1, 4, 2)), 2, None, CPU)
    assert layout.frames == (8, 8, 8, 8)
    assert torch.equal(layout.places[:, :8], layout.places[:, 16:24])


def test_windows_are_cut_as_published_with_ragged_edges():
    layout = grid_layout(((1, 12, 20),), 2, 4, CPU)
    assert layout.windows == (64, 64, 32, 32, 32, 16)
    assert layout.order.tolist() == [
        *[0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33],
        *[4, 5, 6, 7, 14, 15, 16, 17, 24, 25, 26, 27, 34, 35, 36, 37],
        *[8, 9, 18, 19, 28, 29, 38, 39, 40, 41, 42, 43, 50, 51, 52, 53],
        *[44, 45, 46, 47, 54, 55, 56, 57, 48, 49, 58, 59],
    ]


def test_windows_never_span_frames_or_items():
    layout = grid_layout(((2, 4, 4), (1, 4, 4)), 2, 4, CPU)
    assert layout.windows == (16, 16, 16)
    assert layout.order.tolist() == list(range(12))


@pytest.mark.parametrize("windows", [{}, {"window_size": 16, "full_layers": (1,), "norm": "rms", "gated": True}])
def test_pictures_of_unlike_size_are_the_same_packed_and_alone(windows):
    module = tower(**windows)
    grids = ((1, 6, 10), (1, 2, 2), (2, 4, 6))
    batch = media(*grids)
    together = module.features(batch)
    start = 0
    for grid in grids:
        alone = module.features(one(batch, start, grid))
        torch.testing.assert_close(together[start : start + len(alone)], alone, rtol=1e-4, atol=1e-5)
        start += len(alone)


def test_windows_that_hold_the_whole_picture_change_nothing():
    batch = media((1, 6, 10), (2, 4, 6))
    plain, windowed = tower(), tower(window_size=80)
    torch.testing.assert_close(windowed.features(batch), plain.features(batch), rtol=1e-4, atol=1e-5)


def test_the_order_of_windows_is_undone():
    batch = media((1, 6, 10), (2, 4, 6))
    every = tower(window_size=16, full_layers=(0, 1, 2))
    torch.testing.assert_close(every.features(batch), tower().features(batch), rtol=1e-4, atol=1e-5)
    inside = tower(window_size=16)
    assert not torch.allclose(inside.features(batch), tower().features(batch), atol=1e-2)


def test_a_frame_sees_itself_only():
    module, batch = tower(), media((2, 4, 4))
    changed = MediaBatch("image", batch.patches.clone(), batch.grid_thw, (1,), batch.slots, batch.counts)
    changed.patches[16:] += 1.0
    torch.testing.assert_close(module.features(batch)[:16], module.features(changed)[:16])


def test_a_place_is_relative_so_shifted_places_change_nothing_and_others_do():
    module = tower()
    square, line = media((1, 4, 4)), media((1, 2, 8))
    assert not torch.allclose(module.features(square), module.features(line), atol=1e-2)


def test_several_layers_are_concatenated_and_those_behind_are_not_run():
    module, batch = tower(), media((1, 4, 4))
    both = module.features(batch, (0, 2))
    assert both.shape == (16, 32)
    both.sum().backward()
    assert {n for n, p in module.named_parameters() if p.grad is None} == set(module.unused((0, 2)))
    assert module.unused((-1,)) == []


def test_a_grid_that_does_not_divide_is_refused():
    with pytest.raises(EyespotError, match="3 x 4 patches") as caught:
        tower().features(media((1, 3, 4)))
    assert caught.value.code == "media-size"


@pytest.mark.parametrize("grid", [(1, 8, 8), (2, 2, 12), (1, 4, 2), (3, 6, 10)])
def test_a_table_of_positions_is_stretched_from_corner_to_corner(grid):
    side, (t, h, w) = 5, grid
    table = torch.randn(side**2, 3)
    layout = grid_layout((grid,), 2, None, CPU, side)
    made = (table[layout.corners] * layout.weights[..., None]).sum(1)
    square = rearrange(table, "(r c) e -> 1 e r c", r=side)
    slow = F.interpolate(square, size=(h, w), mode="bilinear", align_corners=True)[0].expand(t, -1, -1, -1)
    blocks = rearrange(slow, "t e (h a) (w b) -> (t h w a b) e", a=2, b=2)
    torch.testing.assert_close(made, blocks, rtol=1e-5, atol=1e-5)


def test_a_frame_as_large_as_the_table_reads_it_as_it_is():
    layout = grid_layout(((1, 4, 4),), 1, None, CPU, 4)
    kept = layout.weights == 1
    assert layout.corners[kept].tolist() == list(range(16))
    assert layout.weights[~kept].abs().max() == 0


def test_a_table_of_positions_does_not_care_for_the_order_of_windows():
    batch = media((1, 6, 10), (2, 4, 6))
    every = tower(window_size=16, full_layers=(0, 1, 2), table_size=3)
    torch.testing.assert_close(every.features(batch), tower(table_size=3).features(batch), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(every.features(batch), tower().features(batch), atol=1e-2)


def test_the_merger_of_a_tap_norms_the_joined_block():
    config = ConnectorConfig("patch_merger", 16, 24, merge_size=2, norm="layer", norm_joined=True)
    deep, x = Connector(config), torch.randn(8, 16)
    assert deep.norm.weight.shape == (64,)
    hidden = F.gelu(deep.layers[0](F.layer_norm(x.view(2, 64), (64,), eps=1e-6)))
    torch.testing.assert_close(deep(x), deep.layers[1](hidden))


def test_the_merger_joins_the_patches_of_a_block():
    connector = Connector(ConnectorConfig("patch_merger", 16, 24, merge_size=2, norm="layer"))
    assert [tuple(layer.weight.shape) for layer in connector.layers] == [(64, 64), (24, 64)]
    x = torch.randn(12, 16)
    out = connector(x)
    assert out.shape == (3, 24)
    torch.testing.assert_close(out[1:2], connector(x[4:8]))
