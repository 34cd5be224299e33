"""SigLIP 2 in native aspect against `transformers`: patches, tower, vectors, loss, both directions, two draws."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

import eyespot
from eyespot import families
from eyespot.data.packing import media_batch
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.resize import whole_patches_size
from tests.parity.references import BAR, DRAWS, picture, redraw, relative
from tests.parity.test_siglip2 import LENGTH, MIXED, TEXTS, gemma, their_ids

pytestmark = pytest.mark.parity
SIZES = [(60, 33), (33, 60), (12, 12), (5, 90), (1, 1), (400, 7), (7, 400), (130, 97)]


def vision(**changes) -> hf.Siglip2VisionConfig:
    return hf.Siglip2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_patches=9, patch_size=4,
        layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh", **changes,
    )  # fmt: skip


def checkpoint(folder, draw: str):
    text = hf.Siglip2TextConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=360,
        max_position_embeddings=LENGTH, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, projection_size=16,
        pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    reference = redraw(
        hf.Siglip2Model(hf.Siglip2Config(text_config=text.to_dict(), vision_config=vision().to_dict())), draw
    )
    reference.save_pretrained(folder)
    image = hf.Siglip2ImageProcessorPil(patch_size=4, max_num_patches=20)
    hf.Siglip2Processor(image, gemma(hf.Siglip2Tokenizer)).save_pretrained(folder)
    return reference, image


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


def test_vectors_logits_and_loss_agree_on_pictures_of_many_shapes(tmp_path, draw):
    reference, image = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    images = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    texts = [*TEXTS, *MIXED]
    ids = their_ids(gemma(hf.Siglip2Tokenizer), texts)
    with torch.no_grad():
        out = reference(input_ids=ids, **image(images, return_tensors="pt"), return_loss=True)
        image_vectors, text_vectors = model.encode_images(images), model.encode_texts(texts)
        logits = model.module.similarity(image_vectors, text_vectors)
        loss = -torch.nn.functional.logsigmoid((2 * torch.eye(len(texts)) - 1) * logits).sum(-1).mean()
    assert relative(image_vectors, out.image_embeds) <= BAR[draw]
    assert relative(text_vectors, out.text_embeds) <= BAR[draw]
    assert relative(logits, out.logits_per_image) <= BAR[draw]
    assert abs(float(loss - out.loss)) <= BAR[draw] * abs(float(out.loss))


def test_tower_outputs_agree_where_they_pad_and_we_do_not(tmp_path, draw):
    reference, image = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    images = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    inputs = image(images, return_tensors="pt")
    media = media_batch([prepare_image(decode_image(i), model.contract.image) for i in images])
    with torch.no_grad():
        out = reference.vision_model(**inputs, output_hidden_states=True)
        ours = model.module.vision_encoder.features(media, (-2, 0))
    theirs = torch.cat([out.hidden_states[-2], out.hidden_states[0]], dim=-1)[inputs["pixel_attention_mask"].bool()]
    assert relative(ours, theirs) <= BAR[draw]


def test_patches_are_bit_equal_to_the_pil_processors(tmp_path):
    _, image = checkpoint(tmp_path, "small")
    rule = eyespot.load(tmp_path).contract.image
    for width, height in [*SIZES, *np.random.default_rng(0).integers(1, 200, (60, 2)).tolist()]:
        pixels = picture(width, height, width * height)
        theirs = image(pixels, return_tensors="np")
        medium = prepare_image(decode_image(pixels), rule)
        assert medium.grid_thw[0, 1:].tolist() == theirs["spatial_shapes"][0].tolist()
        ours = medium.patches.reshape(-1, 3, 16).transpose(0, 2, 1).reshape(-1, 48)
        assert np.array_equal(ours, theirs["pixel_values"][0][: len(ours)])


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 4000), width=st.integers(1, 4000), patch=st.sampled_from([4, 14, 16]),
    most=st.one_of(st.integers(1, 1024), st.just(256)),
)  # fmt: skip
def test_sizes_in_whole_patches_are_theirs(height, width, patch, most):
    assert whole_patches_size(height, width, patch, most) == get_image_size_for_max_num_patches(
        height, width, patch, most
    )


@pytest.mark.parametrize("way", ["direct", "through our layout"])
def test_what_we_export_they_load_and_agree(tmp_path, draw, way):
    source, export = tmp_path / "source", tmp_path / "export"
    reference, _ = checkpoint(source, draw)
    model = eyespot.load(source)
    if way == "direct":
        eyespot.save(model, export)
    else:
        eyespot.save(model, tmp_path / "own", layout="eyespot")
        eyespot.save(eyespot.load(tmp_path / "own"), export, layout="hf")
    again, info = hf.Siglip2Model.from_pretrained(export, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in reference.state_dict().items())
    image = hf.AutoImageProcessor.from_pretrained(export, backend="pil")
    ids = their_ids(hf.AutoTokenizer.from_pretrained(export), TEXTS)
    images = [picture(60, 33), picture(12, 90, 1)]
    with torch.no_grad():
        out = again.eval()(input_ids=ids, **image(images, return_tensors="pt"))
        logits = model.module.similarity(model.encode_images(images), model.encode_texts(TEXTS))
    assert relative(logits, out.logits_per_image) <= BAR[draw]
    assert eyespot.load(export).contract == model.contract


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(tmp_path):
    checkpoint(tmp_path / "theirs", "wide")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)
    configs = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("wrapper", ["", "vision_model."])
@pytest.mark.parametrize("head", [True, False])
def test_an_image_tower_alone_is_read_whatever_its_wrapper(tmp_path, wrapper, head):
    reference = redraw(hf.Siglip2VisionModel(vision(vision_use_head=head)), "wide")
    reference.save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "model.safetensors"
    save_file({f"{wrapper}{k}": v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    families.save(families.load(tmp_path / "theirs"), tmp_path / "ours")
    again, info = hf.Siglip2VisionModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in reference.state_dict().items())
