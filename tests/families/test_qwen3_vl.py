"""Qwen3-VL: what its files say, and what is refused by name."""

import numpy as np
import pytest
import torch

from eyespot import families
from eyespot.contracts.contract import Contract, FrameRule
from eyespot.data.packing import pack
from eyespot.errors import EyespotError
from eyespot.families.family import Context
from eyespot.families.table import family_of
from eyespot.inputs.messages import read_messages
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.nn.rope import RopeConfig
from tests.families.makers import family_named
from tests.families.test_grids import made

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


def test_a_video_has_bounds_for_all_frames_and_its_times_in_words():
    config = FAMILY.tiny()["plain"]
    contract = FAMILY.contract_from_hf({}, config, None)
    rule = contract.video
    assert (rule.min_pixels, rule.max_pixels, rule.shared_pixels, rule.apart) == (4096, 25165824, True, True)
    assert contract.text.frame_form == "<{seconds} seconds><|vision_start|><|video_pad|><|vision_end|>"
    assert contract.frames == FrameRule(multiple=1, spacing="ends_double")
    name = "video_preprocessor_config.json"
    assert not {"min_pixels", "max_pixels"} & FAMILY.contract_to_hf(contract, config)[name].keys()
    own = FAMILY.contract_from_hf({name: {"patch_size": 4}}, config, None).video
    assert (own.min_pixels, own.max_pixels) == (128 * 32 * 32, 768 * 32 * 32)
    with pytest.raises(EyespotError, match="cap_pixels_per_frame"):
        FAMILY.contract_from_hf({name: {"cap_pixels_per_frame": True}}, config, None)


def test_a_video_is_written_time_by_time_each_in_a_grid_of_its_own(tmp_path):
    loaded = made("qwen3_vl")
    contract = loaded.contract
    contract = contract.replace(
        video=contract.video.replace(min_pixels=64, max_pixels=5 * 400),
        text=contract.text.replace(template=(contract.text.template or "").replace(
            "'<|vision_start|><|image_pad|><|vision_end|>'",
            "'<|vision_start|>' ~ ('<|image_pad|>' if p.type == 'image' else '<|video_pad|>') ~ '<|vision_end|>'",
        )),
    )  # fmt: skip
    loaded.contract = loaded.processor.contract = contract
    frames = [np.full((16, 24, 3), 40 * i, np.uint8) for i in range(5)]
    video, question = {"type": "video", "video": frames, "fps": 2.0}, {"type": "text", "text": "What is it?"}
    messages = read_messages([{"role": "user", "content": [video, question]}])
    encoded = loaded.processor.encode(messages, add_generation_prompt=True)
    (medium,) = encoded.media
    assert medium.grid_thw.tolist() == [[1, 4, 6]] * 3
    ids = encoded.input_ids
    start, pad, end = (loaded.tokenizer.id_of(f"<|{name}|>") for name in ("vision_start", "video_pad", "vision_end"))
    assert (ids == start).sum() == (ids == end).sum() == 3
    assert (ids[medium.slots] == pad).all() and (ids == pad).sum() == 18
    text = loaded.tokenizer.decode(ids, skip_special=False).replace(" ", "")
    assert [f"<{t}seconds><|vision_start|>" in text for t in ("0.2", "1.2", "2.0")] == [True] * 3
    batch = pack([encoded])
    first, second = (batch.position_ids[:, medium.slots[i * 6 : i * 6 + 6]] for i in (0, 1))
    assert torch.equal(second - first, (second - first)[:1, :1].expand(3, 6))
    assert (first[0] == first[0, 0]).all()
    with pytest.raises(EyespotError, match="1 frames") as caught:
        alone = {"type": "video", "video": frames[:1], "fps": 2.0}
        loaded.processor.encode(read_messages([{"role": "user", "content": [alone]}]))
    assert caught.value.code == "media-size"


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
