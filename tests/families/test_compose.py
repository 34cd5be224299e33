"""A LLaVA from published parts."""

import json

import numpy as np
import pytest
import torch

from eyespot import families
from eyespot.data.packing import pack
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages
from eyespot.inputs.tokenizer import words
from tests.families.makers import SPECIALS, equal, family_named, loaded, text_model


@pytest.fixture(params=["clip-plain", "clip-vision-only", "siglip-plain", "siglip-vision-only"])
def vision(request, tmp_path):
    name, case = request.param.split("-", 1)
    family = family_named(name)
    families.save(loaded(family, family.tiny()[case]), tmp_path / "vision")
    return tmp_path / "vision"


@pytest.fixture
def clip(tmp_path):
    family = family_named("clip")
    families.save(loaded(family, family.tiny()["plain"]), tmp_path / "vision")
    return tmp_path / "vision"


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
def test_every_tower_joins_every_decoder_and_the_whole_is_a_llava(vision, name, tmp_path):
    text = text_model(tmp_path / "text", name)
    model = families.compose(vision, tmp_path / "text")
    assert equal(model.module.decoder.layers, text.module.decoder.layers)
    assert torch.isfinite(torch.cat([p.flatten() for p in model.module.connector.parameters()])).all()
    families.save(model, tmp_path / "out")
    again = families.load(tmp_path / "out")
    assert (again.family, again.layout) == ("llava", "hf")
    assert equal(again.module, model.module)
    assert again.contract == model.contract


def test_the_select_strategy_follows_the_tower(vision, tmp_path):
    text_model(tmp_path / "text")
    families.save(families.compose(vision, tmp_path / "text"), tmp_path / "out")
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    processor = json.loads((tmp_path / "out" / "processor_config.json").read_text())
    clip = raw["vision_config"]["model_type"] == "clip_vision_model"
    assert (
        raw["vision_feature_select_strategy"]
        == processor["vision_feature_select_strategy"]
        == ("default" if clip else "full")
    )
    assert processor["num_additional_image_tokens"] == int(clip)


def test_the_image_token_starts_as_the_mean_and_tables_are_a_multiple_of_64(clip, tmp_path):
    text = text_model(tmp_path / "text", "llama")
    model = families.compose(clip, tmp_path / "text")
    used, token = text.tokenizer.vocab_size, model.contract.text.image_token_id
    assert token == used == model.tokenizer.id_of("<image>")
    for ours, theirs in (
        (model.module.decoder.embed_tokens, text.module.decoder.embed_tokens),
        (model.module.lm_head, text.module.lm_head),
    ):
        assert torch.equal(ours.weight[:used], theirs.weight[:used])
        assert torch.allclose(ours.weight[token], theirs.weight[:used].mean(0), atol=1e-6)
    full = text.config.replace(decoder=text.config.decoder.replace(vocab_size=used))
    assert families.compose(clip, tmp_path / "text").config.decoder.vocab_size == 300  # there was room
    families.save(loaded(family_named("llama"), full, None, text.tokenizer), tmp_path / "full")
    assert families.compose(clip, tmp_path / "full").config.decoder.vocab_size % 64 == 0


def test_the_decoders_own_template_takes_pictures(clip, tmp_path):
    text = text_model(tmp_path / "text")
    model = families.compose(clip, tmp_path / "text")
    assert model.contract.text.template.endswith(text.contract.text.template)
    assert model.contract.text.stop_tokens == text.contract.text.stop_tokens == (2, 3)
    picture = torch.zeros(30, 30, 3, dtype=torch.uint8).numpy()
    encoded = model.processor.encode(read_messages("What is in the picture?", [picture]), add_generation_prompt=True)
    places = 4  # 28 / 14 squared
    assert (torch.as_tensor(encoded.input_ids) == model.contract.text.image_token_id).sum() == places


def test_a_connector_that_hugging_face_lacks_goes_to_our_own_layout(clip, tmp_path):
    text_model(tmp_path / "text")
    model = families.compose(clip, tmp_path / "text", connector="linear", select_layer=-1)
    assert (model.layout, model.config.select_layers) == ("eyespot", (-1,))
    families.save(model, tmp_path / "out")
    assert equal(families.load(tmp_path / "out").module, model.module)


