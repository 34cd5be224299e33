"""Films against `transformers`: the frames chosen and read, their rate, size and patches, the answer of a model.

Its video processors import torchvision, which parity does not need otherwise: an empty module stands in for it while
they are imported, and only what is their own arithmetic is called (choice of frames, sizes, patches).
"""

import json
import math
from contextlib import ExitStack
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import video_processing_utils
from transformers.image_utils import SizeDict
from transformers.video_utils import VideoMetadata, read_video_pyav

import eyespot
from eyespot.contracts.contract import FrameRule, ImageRule
from eyespot.data.packing import pack
from eyespot.inputs.frames import choose_frames, sized
from eyespot.inputs.messages import read_messages
from eyespot.inputs.resize import resized_size
from eyespot.inputs.video import decode_video, prepare_video
from tests.films import film
from tests.parity.grid_references import processor, qwen2_5_vl, qwen2_vl, video_processor
from tests.parity.references import BAR, picture, relative, user

pytestmark = pytest.mark.parity
RULE = ImageRule(
    resize="dynamic", crop=False, min_pixels=128 * 784, max_pixels=768 * 784, patch_size=14, merge_size=2,
    temporal_patch_size=2, positions="grid",
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """Their video processor, bare, with the class's own settings."""
    with video_processor("qwen2_vl.video_processing_qwen2_vl", "Qwen2VLVideoProcessor") as made:
        made.num_frames = made.fps = None
        yield made


RATES = st.sampled_from([5.0, 12.5, 23.976, 24.0, 25.0, 30000 / 1001, 30.0, 60.0])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(total=st.integers(2, 60000), rate=RATES, fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]), most=st.integers(8, 800))
def test_in_steps_the_frames_are_those_of_transformers(theirs, total, rate, fps, most):
    rule = FrameRule(fps=fps, max_frames=most, spacing="steps")
    metadata = VideoMetadata(total_num_frames=total, fps=rate)
    expected = theirs.sample_frames(metadata, fps=fps, max_frames=most).tolist()
    ours = choose_frames(total, rate, rule).tolist()
    assert ours == expected[: len(ours)]
    assert set(expected[len(ours) :]) <= {total}  # a step too many of theirs, behind the last frame, reads nothing


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    total=st.integers(2, 60000), rate=RATES, fps=st.sampled_from([0.5, 1.0, 2.0, 4.0]), least=st.integers(1, 9),
    most=st.integers(10, 800),
)  # fmt: skip
def test_from_end_to_end_the_frames_are_those_of_the_authors_rule(total, rate, fps, least, most):
    """The rule as their tools state it (`smart_nframes`, then an even spread that is rounded)."""
    least, ceiling = math.ceil(least / 2) * 2, math.floor(min(most, total) / 2) * 2
    count = math.floor(min(min(max(total / rate * fps, least), ceiling), total) / 2) * 2
    expected = torch.linspace(0, total - 1, count).round().long()
    assert choose_frames(total, rate, FrameRule(fps=fps, min_frames=least, max_frames=most)).tolist() == (
        expected.tolist()
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(height=st.integers(20, 2200), width=st.integers(20, 2200), count=st.integers(1, 1200), cap=st.booleans())
def test_sizes_of_frames_are_theirs_for_any_number_of_them(theirs, height, width, count, cap):
    if max(height, width) > 200 * min(height, width):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_processing_utils.BaseVideoProcessor, "resize", lambda self, image, size, resample: size)
        size = theirs.resize(
            SimpleNamespace(shape=(1, count, 3, height, width)), SizeDict(**theirs.size), 3, 28, 2,
            cap_pixels_per_frame=cap,
        )  # fmt: skip
    frames = FrameRule(max_total_pixels=int(128000 * 28 * 28 * 0.9) if cap else None)
    assert resized_size(height, width, sized(RULE, frames, count))[0] == (size.height, size.width)


@pytest.fixture
def clip(tmp_path):
    """Seven seconds at 12.5 frames a second, of the size that a tiny model takes unchanged."""
    return film(
        tmp_path / "a.mp4",
        [np.asarray(picture(84, 56, i)) for i in range(88)],
        Fraction(25, 2),
        gop=10,
    )


