"""CLIP and SigLIP against `transformers`: vectors, logits, preprocessing, both directions, two draws."""

import pytest
import torch
import transformers as hf

import eyespot
from eyespot.contracts.batch import MediaBatch
from tests.parity.references import BAR, DRAWS, contrastive, picture, relative

pytestmark = pytest.mark.parity
CLASSES = {"clip": hf.CLIPModel, "siglip": hf.SiglipModel}


def image_processor(kind: str):
    if kind == "clip":
        return hf.CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42})
    return hf.SiglipImageProcessorPil(size={"height": 42, "width": 42})


def checkpoint(folder, kind, draw, **options):
    reference = contrastive(kind, draw, **options)
    reference.save_pretrained(folder)
    processor = image_processor(kind)
    processor.save_pretrained(folder)
    from tests.parity.references import tokenizer

    tokenizer(folder, bos=False, template=None)
    return reference, processor


def token_rows(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(10, 350, (3, 16), generator=generator)
    for i, end in enumerate((5, 11, 15)):
        rows[i, end:] = 359  # the end token, then padding by the same
    return rows


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_vectors_and_logits_agree(tmp_path, kind, draw):
    reference, processor = checkpoint(tmp_path, kind, draw)
    model = eyespot.load(tmp_path)
    images = [picture(60, 33), picture(42, 42, 1), picture(5, 90, 2)]
    ids = token_rows(kind)
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = reference(input_ids=ids, pixel_values=pixels)
        image_vectors, text_vectors = model.encode_images(images), model.module.encode_texts(ids)
        logits = model.module.similarity(image_vectors, text_vectors)
    assert relative(image_vectors, out.image_embeds) <= BAR[draw]
    assert relative(text_vectors, out.text_embeds) <= BAR[draw]
    assert relative(logits, out.logits_per_image) <= BAR[draw]


@pytest.mark.parametrize("draw", DRAWS)
def test_the_legacy_rule_pools_at_the_largest_id(tmp_path, draw):
    reference, _ = checkpoint(tmp_path, "clip", draw, legacy_eos=True)
    ids = token_rows("clip")
    with torch.no_grad():
        theirs = reference.get_text_features(input_ids=ids)
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
        ours = eyespot.load(tmp_path).module.text_encoder(ids)
    assert relative(ours, theirs) <= BAR[draw]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tower_outputs_and_interpolated_positions_agree(tmp_path, kind, draw):
    reference, _ = checkpoint(tmp_path, kind, draw)
    encoder = eyespot.load(tmp_path).module.vision_encoder
    pixels = torch.randn(2, 3, 42, 56, generator=torch.Generator().manual_seed(0))
    patches = pixels.view(2, 3, 3, 14, 4, 14).permute(0, 2, 4, 1, 3, 5).reshape(24, 588)
    media = MediaBatch("image", patches, torch.tensor([[1, 3, 4]] * 2), (1, 1), torch.arange(24), (12, 12))
    object.__setattr__(encoder, "config", encoder.config.replace(interpolate_positions=True))
    with torch.no_grad():
        out = reference.vision_model(pixel_values=pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        ours = encoder.features(media, (-2, 0), keep_class=True)
    theirs = torch.cat([out.hidden_states[-2], out.hidden_states[0]], dim=-1).flatten(0, 1)
    assert relative(ours, theirs) <= BAR[draw]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_what_we_export_they_load_and_agree(tmp_path, kind, draw):
    _, processor = checkpoint(tmp_path / "source", kind, draw)
    model = eyespot.load(tmp_path / "source")
    eyespot.save(model, tmp_path / "export", layout="hf")
    again, info = CLASSES[kind].from_pretrained(tmp_path / "export", dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    images, ids = [picture(60, 33), picture(42, 42, 1)], token_rows(kind)
    with torch.no_grad():
        out = again(input_ids=ids, pixel_values=processor(images, return_tensors="pt")["pixel_values"])
        logits = model.module.similarity(model.encode_images(images), model.module.encode_texts(ids))
    assert relative(logits, out.logits_per_image) <= BAR[draw]
