"""Families whose towers take pictures of any size: what their files say, and what is refused by name."""

import json

import numpy as np
import pytest
import torch

from eyespot import families
from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.data.packing import pack
from eyespot.engine.model import Model
from eyespot.errors import EyespotError
from eyespot.families import grids
from eyespot.families.family import Context
from eyespot.inputs.messages import read_messages
from eyespot.inputs.tokenizer import words
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.nn.rope import RopeConfig
from tests.families.makers import TEMPLATE, family_named, loaded

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
TOWER = GridVitConfig()


def made(name: str, case: str = "plain") -> families.Loaded:
    """A whole checkpoint in memory, with a tokenizer that has its own ids."""
    family = family_named(name)
    config = family.tiny()[case]
    config = config.replace(decoder=config.decoder.replace(vocab_size=320))
    files = {
        "chat_template.jinja": TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
        "config.json": {"image_token_id": 4},
        "generation_config.json": {"eos_token_id": [2, 3]},
    }
    return loaded(family, config, "hf", words(["What is in the picture? A red star."], SPECIALS), **files)


def read(**raw):
    return family_named("qwen2_vl").config_from_hf({"model_type": "qwen2_vl", **raw}, (), {})


def rule(**settings) -> ImageRule:
    return grids.image_rule({"preprocessor_config.json": settings}, TOWER)


def test_an_empty_config_means_the_published_defaults():
    config = read(hidden_size=3584, num_attention_heads=28, num_key_value_heads=4)
    assert config.vision == GridVitConfig()
    assert config.decoder.rope == RopeConfig(1e6, sections=(16, 24, 24))
    assert (config.connector.kind, config.connector.sizes) == ("patch_merger", (5120, 5120, 3584))
    assert (config.select_layers, config.decoder.qkv_bias, config.decoder.o_bias) == ((-1,), True, False)


def test_the_nested_form_reads_as_the_flat_one():
    text = {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-6}
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "mrope", "mrope_section": [20, 22, 22]}}
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "mrope_section": [20, 22, 22]}}
    assert read(**text, **old) == read(text_config={**text, **new})


