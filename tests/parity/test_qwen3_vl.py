"""Qwen3-VL against `transformers` where it differs from its predecessors; what they share is in test_qwen_vl.py."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import video_processing_utils
from transformers.image_utils import SizeDict
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata
from transformers.vision_utils import get_vision_interpolation_indices_and_weights

import eyespot
from eyespot import families
from eyespot.contracts.contract import FrameRule
from eyespot.data.packing import pack
from eyespot.inputs.frames import choose_frames
from eyespot.inputs.messages import read_messages
from eyespot.inputs.resize import MAX_RATIO, at_least, smart_resize_frames
from eyespot.models.encoders.grid_vit import grid_layout
from eyespot.nn.rope import RopeConfig, rotary_tables
from tests.families.makers import family_named
from tests.parity.grid_references import PROCESSORS, processor, qwen3_vl, video_processor
from tests.parity.references import BAR, DRAWS, picture, relative, user
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


LEAST, MOST = 64 * 64, 40000  # of all frames of a video


@pytest.fixture(scope="module")
def films():
    """Their video processor, bare."""
    with video_processor("qwen3_vl.video_processing_qwen3_vl", "Qwen3VLVideoProcessor") as made:
        yield made


@pytest.mark.parametrize("draw", DRAWS)
@torch.no_grad()
def test_videos_agree_time_by_time_between_pictures_and_text(draw, films, tmp_path):
    """Written as when the model came out; in a conversation of their version a pair of marks more stands around."""
    reference = qwen3_vl(draw)
    reference.save_pretrained(tmp_path)
    theirs = processor(tmp_path, Qwen3VLProcessor, **PROCESSORS["qwen3_vl"])
    size = {"size": {"shortest_edge": LEAST, "longest_edge": MOST}}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(size))
    model = eyespot.load(tmp_path)
    long, short = [picture(70, 61, seed) for seed in range(9)], [picture(33, 120, seed) for seed in range(2)]
    parts = [
        {"type": "text", "text": "First"}, {"type": "image", "image": picture(64, 90)},
        {"type": "video", "video": long, "fps": 1.6}, {"type": "text", "text": "then"},
        {"type": "video", "video": short, "fps": 24.0}, {"type": "text", "text": "What is it?"},
    ]  # fmt: skip
    messages = [{"role": "user", "content": parts}]
    encoded = model.processor.encode(read_messages(messages), add_generation_prompt=True)
    still, *moving = encoded.media
    assert [m.grid_thw.tolist() for m in moving] == [[[1, 4, 4]] * 5, [[1, 8, 2]]]  # more times than half a side

    grids = torch.tensor([[len(m.grid_thw), *m.grid_thw[0, 1:].tolist()] for m in moving])
    text = theirs.apply_chat_template(messages, add_generation_prompt=True)
    text = text.replace("<|image_pad|>", "<|image_pad|>" * (len(still.patches) // 4))
    for i, (frames, fps) in enumerate(((long, 1.6), (short, 24.0))):
        facts = {"video_metadata": {i: SimpleNamespace(fps=fps, frames_indices=list(range(len(frames))))}}
        written = theirs.replace_video_token({"video_grid_thw": grids, **facts}, i).replace(
            "<|video_pad|>", "<|frame|>"
        )
        text = text.replace("<|vision_start|><|video_pad|><|vision_end|>", written, 1)
    text = text.replace("<|frame|>", "<|video_pad|>")
    assert encoded.input_ids.tolist() == theirs.tokenizer(text)["input_ids"]

    pixels = []
    for m, frames in zip(moving, (long, short), strict=True):
        shape = tuple(16 * n for n in m.grid_thw[0, 1:][::-1].tolist())
        whole = torch.stack([torch.tensor(np.asarray(f.resize(shape, 3))) for f in frames]).permute(0, 3, 1, 2)
        rows = films.patchify(whole[None] / 255.0 * 2 - 1, 16, 2, 2)[0]
        pixels.append(rows.flatten(0, -2))
        assert (pixels[-1] - torch.as_tensor(m.patches)).abs().max() <= 1e-6
    kinds = torch.zeros(1, len(encoded.input_ids), dtype=torch.int)
    kinds[0, still.slots] = 1
    kinds[0, np.concatenate([m.slots for m in moving])] = 2
    batch = pack([encoded])
    picture_grid = torch.as_tensor(still.grid_thw)
    places, _ = reference.model.get_rope_index(batch.input_ids[None], kinds, picture_grid, grids)
    assert torch.equal(batch.position_ids, places[:, 0])
    logits = reference(
        input_ids=batch.input_ids[None], mm_token_type_ids=kinds, pixel_values=torch.as_tensor(still.patches),
        image_grid_thw=picture_grid, pixel_values_videos=torch.cat(pixels), video_grid_thw=grids,
    ).logits[0]  # fmt: skip
    assert relative(model.module.logits(model.module(batch).last), logits) <= BAR[draw]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 2200), width=st.integers(1, 2200), count=st.integers(2, 1200), least=st.integers(1, 10**6),
    more=st.integers(0, 10**8),
)  # fmt: skip
def test_sizes_of_frames_are_theirs_for_any_number_of_them(films, height, width, count, least, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_processing_utils.BaseVideoProcessor, "resize", lambda self, image, size, resample: size)
        try:
            size = films.resize(
                SimpleNamespace(shape=(1, count, 3, height, width)),
                SizeDict(shortest_edge=least, longest_edge=least + more), 3, 32, 2,
            )  # fmt: skip
        except ValueError:
            assert max(at_least(height, width, 32)) > MAX_RATIO * min(at_least(height, width, 32))
            return
    ours = smart_resize_frames(count, *at_least(height, width, 32), 32, 2, least, least + more)
    assert ours == (size.height, size.width)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    total=st.integers(2, 60000), rate=st.sampled_from([5.0, 12.5, 23.976, 24.0, 30000 / 1001, 30.0, 60.0]),
    fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
)  # fmt: skip
def test_the_frames_of_a_film_are_theirs(films, total, rate, fps):
    expected = films.sample_frames(VideoMetadata(total_num_frames=total, fps=rate), fps=fps).tolist()
    rule = FrameRule(fps=fps, multiple=1, spacing="ends_double")
    assert choose_frames(total, rate, rule).tolist() == expected


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