@pytest.mark.parametrize(("options", "expected"), [
    ({"connector": "identity"}, "compose-mismatch"), ({"connector": "resampler"}, "config-value"),
    ({"select_layer": -9}, "argument"),
])  # fmt: skip
def test_what_cannot_be_joined_is_an_error(clip, tmp_path, options, expected):
    text_model(tmp_path / "text")
    with pytest.raises(EyespotError) as caught:
        families.compose(clip, tmp_path / "text", **options)
    assert caught.value.code == expected


def test_a_decoder_with_another_models_tokenizer_is_refused_not_given_rows(clip, tmp_path):
    text_model(tmp_path / "text")
    words([f"{a}{b}{c}" for a in "abcd" for b in "abcd" for c in "abcd"], SPECIALS).save(tmp_path / "text")
    (tmp_path / "text" / "eyespot.json").unlink()
    with pytest.raises(EyespotError, match="300 rows") as caught:
        families.compose(clip, tmp_path / "text")
    assert caught.value.code == "tokenizer-mismatch"


def test_parts_in_the_wrong_places_are_an_error(clip, tmp_path):
    text_model(tmp_path / "text")
    with pytest.raises(EyespotError, match="no decoder"):
        families.compose(clip, clip)
    with pytest.raises(EyespotError, match="no vision_encoder"):
        families.compose(tmp_path / "text", tmp_path / "text")


def asked(*pictures):
    messages = [
        {"role": "user", "content": [*({"type": "image"} for _ in pictures), {"type": "text", "text": "What?"}]}
    ]
    return read_messages(messages, list(pictures))


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
def test_with_tiles_every_tower_and_decoder_is_a_next(vision, name, tmp_path):
    text_model(tmp_path / "text", name)
    model = families.compose(vision, tmp_path / "text", tiles=[(1, 2), (2, 1)])
    assert model.module.image_newline.abs().max() > 0
    side = model.config.vision.image_size[0]
    assert model.contract.image.tiling.canvases == ((side, 2 * side), (2 * side, side))
    families.save(model, tmp_path / "out")
    again = families.load(tmp_path / "out")
    assert (again.family, again.layout) == ("llava_next", "hf")
    assert equal(again.module, model.module)
    assert again.contract == model.contract
    (medium,) = again.processor.encode(asked(np.zeros((40, 80, 3), np.uint8))).media
    assert len(medium.grid_thw) == 3


def test_tiles_that_make_no_canvas_are_refused(clip, tmp_path):
    text_model(tmp_path / "text")
    for tiles in ([], [(0, 1)], [(1, 10**6)]):
        with pytest.raises(EyespotError, match="rows and columns") as caught:
            families.compose(clip, tmp_path / "text", tiles=tiles)
        assert caught.value.code == "argument"


@pytest.mark.parametrize(("name", "case"), [("siglip2", "plain"), ("dinov2", None), ("vit", None)])
def test_a_tower_that_hugging_faces_llava_has_no_place_for_goes_to_our_own_layout(name, case, tmp_path):
    family = family_named(name)
    families.save(loaded(family, family.tiny()[case or next(iter(family.tiny()))]), tmp_path / "vision")
    text_model(tmp_path / "text")
    model = families.compose(tmp_path / "vision", tmp_path / "text")
    assert model.layout == "eyespot"
    families.save(model, tmp_path / "out")
    again = families.load(tmp_path / "out")
    assert equal(again.module, model.module) and again.contract == model.contract
    encoded = again.processor.encode(asked(np.zeros((40, 80, 3), np.uint8), np.zeros((30, 30, 3), np.uint8)))
    batch = pack([encoded])
    assert again.module(batch).last.isfinite().all()
    shapes = {tuple(grid) for medium in encoded.media for grid in medium.grid_thw.tolist()}
    assert len(shapes) == (2 if name == "siglip2" else 1)


def test_a_tower_for_pictures_of_many_sizes_is_not_cut_into_tiles(tmp_path):
    family = family_named("siglip2")
    families.save(loaded(family, family.tiny()["plain"]), tmp_path / "vision")
    text_model(tmp_path / "text")
    with pytest.raises(EyespotError, match="pictures of one size") as caught:
        families.compose(tmp_path / "vision", tmp_path / "text", tiles=[(1, 2)])
    assert caught.value.code == "compose-mismatch"
