"""Joining tiles: against a plain loop, as many embeddings as the processor counts, packed as alone, faults named."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.contracts.batch import MediaBatch
from eyespot.contracts.contract import ImageRule, Tiling
from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.data.packing import media_batch, pack
from eyespot.errors import EyespotError
from eyespot.inputs.anyres import embeddings_of, plan_tiles
from eyespot.inputs.decode import image_media
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.video import decode_video, prepare_video
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.tiles import join_tiles
from eyespot.models.vlm import VisionLanguageModel, VlmConfig

RULE = ImageRule(
    size=(8, 8), resize="exact", crop=False, patch_size=4, tiling=Tiling(((8, 16), (16, 8), (16, 16), (8, 24)))
)
BOUNDED = RULE.replace(tiling=RULE.tiling.replace(shrink_to=1))
VIDEO = ImageRule(size=(12, 20), resize="exact", crop=False, patch_size=4, pool=2, newline="once")
NEWLINE = torch.full((3,), 7.0)


def medium(height: int, width: int, slots=(), rule: ImageRule = RULE) -> EncodedMedia:
    """A tiled picture whose patches are random; the tower's grid is 2 × 2."""
    _, plan = plan_tiles((height, width), rule)
    tiles = 1 + plan.tile_rows * plan.tile_cols
    patches = np.random.default_rng([height, width]).normal(size=(4 * tiles, 48)).astype(np.float32)
    grid, slots = np.array([[1, 2, 2]] * tiles), np.array(slots, np.int64)
    return EncodedMedia("image", patches, grid, slots, (width, height), (8, 8), f"{height}x{width}", plan)


def one_by_one(features: torch.Tensor, item: EncodedMedia) -> torch.Tensor:
    """The map filled cell by cell."""
    plan, out = item.plan, list(features[:4])
    left, top, right, bottom = plan.crop

    def cell(row: int, column: int) -> torch.Tensor:
        tile = 1 + ((top + row) // 2) * plan.tile_cols + (left + column) // 2
        return features[4 * tile + 2 * ((top + row) % 2) + (left + column) % 2]

    cells = bottom - top, right - left
    for row in range((plan.scaled or cells)[0]):
        columns = range((plan.scaled or cells)[1])
        out += [between(cell, cells, plan.scaled, row, i) if plan.scaled else cell(row, i) for i in columns]
        out.append(NEWLINE)
    return torch.stack(out)


def between(cell, old: tuple[int, int], new: tuple[int, int], row: int, column: int) -> torch.Tensor:
    """A cell of a map scaled from `old` to `new`: the four cells around its centre, by their distance."""
    total = torch.zeros(3)
    for i, share in weights(old[0], new[0], row):
        for j, other in weights(old[1], new[1], column):
            total = total + share * other * cell(i, j)
    return total


def weights(old: int, new: int, at: int) -> list[tuple[int, float]]:
    centre = max((at + 0.5) * old / new - 0.5, 0.0)
    low = min(int(centre), old - 1)
    return [(low, 1 - (centre - low)), (min(low + 1, old - 1), centre - low)]


def video(frames: int, slots=(), size: tuple[int, int] = (12, 20)) -> EncodedMedia:
    """Random frames squeezed to three rows of five patches, or to another size."""
    data = np.random.default_rng(frames).integers(0, 256, (frames, 3, 5, 3), np.uint8)
    made = prepare_video(decode_video(data, 1.0), VIDEO.replace(size=size))
    return replace(made, slots=np.array(slots, np.int64))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=4))
def test_tiles_are_joined_as_a_plain_loop_joins_them_and_counted_alike(sizes):
    items = [medium(*size) for size in sizes]
    media = media_batch(items)
    features = torch.randn(len(media.patches), 3)
    parts = features.split([len(item.patches) for item in items])
    expected = [one_by_one(part, item) for part, item in zip(parts, items, strict=True)]
    assert torch.equal(join_tiles(features, media, NEWLINE), torch.cat(expected))
    assert [len(e) for e in expected] == [embeddings_of(item) for item in items]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=2))
def test_maps_that_are_too_large_are_scaled_down_as_a_plain_loop_scales_them(sizes):
    items = [medium(*size, rule=BOUNDED) for size in sizes]
    media = media_batch(items)
    features = torch.randn(len(media.patches), 3)
    parts = features.split([len(item.patches) for item in items])
    expected = torch.cat([one_by_one(part, item) for part, item in zip(parts, items, strict=True)])
    torch.testing.assert_close(join_tiles(features, media, NEWLINE), expected, rtol=1e-5, atol=1e-5)
    assert len(expected) == sum(embeddings_of(item) for item in items)


