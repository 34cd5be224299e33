"""Config translation: what keys mean, what their absence means, and what is refused by name."""

import pytest

from eyespot.errors import EyespotError
from eyespot.families.decoders import read_rope
from eyespot.families.family import Context
from eyespot.models.decoder import DecoderConfig
from eyespot.models.vlm import VlmConfig
from eyespot.nn.rope import RopeConfig
from tests.families.makers import family_named


def read(name: str, names=(), **raw):
    return family_named(name).config_from_hf({"model_type": name, **raw}, names, {})


def refused(name: str, **raw) -> str:
    with pytest.raises(EyespotError) as caught:
        read(name, **raw)
    assert caught.value.code == "family-config"
    return caught.value.message


@pytest.mark.parametrize(("name", "expected"), [
    ("llama", {"hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000, "head_dim": None}),
    ("mistral", {"num_kv_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072}),
    ("qwen2", {"vocab_size": 151936, "qkv_bias": True, "o_bias": False, "sliding_window": None}),
    ("qwen3", {"vocab_size": 151936, "qk_norm": True, "qkv_bias": False, "num_kv_heads": 32}),
])  # fmt: skip
def test_an_empty_config_means_the_published_defaults(name, expected):
    decoder = read(name).decoder
    assert {key: getattr(decoder, key) for key in expected} == expected
    assert decoder.rope == RopeConfig(theta=10000.0)


def test_mistrals_window_is_on_when_the_key_is_absent_and_off_when_it_is_null():
    assert read("mistral").decoder.sliding_window == 4096
    assert read("mistral", sliding_window=None).decoder.sliding_window is None
    assert read("mistral", sliding_window=7).decoder.window(31) == 7


def test_qwen_has_a_window_only_where_the_config_switches_it_on():
    shared = {"num_hidden_layers": 4, "sliding_window": 8}
    assert read("qwen2", **shared).decoder.sliding_window is None
    upper = read("qwen2", use_sliding_window=True, max_window_layers=3, **shared).decoder
    assert [upper.window(i) for i in range(4)] == [None, None, None, 8]
    kinds = ["sliding_attention", "full_attention"] * 2
    listed = read("qwen3", use_sliding_window=True, layer_types=kinds, **shared).decoder
    assert [listed.window(i) for i in range(4)] == [8, None, 8, None]


def test_a_null_key_value_count_means_plain_attention():
    assert read("llama", num_attention_heads=16, num_key_value_heads=None).decoder.num_kv_heads == 16


def test_llamas_attention_bias_is_on_all_four_projections_and_qwen2s_on_three():
    llama, qwen2 = read("llama", attention_bias=True).decoder, read("qwen2").decoder
    assert (llama.qkv_bias, llama.o_bias) == (True, True)
    assert (qwen2.qkv_bias, qwen2.o_bias) == (True, False)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(("raw", "expected"), [
    ({"rope_theta": 5e5}, RopeConfig(5e5)),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, RopeConfig(1e6)),
    ({"rope_theta": 1e6, "rope_scaling": None}, RopeConfig(1e6)),
    ({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}, RopeConfig(1e6, "linear", 2.0)),
    ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}}, RopeConfig(1e6, "linear", 2.0)),
    ({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **LLAMA3}}, RopeConfig(5e5, "llama3", 8.0, 1.0, 4.0, 64)),
])  # fmt: skip
def test_both_spellings_of_rope_are_read(raw, expected):
    assert read_rope({"max_position_embeddings": 128, **raw}) == expected


def test_a_rope_without_its_original_length_takes_the_models():
    scaling = {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}
    rope = read_rope({"max_position_embeddings": 99, "rope_scaling": {"rope_type": "llama3", **scaling}})
    assert rope.original_max_position_embeddings == 99


