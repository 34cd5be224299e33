"""Patches in blocks: the tower gives each the features that it has row by row, and the connector joins neighbours."""

from dataclasses import replace

import pytest
import torch

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.encoded import MediaPlan
from eyespot.engine.features import patch_features
from eyespot.errors import EyespotError
from eyespot.models.connectors import Connector, ConnectorConfig
from eyespot.models.encoders.vit import VisionEncoder, VitConfig

CONFIG = VitConfig(
    hidden_size=8, num_layers=2, num_heads=2, intermediate_size=12, image_size=(16, 16), patch_size=4, class_token=True,
    interpolate_positions=True, layer_scale=True, norm="rms", qkv_bias=False, qk_norm_eps=1e-6,
)  # fmt: skip
GRIDS = ((1, 4, 4), (1, 4, 4), (1, 6, 2))  # the last as no table of positions is


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.eval()


def media(*grids: tuple[int, int, int]) -> MediaBatch:
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(sum(h * w for _, h, w in grids), 48, generator=generator)
    rows = (2, 1) if len(grids) == 3 else (len(grids),)
    return MediaBatch("image", patches, torch.tensor(grids), rows, torch.arange(0), (0,) * len(rows))


def block_order(grids, columns: bool = False) -> torch.Tensor:
    """For each place in block order, the patch's place row by row; by plain loops."""
    order, start = [], 0
    for _, height, width in grids:
        corners = [(top, left) for top in range(0, height, 2) for left in range(0, width, 2)]
        for top, left in sorted(corners, key=lambda corner: corner[::-1]) if columns else corners:
            order += [start + (top + r) * width + left + c for r in range(2) for c in range(2)]
        start += height * width
    return torch.tensor(order)


def in_blocks(batch: MediaBatch, grids, columns: bool = False) -> MediaBatch:
    plans = (MediaPlan(merge_size=2, block_order="columns" if columns else "rows"),) * len(batch.rows)
    return replace(batch, patches=batch.patches[block_order(grids, columns)], plans=plans)


@pytest.mark.parametrize("columns", [False, True], ids=["by rows", "by columns"])
@pytest.mark.parametrize("grids", [GRIDS, GRIDS[:2]], ids=["mixed", "equal"])
@torch.no_grad()
def test_features_in_blocks_are_those_row_by_row(grids, columns):
    tower, batch = drawn(VisionEncoder(CONFIG)), media(*grids)
    rowwise, blocked = tower.features(batch, (1, -1)), tower.features(in_blocks(batch, grids, columns), (1, -1))
    assert torch.allclose(blocked, rowwise[block_order(grids, columns)], atol=1e-6)
    maps = patch_features(tower, in_blocks(batch, grids, columns), (-1,), norm=False)
    assert torch.allclose(maps.values[0], tower.features(batch, (-1,)), atol=1e-6)


@torch.no_grad()
def test_the_law_sees_patches_in_blocks_that_nobody_told_of():
    tower, batch = drawn(VisionEncoder(CONFIG)), media(*GRIDS)
    told = in_blocks(batch, GRIDS)
    untold = replace(told, plans=())
    assert (tower.features(untold) - tower.features(told)).abs().max() > 1e-2


@torch.no_grad()
def test_the_shuffle_joins_the_four_of_a_block_row_by_row():
    """Against the published chain of views and transpositions."""
    config = ConnectorConfig("mlp2x_gelu", 8, 6, merge_size=2, norm="layer", norm_eps=1e-5, norm_joined=True)
    connector, features = drawn(Connector(config)), torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    half = features.view(1, 4, 2, 16).permute(0, 2, 1, 3).reshape(1, 2, 2, 32).permute(0, 2, 1, 3)
    expected = half.reshape(4, 32)
    for layer in (connector.norm, connector.layers[0], torch.nn.functional.gelu, connector.layers[1]):
        expected = layer(expected)
    assert torch.allclose(connector(features[block_order(GRIDS[:1])]), expected, atol=1e-6)


def test_a_convolutional_stem_cannot_take_blocks():
    config = CONFIG.replace(stem="conv", stem_channels=(4,))
    with pytest.raises(EyespotError, match="row by row"):
        drawn(VisionEncoder(config)).features(in_blocks(media(*GRIDS), GRIDS))


@torch.no_grad()
def test_norms_of_q_and_k_see_all_heads_at_once():
    attention = drawn(VisionEncoder(CONFIG)).blocks[0].attn
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    q, k, _ = attention.project(x)
    for made, projection, norm in ((q, attention.q_proj, attention.q_norm), (k, attention.k_proj, attention.k_norm)):
        y = projection(x)
        expected = y / (y.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
        assert torch.allclose(made.flatten(1), expected, atol=1e-6)