@pytest.mark.parametrize(("raw", "key"), [
    ({"hidden_size": 2048, "num_attention_heads": 16}, "vision_config.hidden_size"),
    ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 23]}}, "mrope_section"),
    ({"rope_scaling": {"type": "mrope", "mrope_section": [32, 32]}}, "mrope_section"),
    ({"rope_scaling": {"rope_type": "default", "mrope_interleaved": True}}, "mrope_interleaved"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_type"),
    ({"head_dim": 64}, "head_dim"),
    ({"vision_config": {"hidden_size": 8192, "num_heads": 7}}, "vision_config.num_heads"),
    ({"vision_config": {"hidden_size": 8192, "patch_size": [14, 16]}}, "vision_config.patch_size"),
    ({"vision_config": {"hidden_size": 8192, "patch_size": 10**6}}, "vision_config.patch_size"),
    ({"vision_config": {"hidden_size": 8192, "spatial_merge_size": 0}}, "vision_config.spatial_merge_size"),
    ({"vision_config": {"hidden_size": 8192, "rope_parameters": {"rope_type": "yarn"}}}, "rope_type"),
    ({"vision_config": {"hidden_size": 8192, "hidden_act": "mish"}}, "hidden_act"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(raw, key):
    with pytest.raises(EyespotError) as caught:
        read(**raw)
    assert caught.value.code == "family-config"
    assert key in caught.value.message


def test_both_spellings_of_the_bounds_are_read_and_the_older_comes_first():
    assert (rule().min_pixels, rule().max_pixels) == (3136, 1003520)
    assert rule(min_pixels=4, max_pixels=9).max_pixels == 9
    assert rule(size={"shortest_edge": 5, "longest_edge": 70}).min_pixels == 5
    assert rule(size={"min_pixels": 6, "max_pixels": 70}).min_pixels == 6
    both = rule(size={"shortest_edge": 5, "longest_edge": 70}, max_pixels=80)
    assert (both.min_pixels, both.max_pixels) == (5, 80)
    assert rule(image_processor_type="Qwen2_5_VLImageProcessor") == rule()  # as early files of Qwen2.5-VL name it


@pytest.mark.parametrize(("settings", "key"), [
    ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type"),
    ({"patch_size": 16}, "patch_size"),
    ({"merge_size": 1}, "merge_size"),
    ({"do_resize": False}, "do_resize"),
    ({"resample": 9}, "resample"),
    ({"min_pixels": 10, "max_pixels": 9}, "min_pixels"),
    ({"min_pixels": 10**9, "max_pixels": 10**10}, "min_pixels"),
    ({"size": {"height": 3, "width": 4}}, "min_pixels"),
    ({"max_pixels": "many"}, "max_pixels"),
])  # fmt: skip
def test_a_processor_that_cannot_be_followed_is_refused_by_name(settings, key):
    with pytest.raises(EyespotError, match=key) as caught:
        rule(**settings)
    assert caught.value.code == "family-config"


def test_a_written_processor_file_reads_as_it_was():
    wanted = rule(min_pixels=100, max_pixels=5000, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2)
    assert grids.image_rule({"preprocessor_config.json": grids.image_file(wanted)}, TOWER) == wanted


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_a_fresh_export_names_the_tokenizers_own_ids_and_keeps_a_video_processors_file(name, tmp_path):
    families.save(made(name), tmp_path / "a", layout="hf")
    raw = json.loads((tmp_path / "a" / "config.json").read_text())
    ids = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    assert [raw[key] for key in ids] == [4, 5, 6, 7]
    (tmp_path / "a" / "video_preprocessor_config.json").write_text('{"fps": 2}')
    (tmp_path / "a" / "eyespot.json").unlink()
    families.save(families.load(tmp_path / "a"), tmp_path / "b")
    assert json.loads((tmp_path / "b" / "video_preprocessor_config.json").read_text()) == {"fps": 2}


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_pictures_of_any_size_are_answered_and_cached_tokens_are_those_of_the_whole_row(name, tmp_path):
    families.save(made(name), tmp_path)
    model = Model(families.load(tmp_path))
    model.contract = model.processor.contract = model.contract.replace(
        image=model.contract.image.replace(min_pixels=64, max_pixels=4096)
    )
    rng = np.random.default_rng(0)
    sizes = ((9, 40), (64, 64), (3, 200))
    pictures = [{"type": "image", "image": rng.integers(0, 256, (*size, 3), np.uint8)} for size in sizes]
    parts = [{"type": "text", "text": "What"}, *pictures]
    messages = read_messages([{"role": "user", "content": parts}])
    encoded = model.processor.encode(messages, add_generation_prompt=True)
    assert [m.grid_thw.tolist() for m in encoded.media] == [[[1, 2, 10]], [[1, 16, 16]], [[1, 2, 18]]]
    batch = pack([encoded])
    assert batch.position_ids.shape == (3, len(encoded.input_ids))
    reply = model.generate([messages], max_new_tokens=6)[0]
    assert model.chat([{"role": "user", "content": parts}], max_new_tokens=6).text == reply.text


def test_a_tower_for_any_size_has_no_place_in_a_llava(tmp_path):
    families.save(made("qwen2_vl"), tmp_path)
    opened = families.open_part("vision_encoder", tmp_path)
    assert isinstance(opened.config, GridVitConfig)
    with pytest.raises(EyespotError, match="any size") as caught:
        families.compose(tmp_path, tmp_path)
    assert caught.value.code == "compose-mismatch"
    llava = family_named("llava")
    assert not llava.holds(made("qwen2_vl").config)


@pytest.mark.parametrize(("vision", "key"), [
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"window_size": 27}, "window_size"),
    ({"fullatt_block_indexes": 3}, "fullatt_block_indexes"),
    ({"intermediate_size": 0}, "intermediate_size"),
    ({"out_hidden_size": 8}, "out_hidden_size"),
])  # fmt: skip
def test_a_tower_with_windows_refuses_what_it_cannot_do_by_name(vision, key):
    family = family_named("qwen2_5_vl")
    raw = {"model_type": "qwen2_5_vl", "vision_config": {"out_hidden_size": 8192, **vision}}
    with pytest.raises(EyespotError, match=key) as caught:
        family.config_from_hf(raw, (), {})
    assert caught.value.code == "family-config"


def test_the_rate_of_places_in_video_is_kept_in_the_contract(tmp_path):
    family = family_named("qwen2_5_vl")
    files = {"config.json": {"vision_config": {"tokens_per_second": 2}, "image_token_id": 9}}
    model = loaded(family, family.tiny()["plain"], "hf", **files)
    assert model.contract.image.tokens_per_second == 2.0
    families.save(model, tmp_path, layout="hf")
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"]["tokens_per_second"] == 2
    with pytest.raises(EyespotError, match="tokens_per_second"):
        family.contract_from_hf({"config.json": {"vision_config": {"tokens_per_second": 0}}}, model.config, None)


