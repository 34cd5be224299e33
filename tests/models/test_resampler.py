"""The resampler: as many tokens as queries, each picture by itself, places in keys and queries only."""

import pytest
import torch

from eyespot.errors import EyespotError
from eyespot.models.connectors import ConnectorConfig, build_connector
from eyespot.models.resampler import Resampler, sine_table

GRIDS = [(1, 6, 6), (1, 3, 3), (1, 4, 6)]


@pytest.fixture
def resampler() -> Resampler:
    torch.manual_seed(0)
    made = build_connector(ConnectorConfig("resampler", 12, 16, num_queries=9, num_heads=2))
    assert isinstance(made, Resampler)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def test_pictures_of_several_sizes_packed_equal_each_alone(resampler):
    pictures = [torch.randn(t * h * w, 12) for t, h, w in GRIDS]
    together = resampler(torch.cat(pictures), GRIDS).split(9)
    for tokens, picture, grid in zip(together, pictures, GRIDS, strict=True):
        torch.testing.assert_close(tokens, resampler(picture, [grid]), rtol=1e-4, atol=1e-5)


def test_where_a_feature_stands_matters(resampler):
    picture = torch.randn(9, 12)
    assert not torch.allclose(resampler(picture, [GRIDS[1]]), resampler(picture.flip(0), [GRIDS[1]]), atol=1e-2)


def test_without_places_in_the_keys_features_are_a_set(resampler):
    torch.nn.init.zeros_(resampler.position_embedding)
    picture = torch.randn(9, 12)
    torch.testing.assert_close(
        resampler(picture, [GRIDS[1]]), resampler(picture.flip(0), [GRIDS[1]]), rtol=1e-4, atol=1e-5
    )


def test_the_table_has_the_column_first_and_sines_before_cosines():
    table = sine_table(3, 8)
    column, row = torch.tensor(2.0), torch.tensor(1.0)
    slow = 10000**-0.5
    place = 3 * 1 + 2
    wanted = [(column).sin(), (column * slow).sin(), column.cos(), (column * slow).cos()]
    wanted += [row.sin(), (row * slow).sin(), row.cos(), (row * slow).cos()]
    torch.testing.assert_close(table[place], torch.stack(wanted))


def test_the_table_is_stored_and_not_trained(resampler):
    assert "position_embedding" in resampler.state_dict()
    assert "position_embedding" not in dict(resampler.named_parameters())


def test_features_of_the_tokens_width_are_read_as_they_are():
    assert build_connector(ConnectorConfig("resampler", 16, 16, num_queries=4, num_heads=2)).kv_proj is None


@pytest.mark.parametrize("wrong", [{"num_queries": 8}, {"num_queries": 0}, {"num_heads": 3}, {"output_size": 18}])
def test_what_cannot_be_built_is_refused(wrong):
    with pytest.raises(EyespotError) as caught:
        ConnectorConfig("resampler", 12, **{"output_size": 16, "num_queries": 9, "num_heads": 2, **wrong})
    assert caught.value.code == "config-value"