@pytest.mark.parametrize(("name", "raw", "key"), [
    ("llama", {"hidden_act": "gelu"}, "hidden_act"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_type"),
    ("llama", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "rope_type"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama", {"num_attention_heads": 0}, "num_attention_heads"),
    ("llama", {"hidden_size": "many"}, "hidden_size"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling"),
    ("qwen2", {"use_sliding_window": True, "num_hidden_layers": 1, "layer_types": ["chunked"]}, "layer_types"),
    ("clip", {"vision_config": {"hidden_act": "mish"}}, "hidden_act"),
    ("clip", {"vision_config": {"image_size": [224, 336]}}, "image_size"),
    ("clip", {"vision_config": {"patch_size": 0}}, "patch_size"),
    ("clip", {"text_config": {"eos_token_id": [1, 2]}}, "eos_token_id"),
    ("siglip", {"vision_config": 3}, "vision_config"),
    ("llava", {"vision_config": {"model_type": "pixtral"}}, "vision_config.model_type"),
    ("llava", {"text_config": {"model_type": "gemma"}}, "text_config.model_type"),
    ("llava", {"projector_hidden_act": "relu"}, "projector_hidden_act"),
    ("llava", {"vision_config": {"model_type": "siglip_vision_model"}}, "vision_feature_select_strategy"),
    ("llava", {"vision_feature_layer": -26}, "vision_feature_layer"),
    ("llava_next", {"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy"),
    ("llava_next", {"vision_config": {"model_type": "pixtral"}}, "vision_config.model_type"),
    ("siglip2", {"vision_config": {"num_patches": 10}}, "vision_config.num_patches"),
    ("siglip2", {"vision_config": {"num_patches": "many"}}, "vision_config.num_patches"),
    ("eyespot", {"kind": "quintuple"}, "kind"),
    ("eyespot", {"kind": "vlm", "version": 99}, "version"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(name, raw, key):
    assert key in refused(name, **raw)


def test_dropout_and_unknown_keys_are_no_reason_to_refuse():
    read("llama", attention_dropout=0.1, auto_map={"AutoModel": "evil.Evil"}, _target_="os.system", something=[1])


def test_clips_legacy_configs_win_with_their_defaults():
    raw = {
        "text_config": {"hidden_size": 64, "vocab_size": 9},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
    }
    text = read("clip", projection_dim=768, **raw).text
    assert (text.hidden_size, text.num_heads, text.projection_size) == (768, 12, 768)
    assert text.vocab_size == 49408  # what the legacy config leaves out is the default, not the newer config's value


def test_clips_end_token_2_means_the_largest_id():
    assert read("clip", text_config={"eos_token_id": 2}).text.pool == "argmax"
    assert read("clip", text_config={"eos_token_id": 49407}).text.pool == "eos"


def test_siglips_text_width_is_its_hidden_size_unless_said():
    assert read("siglip").text.projection_size == 768
    assert read("siglip", text_config={"projection_size": 12}).text.projection_size == 12


def test_an_empty_llava_config_is_llava_15():
    config = read("llava")
    assert (config.vision.hidden_size, config.vision.image_size, config.vision.patch_size) == (1024, (336, 336), 14)
    assert config.vision.projection_size is None
    assert (config.decoder.hidden_size, config.connector.kind) == (4096, "mlp2x_gelu")
    assert (config.select_layers, config.keep_class) == ((-2,), False)


def test_an_empty_llava_next_config_is_llava_16():
    config = read("llava_next")
    assert config == read("llava").replace(newline=True)
    assert read("llava_next", text_config=TIED_QWEN2).decoder.tie_word_embeddings is False  # the outer key decides
    assert read("llava", text_config=TIED_QWEN2).decoder.tie_word_embeddings is True


def test_a_partial_vision_config_falls_back_to_clips_defaults_not_llavas():
    assert read("llava", vision_config={"patch_size": 16}).vision.hidden_size == 768


def test_several_taps_widen_the_connector():
    config = read("llava", vision_feature_layer=[-2, -5], vision_feature_select_strategy="full")
    assert (config.select_layers, config.connector.input_size, config.keep_class) == ((-2, -5), 2048, True)


TIED_QWEN2 = {"model_type": "qwen2", "tie_word_embeddings": True}
HEAD = "language_model.lm_head.weight"


@pytest.mark.parametrize(("name", "head", "raw", "tied"), [
    ("llama", "lm_head.weight", {}, False),
    ("llama", "lm_head.weight", {"tie_word_embeddings": True}, False),  # the file has a head: it counts
    ("llama", None, {"tie_word_embeddings": True}, True),
    ("llama", None, {}, True),
    ("llama", None, {"tie_word_embeddings": False}, False),  # a head is missing, and loading will say so
    ("llava", HEAD, {"tie_word_embeddings": True}, False),
    ("llava", None, {"text_config": TIED_QWEN2}, True),
    ("llava", None, {"text_config": TIED_QWEN2, "tie_word_embeddings": False}, True),
    ("llava", None, {"tie_word_embeddings": False}, False),
    ("llava_next", HEAD, {"tie_word_embeddings": True}, False),
    ("llava_next", None, {"tie_word_embeddings": True}, True),
])  # fmt: skip
def test_the_file_decides_whether_the_head_is_tied(name, head, raw, tied):
    names = ["model.embed_tokens.weight", *([head] if head else [])]
    assert read(name, names, **raw).decoder.tie_word_embeddings is tied


def test_a_form_that_cannot_express_a_decoder_names_the_field():
    qwen3 = DecoderConfig(qk_norm=True, head_dim=64)
    with pytest.raises(EyespotError, match=r"decoder\.qk_norm") as caught:
        family_named("llama").layouts["hf"].config_to_hf(VlmConfig(qwen3), Context())
    assert caught.value.code == "layout-unsupported"


def test_a_written_rope_agrees_in_both_spellings():
    decoder = family_named("llama").tiny()["llama3-rope"]
    raw = family_named("llama").layouts["hf"].config_to_hf(decoder, Context())
    new, old = dict(raw, rope_theta=None, rope_scaling=None), dict(raw, rope_parameters=None)
    assert read_rope(new) == read_rope(old) == decoder.decoder.rope