def test_frames_have_bounds_of_their_own_or_the_pictures():
    family = family_named("qwen2_vl")
    config = family.tiny()["plain"]

    def bounds(**files):
        video = family.contract_from_hf(files, config, None).video
        return video.min_pixels, video.max_pixels

    assert bounds() == (128 * 784, 768 * 784)
    own = {"patch_size": 4}
    assert bounds(**{"preprocessor_config.json": own | {"min_pixels": 9, "max_pixels": 99}}) == (9, 99)
    files = {"preprocessor_config.json": own | {"min_pixels": 9, "max_pixels": 99}}
    files["video_preprocessor_config.json"] = {"size": {"shortest_edge": 7, "longest_edge": 77}}
    assert bounds(**files) == (7, 77)


def test_frames_are_chosen_as_the_file_says_or_as_the_authors_do():
    family = family_named("qwen2_vl")
    config = family.tiny()["plain"]

    def frames(**keys):
        return family.contract_from_hf(
            {"video_preprocessor_config.json": {"patch_size": 4, **keys}}, config, None
        ).frames

    total = int(128000 * 8 * 8 * 0.9)
    assert frames() == FrameRule(2.0, 4, 768, 2, "ends", total)
    asked = frames(do_sample_frames=True, fps=1, min_frames=2, max_frames=60, cap_pixels_per_frame=False)
    assert asked == FrameRule(1.0, 2, 60, 2, "steps", None)
    assert frames(num_frames=16, fps=None) == FrameRule(None, 1, 16, 2, "ends", total)
    assert [frames(num_frames=n, fps=None).max_frames for n in (1, 3, 7)] == [2, 4, 8]  # as transformers rounds
    for keys in ({"fps": 0}, {"min_frames": 9, "max_frames": 8}, {"max_frames": "many"}, {"num_frames": 1.5}):
        with pytest.raises(EyespotError) as caught:
            frames(**keys)
        assert caught.value.code == "family-config"


@pytest.mark.parametrize("rule", [
    FrameRule(1.5, 2, 60, 2, "steps", None), FrameRule(2.0, 4, 768, 2, "ends", 7_372_800),
    FrameRule(None, 1, 16, 2, "ends", 57_600),
])  # fmt: skip
def test_a_rule_for_frames_goes_out_and_comes_back(rule):
    family = family_named("qwen2_vl")
    config = family.tiny()["plain"]
    contract = family.contract_from_hf({}, config, None).replace(frames=rule)
    assert family.contract_from_hf(family.contract_to_hf(contract, config), config, None).frames == rule


def test_a_tokenizer_without_the_video_token_means_no_videos():
    family = family_named("qwen2_vl")
    config = family.tiny()["plain"]
    config = config.replace(decoder=config.decoder.replace(vocab_size=320))
    files = {"config.json": {"image_token_id": 4}}
    contract = family.contract_from_hf(files, config, words(["What?"], SPECIALS[:5]))
    assert contract.video is None
    assert contract.text.video_token is None


def test_a_model_that_the_form_cannot_express_names_the_field():
    model = made("qwen2_vl")
    form = family_named("qwen2_vl").layouts["hf"]
    vision = model.config.vision
    for changed, field in (
        (model.config.replace(vision=vision.replace(intermediate_size=33)), "intermediate_size"),
        (model.config.replace(vision=vision.replace(window_size=8)), "window_size"),
        (model.config.replace(select_layers=(-2,)), "select_layers"),
        (model.config.replace(decoder=model.config.decoder.replace(qk_norm=True)), "qk_norm"),
    ):
        with pytest.raises(EyespotError, match=field) as caught:
            form.config_to_hf(changed, Context())
        assert caught.value.code == "layout-unsupported"


def test_the_kernel_over_frames_is_the_linear_map_of_a_raw_patch():
    config = family_named("qwen2_vl").tiny()["plain"]
    kernel = torch.randn(16, 3, 2, 4, 4)
    ours = grids.keymap(config, "visual.", "model.").to_ours({"visual.patch_embed.proj.weight": kernel})
    patch = torch.randn(5, 3, 2, 4, 4)
    expected = torch.nn.functional.conv3d(patch, kernel).flatten(1)
    made = patch.flatten(1) @ ours["vision_encoder.stem.proj.weight"].T
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)
