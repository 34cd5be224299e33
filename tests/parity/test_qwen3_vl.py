"""Qwen3-VL against `transformers` where it differs from its predecessors; what they share is in test_qwen_vl.py."""

import json

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

import eyespot
from eyespot import families
from eyespot.models.encoders.grid_vit import grid_layout
from eyespot.nn.rope import RopeConfig, rotary_tables
from tests.families.makers import family_named
from tests.parity.grid_references import PROCESSORS, processor, qwen3_vl
from tests.parity.references import BAR, picture, relative, user
from tests.parity.test_qwen_vl import inputs_of

pytestmark = pytest.mark.parity

# As the hub has them: Qwen3-VL-2B and -4B share the smaller tower, the others have the larger one.
SMALL = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16, "in_channels": 3,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304, "model_type": "qwen3_vl",
    "hidden_act": "gelu_pytorch_tanh", "deepstack_visual_indexes": [5, 11, 17], "initializer_range": 0.02,
}  # fmt: skip
LARGE = SMALL | {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24],
}  # fmt: skip
PUBLISHED = {  # width, inner width, layers, heads, tied, tower
    "4B": (2560, 9728, 36, 32, True, SMALL),
    "32B": (5120, 25600, 64, 64, False, LARGE),
}


def published(size: str) -> dict:
    """config.json as `transformers` 4.57 wrote it."""
    width, inner, layers, heads, tied, tower = PUBLISHED[size]
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": width, "initializer_range": 0.02,
        "intermediate_size": inner, "max_position_embeddings": 262144, "model_type": "qwen3_vl_text",
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000, "tie_word_embeddings": tied, "use_cache": True, "vocab_size": 151936,
    }  # fmt: skip
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": text,
        "vision_config": tower | {"out_hidden_size": width}, "tie_word_embeddings": tied,
        "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
        "vision_end_token_id": 151653, "transformers_version": "4.57.0.dev0",
    }  # fmt: skip


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_their_names_and_shapes(size):
    raw, family = published(size), family_named("qwen3_vl")
    with torch.device("meta"):
        theirs = hf.Qwen3VLForConditionalGeneration(hf.Qwen3VLConfig.from_dict(raw)).state_dict()
    tied = raw["tie_word_embeddings"]
    wanted = {name: tuple(t.shape) for name, t in theirs.items() if not (tied and name == "lm_head.weight")}
    config = family.config_from_hf(raw, tuple(wanted), {})
    made = family.layouts["hf"].keymap(config).to_theirs(families.build(config, "meta").state_dict())
    assert {name: tuple(t.shape) for name, t in made.items()} == wanted


@torch.no_grad()
def test_a_config_as_the_hub_has_it_gives_the_same_model(tmp_path):
    reference = qwen3_vl("wide")
    reference.save_pretrained(tmp_path)
    theirs, messages = processor(tmp_path, **PROCESSORS["qwen3_vl"]), user("What?", picture(90, 70), "And here?")
    expected = reference(**inputs_of(theirs, messages)).logits[0]
    raw = json.loads((tmp_path / "config.json").read_text())
    rope = raw["text_config"].pop("rope_parameters")
    raw["text_config"]["rope_theta"] = rope.pop("rope_theta")
    raw["text_config"]["rope_scaling"] = rope
    raw["vision_config"] |= {"model_type": "qwen3_vl", "rope_parameters": None}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model = eyespot.load(tmp_path)
    assert relative(model.trace(messages).logits, expected) <= BAR["wide"]


GRID = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(grids=st.lists(GRID, min_size=1, max_size=3), merge=st.integers(1, 3), side=st.integers(1, 50))
def test_the_table_of_positions_is_stretched_as_theirs(grids, merge, side):
    grids = tuple((t, h * merge, w * merge) for t, h, w in grids)
    layout = grid_layout(grids, merge, None, torch.device("cpu"), side)
    rows, weights = get_vision_interpolation_indices_and_weights(
        torch.tensor(grids), num_grid_per_side=side, align_corners=True, spatial_merge_size=merge
    )
    table = torch.randn(side**2, 3, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    ours = (table[layout.corners] * layout.weights[..., None]).sum(1)
    torch.testing.assert_close(ours, (table[rows] * weights[..., None]).sum(1), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sections=st.tuples(*[st.integers(0, 9)] * 3).filter(lambda s: sum(s) > 0), seed=st.integers(0, 9))
def test_axes_take_turns_as_theirs(sections, seed):
    size = 2 * sum(sections)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": list(sections), "mrope_interleaved": True}
    text = hf.Qwen3VLConfig(text_config={"head_dim": size, "rope_parameters": rope}).text_config
    places = torch.randint(0, 5000, (3, 7), generator=torch.Generator().manual_seed(seed))
    cos, sin = Qwen3VLTextRotaryEmbedding(text)(torch.zeros(1), places[:, None])
    ours = rotary_tables(places, RopeConfig(5e6, sections=sections, interleaved=True), size, torch.float32)
    torch.testing.assert_close(ours, (cos[0], sin[0]), rtol=0, atol=1e-6)