def test_some_maps_are_scaled_and_some_are_not():
    assert medium(16, 16, rule=BOUNDED).plan.scaled == (2, 2)
    assert medium(2, 16, rule=BOUNDED).plan.scaled is None


def test_frames_are_pooled_one_by_one_and_the_newline_follows_the_last():
    items = [video(3), medium(9, 30), video(1)]
    media = media_batch(items)
    features = torch.randn(len(media.patches), 3)
    parts = features.split([len(item.patches) for item in items])
    expected = []
    for part, item in zip(parts, items, strict=True):
        if item.kind == "image":
            expected.append(one_by_one(part, item))
            continue
        for frame in part.split(15):
            for row in range(2):
                for column in range(3):
                    cell = between(lambda i, j, f=frame: f[5 * i + j], (3, 5), (2, 3), row, column)
                    expected.append(cell[None])
        expected.append(NEWLINE[None])
    torch.testing.assert_close(join_tiles(features, media, NEWLINE), torch.cat(expected))
    assert [embeddings_of(item) for item in items] == [3 * 6 + 1, embeddings_of(items[1]), 6 + 1]


def test_a_picture_alone_may_be_followed_by_the_newline_once():
    rule = RULE.replace(tiling=None, newline="once")
    item = prepare_image(image_media(np.zeros((9, 30, 3), np.uint8)), rule)
    features = torch.randn(4, 3)
    assert torch.equal(join_tiles(features, media_batch([item]), NEWLINE), torch.cat([features, NEWLINE[None]]))
    assert embeddings_of(item) == 5
    with pytest.raises(EyespotError, match="no embedding"):
        join_tiles(features, media_batch([item]))


def test_pictures_without_tiles_pass_unchanged_beside_tiled_ones():
    plain = EncodedMedia(
        "image", np.zeros((4, 48), np.float32), np.array([[1, 2, 2]]), np.zeros(0, np.int64), (8, 8), (8, 8), "p"
    )
    items = [plain, medium(9, 30), plain]
    features = torch.randn(sum(len(item.patches) for item in items), 3)
    joined = join_tiles(features, media_batch(items), NEWLINE)
    assert torch.equal(joined[:4], features[:4]) and torch.equal(joined[-4:], features[-4:])
    assert join_tiles(features[:4], media_batch([plain])) is not None


def test_a_model_without_a_newline_refuses_rows_that_are_to_be_ended():
    media = media_batch([medium(9, 30)])
    with pytest.raises(EyespotError, match="no embedding"):
        join_tiles(torch.randn(len(media.patches), 3), media)


def test_features_beside_the_grid_are_refused():
    media = media_batch([medium(9, 30)])
    with pytest.raises(EyespotError, match="features for"):
        join_tiles(torch.randn(len(media.patches) + 1, 3), media, NEWLINE)


def model() -> VisionLanguageModel:
    config = VlmConfig(
        DecoderConfig(vocab_size=50, hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48),
        VitConfig(
            hidden_size=16, num_layers=3, num_heads=2, intermediate_size=32, image_size=(8, 8), patch_size=4,
            class_token=True,
        ),
        ConnectorConfig(input_size=16, output_size=24),
        newline=True,
    )  # fmt: skip
    module = VisionLanguageModel(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def sample(name: str, *sizes: tuple[int, int], frames: int = 0) -> Encoded:
    ids, items = [1], []
    made = [partial(medium, *size, rule=BOUNDED if name == "c" else RULE) for size in sizes]
    for make in (*made, *([partial(video, frames, size=(8, 8))] if frames else [])):
        count = embeddings_of(make())
        items.append(make(slots=range(len(ids), len(ids) + count)))
        ids += [9] * count + [5, 6]
    return Encoded(name, "test", np.array(ids), np.ones(len(ids), np.float32), media=tuple(items))


def test_tiled_pictures_and_videos_packed_equal_each_alone():
    module = model()
    samples = [sample("a", (9, 30), (31, 8), frames=3), sample("b", frames=1), sample("c", (16, 16)), sample("d")]
    batch = pack(samples)
    for mine, s in zip(module(batch).last.split(batch.segments.q_lens), samples, strict=True):
        torch.testing.assert_close(mine, module(pack([s])).last, rtol=1e-4, atol=1e-5)


def test_the_newline_learns():
    module = model()
    module(pack([sample("a", (9, 30))])).last.sum().backward()
    assert module.image_newline.grad.abs().max() > 0


def test_too_few_places_for_a_tiled_picture_are_named():
    batch = pack([sample("a", (9, 30))])
    items: MediaBatch = batch.media["vision"]
    short = replace(items, slots=items.slots[:-1])
    with pytest.raises(EyespotError, match="embeddings") as caught:
        model()(replace(batch, media={"vision": short}))
    assert caught.value.code == "media-count"
