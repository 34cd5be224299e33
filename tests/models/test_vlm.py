"""The composed model: merging, packing, branching and caching change nothing."""

import numpy as np
import pytest
import torch

from eyespot.contracts.batch import Batch, MediaBatch, Segments
from eyespot.errors import EyespotError
from eyespot.models.connectors import Connector, ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.positions import positions
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.nn.cache import KVCache


def tiny(**vision) -> VisionLanguageModel:
    torch.manual_seed(0)
    vit = VitConfig(
        hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(16, 16), patch_size=8, **vision
    )
    config = VlmConfig(
        decoder=DecoderConfig(
            vocab_size=50, hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48
        ),
        vision=vit,
        connector=ConnectorConfig(input_size=16, output_size=24),
    )
    model = VisionLanguageModel(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3)
    return model


def media(pictures: int, slots: list[int]) -> dict[str, MediaBatch]:
    patches = torch.randn(4 * pictures, 3 * 8 * 8, generator=torch.Generator().manual_seed(1))
    grid = torch.tensor([[1, 2, 2]] * pictures)
    return {"vision": MediaBatch("image", patches, grid, (1,) * pictures, torch.tensor(slots), (4,) * pictures)}


def batch(ids: list[int], lens=None, parent=None, items=None) -> Batch:
    lens = lens or (len(ids),)
    parent = parent or (-1,) * len(lens)
    return Batch(torch.tensor(ids), positions(lens, parent), Segments.of(lens, parent=parent), items or {})


@pytest.mark.parametrize(
    "vision", [{}, {"class_token": True, "pre_norm": True}, {"stem": "conv", "stem_channels": (4, 8)}]
)
def test_two_pictures_packed_equal_each_alone(vision):
    model = tiny(**vision)
    both = media(2, [1, 2, 3, 4, 8, 9, 10, 11])
    ids = [1, 9, 9, 9, 9, 5, 6, 2, 9, 9, 9, 9, 7]
    packed = model(batch(ids, (7, 6), items=both)).last
    for lo, hi, patches, slots in ((0, 7, slice(0, 4), [1, 2, 3, 4]), (7, 13, slice(4, 8), [1, 2, 3, 4])):
        m = both["vision"]
        one = {"vision": MediaBatch("image", m.patches[patches], m.grid_thw[:1], (1,), torch.tensor(slots), (4,))}
        alone = model(batch(ids[lo:hi], items=one)).last
        torch.testing.assert_close(packed[lo:hi], alone, rtol=1e-4, atol=1e-5)


def test_branches_equal_the_pairs_alone():
    model = tiny()
    prefix, a, b = [1, 9, 9, 9, 9], [5, 6, 7], [8, 4]
    items = media(1, [1, 2, 3, 4])
    together = model(batch(prefix + a + b, (5, 3, 2), (-1, 0, 0), items)).last
    torch.testing.assert_close(together[5:8], model(batch(prefix + a, items=items)).last[5:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[8:], model(batch(prefix + b, items=items)).last[5:], rtol=1e-4, atol=1e-5)


def test_cached_decoding_equals_the_whole_sequence():
    model = tiny()
    ids = [1, 9, 9, 9, 9, 5, 6, 7]
    whole = model(batch(ids, items=media(1, [1, 2, 3, 4]))).last
    cache = KVCache(2, capacity=2)
    steps = [model(batch(ids[:5], items=media(1, [1, 2, 3, 4])), cache).last]
    for t in range(5, 8):
        step = Batch(torch.tensor(ids[t : t + 1]), positions((1,), (-1,), offset=t), Segments((1,), (t + 1,), (-1,)))
        steps.append(model(step, cache).last)
    torch.testing.assert_close(torch.cat(steps), whole, rtol=1e-4, atol=1e-5)


def test_a_count_that_does_not_fit_names_both_numbers():
    with pytest.raises(EyespotError, match="3 places .* gives 4 embeddings") as caught:
        tiny()(batch([1, 9, 9, 9, 5], items=media(1, [1, 2, 3])))
    assert caught.value.code == "media-count"


def test_layers_behind_the_tap_are_named_and_get_no_gradient():
    model = tiny(post_norm="pooled", pool="class")
    model(batch([1, 9, 9, 9, 9, 5], items=media(1, [1, 2, 3, 4]))).last.sum().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    unused = set(model.unused())
    assert any(n.startswith("vision_encoder.blocks.2.") for n in unused)
    assert without - unused == {"lm_head.weight"}


def test_another_picture_size_needs_interpolated_positions():
    grid = torch.tensor([[1, 2, 3]])
    wide = {"vision": MediaBatch("image", torch.randn(6, 192), grid, (1,), torch.arange(1, 7), (6,))}
    ids = [1, *[9] * 6, 5]
    with pytest.raises(EyespotError, match="2 × 2 patches, a picture has 2 × 3"):
        tiny()(batch(ids, items=wide))
    assert tiny(interpolate_positions=True)(batch(ids, items=wide)).last.shape == (8, 24)


def test_pictures_of_unlike_size_may_share_a_batch():
    model = tiny(interpolate_positions=True, class_token=True)
    patches = torch.randn(10, 192)
    m = MediaBatch("image", patches, torch.tensor([[1, 2, 2], [1, 2, 3]]), (1, 1), torch.arange(10), (4, 6))
    features = model.vision_encoder.features(m, (-2,))
    alone = model.vision_encoder.features(
        MediaBatch("image", patches[4:], m.grid_thw[1:], (1,), m.slots[4:], (6,)), (-2,)
    )
    torch.testing.assert_close(features[4:], alone, rtol=1e-4, atol=1e-5)


def test_patch_stem_is_the_convolution_with_kernel_equal_to_stride():
    model = tiny()
    conv = torch.nn.Conv2d(3, 16, 8, stride=8)
    with torch.no_grad():
        conv.weight.copy_(model.vision_encoder.stem.proj.weight.view(16, 3, 8, 8))
        conv.bias.copy_(model.vision_encoder.stem.proj.bias)
    picture = torch.randn(1, 3, 16, 16)
    patches = picture.view(3, 2, 8, 2, 8).permute(1, 3, 0, 2, 4).reshape(4, 192)
    expected = conv(picture)[0].flatten(1).t()
    torch.testing.assert_close(model.vision_encoder.stem(patches, ((1, 2, 2),)), expected, rtol=1e-4, atol=1e-5)


def test_unknown_connector_is_refused():
    with pytest.raises(EyespotError, match="unknown connector 'mlp2x_silu'"):
        Connector(ConnectorConfig(kind="mlp2x_silu"))


def test_positions_go_on_from_the_parent():
    assert positions((3, 2, 2, 1), (-1, 0, 0, 2)).tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]]
    assert np.all(positions((2,), (-1,), offset=7).numpy() == [[7, 8]])
