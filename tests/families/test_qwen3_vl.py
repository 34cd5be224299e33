"""Qwen3-VL: what its files say, and what is refused by name."""

import pytest

from eyespot import families
from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families.family import Context
from eyespot.families.loading import family_of
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.nn.rope import RopeConfig
from tests.families.makers import family_named

FAMILY = family_named("qwen3_vl")
TEXT = {"hidden_size": 3584, "num_key_value_heads": 8}


def read(vision=(), **text):
    raw = {"model_type": "qwen3_vl", "text_config": {**TEXT, **text}, "vision_config": dict(vision)}
    return FAMILY.config_from_hf(raw, (), {})


def test_an_empty_config_means_the_published_defaults():
    config = read()
    assert config.vision == GridVitConfig(
        hidden_size=1152, num_layers=27, intermediate_size=4304, patch_size=16, patch_bias=True, activation="gelu_tanh",
        table_size=48,
    )  # fmt: skip
    assert config.decoder.rope == RopeConfig(5e5, sections=(24, 20, 20), interleaved=True)
    assert (config.decoder.qk_norm, config.decoder.qkv_bias, config.decoder.channels) == (True, False, 128)
    assert (config.select_layers, config.deep_layers) == ((-1,), (9, 17, 25))
    assert config.connector.sizes == config.deep_connector.sizes == (4608, 4608, 3584)
    assert (config.connector.norm_joined, config.deep_connector.norm_joined) == (False, True)


def test_pictures_are_prepared_as_published_where_no_file_says_how():
    contract = FAMILY.contract_from_hf({}, FAMILY.tiny()["plain"], None)
    rule = contract.image
    assert (rule.min_pixels, rule.max_pixels, rule.mean, rule.std) == (65536, 16777216, (0.5,) * 3, (0.5,) * 3)
    assert (contract.coordinates, rule.positions, rule.merge_size) == ("thousand", "grid", 2)
    assert isinstance(contract, Contract)


@pytest.mark.parametrize(("vision", "text", "key"), [
    ({"num_position_embeddings": 2305}, {}, "num_position_embeddings"),
    ({"num_position_embeddings": 4**20}, {}, "num_position_embeddings"),
    ({"deepstack_visual_indexes": [16, 8]}, {}, "deepstack_visual_indexes"),
    ({"deepstack_visual_indexes": [8, 8]}, {}, "deepstack_visual_indexes"),
    ({"deepstack_visual_indexes": [27]}, {}, "deepstack_visual_indexes"),
    ({"deepstack_visual_indexes": "8"}, {}, "deepstack_visual_indexes"),
    ({"deepstack_visual_indexes": [1, 2]}, {"num_hidden_layers": 1}, "deepstack_visual_indexes"),
    ({"hidden_act": "mish"}, {}, "hidden_act"),
    ({}, {"rope_scaling": {"rope_type": "default", "mrope_interleaved": False}}, "mrope_interleaved"),
    ({}, {"rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 19]}}, "mrope_section"),
])  # fmt: skip
def test_what_it_cannot_do_is_refused_by_name(vision, text, key):
    with pytest.raises(EyespotError, match=key) as caught:
        read(vision, **text)
    assert caught.value.code == "family-config"


def test_its_config_nests_the_decoder_and_names_the_taps_by_block():
    config = FAMILY.tiny()["plain"]
    raw = FAMILY.layouts["hf"].config_to_hf(config, Context())
    assert raw["vision_config"]["deepstack_visual_indexes"] == [0, 2]
    assert raw["text_config"]["rope_scaling"]["mrope_interleaved"] is True
    assert "hidden_size" not in raw


def test_taps_have_no_place_in_its_predecessors_nor_a_connector_alone():
    config = FAMILY.tiny()["plain"]
    with pytest.raises(EyespotError, match="interleaved") as caught:
        family_named("qwen2_vl").layouts["hf"].config_to_hf(config, Context())
    assert caught.value.code == "layout-unsupported"
    chunked = config.decoder.replace(rope=RopeConfig(sections=(1, 1, 2)), qk_norm=False, qkv_bias=True, head_dim=None)
    config = config.replace(decoder=chunked, vision=config.vision.replace(patch_bias=False, table_size=None))
    with pytest.raises(EyespotError, match="deep_layers") as caught:
        family_named("qwen2_vl").layouts["hf"].config_to_hf(config, Context())
    assert caught.value.code == "layout-unsupported"
    for changes in ({"deep_layers": ()}, {"deep_connector": None}, {"deep_layers": (1, 2, 3)}):
        with pytest.raises(EyespotError) as caught:
            config.replace(**changes)
        assert caught.value.code == "config-value"


def test_every_parameter_of_the_tower_is_read_through_the_last_tap_or_the_end():
    config = FAMILY.tiny()["plain"]
    assert families.build(config, "meta").unused() == []
    early = config.replace(select_layers=(1,), deep_layers=(2,))
    unread = families.build(early, "meta").unused()
    assert unread and all(name.startswith("vision_encoder.blocks.2.") for name in unread)


def test_the_form_with_experts_is_known_and_refused():
    with pytest.raises(EyespotError, match="experts") as caught:
        family_of({"model_type": "qwen3_vl_moe"})
    assert caught.value.code == "not-supported"