@pytest.mark.parametrize("fps", [1.0, 2.0, 3.3])
def test_frames_rate_and_patches_of_a_file_are_bit_equal(theirs, clip, fps):
    pixels, facts = read_video_pyav(str(clip), lambda metadata: theirs.sample_frames(metadata, fps=fps))
    rule = FrameRule(fps=fps, spacing="steps")
    small = RULE.replace(min_pixels=784, max_pixels=784 * 20, normalize=False)
    whole, fitted = decode_video(clip, frames=rule), decode_video(clip, frames=rule, rule=small)
    assert np.array_equal(whole.data, pixels)
    assert whole.rate == fitted.rate == pytest.approx(facts.sampled_fps, rel=1e-12)
    assert list(whole.timing) == pytest.approx([float(second) for second in facts.timestamps], abs=1e-6)
    made, times, rows, columns = theirs.patchify(
        torch.as_tensor(pixels).permute(0, 3, 1, 2)[None].float() / 255, 14, 2, 2
    )
    encoded = prepare_video(fitted, small, rule)
    assert encoded.grid_thw.tolist() == [[times, rows, columns]]
    assert np.abs(encoded.patches - made[0].numpy()).max() <= 1e-7


@torch.no_grad()
@pytest.mark.parametrize("make", [qwen2_vl, qwen2_5_vl])
def test_a_model_reads_a_file_as_theirs_reads_its_frames(theirs, clip, make, tmp_path):
    reference, folder = make("wide"), tmp_path / "model"
    reference.save_pretrained(folder)
    text = processor(folder)
    own = {"size": {"shortest_edge": 784, "longest_edge": 784 * 20}, "do_sample_frames": True, "fps": 1.0}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(own))
    model = eyespot.load(folder)
    assert model.contract.frames.spacing == "steps"
    messages = user("First")
    messages[0]["content"] += [{"type": "video", "video": str(clip)}, {"type": "text", "text": "What is it?"}]
    encoded = model.processor.encode(read_messages(messages), add_generation_prompt=True)
    (moving,) = encoded.media
    pixels, facts = read_video_pyav(str(clip), lambda metadata: theirs.sample_frames(metadata, fps=1.0))
    rule = model.contract.video
    scaled = (torch.as_tensor(pixels).permute(0, 3, 1, 2)[None].float() / 255 - _colour(rule.mean)) / _colour(rule.std)
    patches, *grid = theirs.patchify(scaled, 14, 2, 2)
    written = text.apply_chat_template(messages, add_generation_prompt=True)
    written = written.replace("<|video_pad|>", "<|video_pad|>" * (patches.shape[1] // 4))
    ids = torch.tensor(text.tokenizer(written)["input_ids"])
    assert encoded.input_ids.tolist() == ids.tolist()
    kinds = torch.zeros(1, len(ids), dtype=torch.int)
    kinds[0, moving.slots] = 2
    seconds = {"second_per_grid_ts": [2 / facts.sampled_fps]} if make is qwen2_5_vl else {}
    batch, grids = pack([encoded]), torch.tensor([grid])
    places, _ = reference.model.get_rope_index(ids[None], kinds, video_grid_thw=grids, **seconds)
    through = int(moving.slots[-1]) + 1  # what follows is a decision of its own (docs/decisions)
    assert torch.equal(batch.position_ids[:, :through], places[:, 0, :through])
    expected = reference(
        input_ids=ids[None], mm_token_type_ids=kinds, position_ids=batch.position_ids[:, None],
        pixel_values_videos=patches[0], video_grid_thw=grids,
    ).logits[0]  # fmt: skip
    assert relative(model.trace(messages, add_generation_prompt=True).logits, expected) <= BAR["wide"]


def _colour(values) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 3, 1, 1)


SAMPLERS = {
    "middles": ("internvl.video_processing_internvl", "InternVLVideoProcessor"),
    "steps": ("llava_onevision.video_processing_llava_onevision", "LlavaOnevisionVideoProcessor"),
}


@pytest.fixture(scope="module")
def samplers():
    """Bare processors of models that take a fixed number of frames."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(video_processor(*where)) for name, where in SAMPLERS.items()}


@pytest.mark.parametrize("spacing", SAMPLERS)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(total=st.integers(1, 60000), count=st.integers(1, 64))
def test_a_fixed_number_of_frames_is_chosen_as_by_transformers(samplers, spacing, total, count):
    if count > total:
        return  # which they refuse; we take what there is
    theirs = samplers[spacing]
    theirs.num_frames, theirs.fps, theirs.initial_shift = count, None, True
    expected = theirs.sample_frames(VideoMetadata(total_num_frames=total, fps=25.0)).tolist()
    rule = FrameRule(fps=None, min_frames=1, max_frames=count, multiple=1, spacing=spacing)
    ours = choose_frames(total, 25.0, rule).tolist()
    assert ours == expected[: len(ours)] and len(ours) == count
    assert set(expected[count:]) <= {total}
