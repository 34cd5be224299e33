"""ViT and DINOv2 against `transformers`: pooled vectors, every layer, any size, both directions, two draws."""

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

import eyespot
from eyespot.contracts.batch import MediaBatch
from eyespot.inputs.decode import decode_image
from eyespot.inputs.patches import prepare_image, unpatchify
from tests.parity.references import BAR, DRAWS, picture, redraw, relative

pytestmark = pytest.mark.parity
SHARED = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 42, "patch_size": 14,
    "hidden_act": "gelu",
}  # fmt: skip
VIT = SHARED | {"intermediate_size": 32, "layer_norm_eps": 1e-12, "pooler_act": "tanh"}
DINO = SHARED | {"mlp_ratio": 4, "layer_norm_eps": 1e-6, "layerscale_value": 1.0}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def vit(**options):
    return hf.ViTModel(hf.ViTConfig(**VIT), **options)


MAKERS = {
    "vit": vit,
    "vit-no-pooler": lambda: vit(add_pooling_layer=False),
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO)),
    "dinov2-swiglu": lambda: hf.Dinov2Model(hf.Dinov2Config(**DINO, use_swiglu_ffn=True, use_mask_token=False)),
    "registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**DINO, num_register_tokens=4)),
}
kinds = pytest.mark.parametrize("kind", MAKERS)
draws = pytest.mark.parametrize("draw", DRAWS)
PICTURES = [picture(60, 33), picture(42, 42, 1), picture(5, 90, 2)]


def image_processor(kind: str):
    if kind.startswith("vit"):
        return hf.ViTImageProcessorPil(size={"height": 42, "width": 42})
    # The published resize is a little larger than the cut.
    return hf.BitImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}, **IMAGENET)


def checkpoint(folder, kind: str, draw: str):
    reference = redraw(MAKERS[kind](), draw)
    reference.save_pretrained(folder)
    processor = image_processor(kind)
    processor.save_pretrained(folder)
    return reference, processor


@draws
@kinds
def test_vectors_and_all_layers_agree(tmp_path, kind, draw):
    reference, processor = checkpoint(tmp_path, kind, draw)
    model = eyespot.load(tmp_path)
    with torch.no_grad():
        out = reference(**processor(PICTURES, return_tensors="pt"), output_hidden_states=True)
    pooled = out.pooler_output if out.pooler_output is not None else out.last_hidden_state[:, 0]
    assert relative(model.encode_images(PICTURES), pooled) <= BAR[draw]
    extra = model.module.config.extra_tokens
    found = model.features(PICTURES, layers=range(4))
    for ours, theirs in zip(found.values, out.hidden_states, strict=True):
        assert relative(ours, theirs[:, extra:].flatten(0, 1)) <= BAR[draw]
    normed = model.features(PICTURES, norm=True).values[0]
    assert relative(normed, out.last_hidden_state[:, extra:].flatten(0, 1)) <= BAR[draw]


@draws
@pytest.mark.parametrize("kind", ["dinov2", "registers"])
@pytest.mark.parametrize("grid", [(5, 7), (1, 9), (6, 2), (3, 3)])
def test_pictures_of_any_size_agree(tmp_path, kind, draw, grid):
    reference, _ = checkpoint(tmp_path, kind, draw)
    rows, columns = grid
    pixels = torch.randn(2, 3, 14 * rows, 14 * columns, generator=torch.Generator().manual_seed(0))
    patches = pixels.view(2, 3, rows, 14, columns, 14).permute(0, 2, 4, 1, 3, 5).reshape(-1, 588)
    count = rows * columns
    media = MediaBatch("image", patches, torch.tensor([[1, *grid]] * 2), (1, 1), torch.arange(2 * count), (count,) * 2)
    module = eyespot.load(tmp_path).module
    with torch.no_grad():
        out = reference(pixel_values=pixels, output_hidden_states=True)
        pooled, ours = module.pooled(media), module.features(media, (-1,), keep_class=True)
    assert relative(pooled, out.pooler_output) <= BAR[draw]
    assert relative(ours, out.hidden_states[-1].flatten(0, 1)) <= BAR[draw]


@kinds
def test_what_we_export_they_load_and_agree(tmp_path, kind):
    reference, processor = checkpoint(tmp_path / "source", kind, "wide")
    model = eyespot.load(tmp_path / "source")
    again = type(reference)
    options = {"add_pooling_layer": False} if kind == "vit-no-pooler" else {}
    # As it came; and as a fresh model, of whose files nothing is kept.
    eyespot.save(model, tmp_path / "kept")
    eyespot.save(model, tmp_path / "own", layout="eyespot")
    eyespot.save(eyespot.load(tmp_path / "own"), tmp_path / "fresh", layout="hf")
    for name in ("kept", "fresh"):
        loaded, info = again.from_pretrained(
            tmp_path / name, dtype=torch.float32, output_loading_info=True, **options
        )  # fmt: skip
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        theirs = hf.AutoImageProcessor.from_pretrained(tmp_path / name, backend="pil")
        with torch.no_grad():
            out = loaded.eval()(**theirs(PICTURES, return_tensors="pt"))
        pooled = out.pooler_output if out.pooler_output is not None else out.last_hidden_state[:, 0]
        assert relative(model.encode_images(PICTURES), pooled) <= BAR["wide"]


@pytest.mark.parametrize("kind", ["vit", "dinov2-swiglu"])
def test_names_in_memory_are_read_too(tmp_path, kind):
    reference, _ = checkpoint(tmp_path, kind, "wide")
    files = eyespot.load(tmp_path)
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "model.safetensors")
    memory = eyespot.load(tmp_path)
    assert memory.loaded.layout == "hf-memory"
    assert torch.equal(memory.encode_images(PICTURES), files.encode_images(PICTURES))


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_pixels_are_bit_equal(tmp_path, kind):
    _, processor = checkpoint(tmp_path, kind, "wide")
    rule = eyespot.load(tmp_path).contract.image
    for width, height in ((1, 1), (1, 40), (40, 1), (48, 47), (48, 49), (61, 200), (200, 61), (500, 13), (321, 240)):
        given = picture(width, height)
        encoded = prepare_image(decode_image(given, rule=rule), rule)
        ours = torch.from_numpy(unpatchify(encoded.patches, tuple(encoded.grid_thw[0].tolist()), 14))
        assert torch.equal(ours, processor(given, return_tensors="pt")["pixel_values"][0]), (width, height)


def test_a_classifier_is_refused_with_the_way_out(tmp_path):
    redraw(hf.ViTForImageClassification(hf.ViTConfig(**VIT)), "wide").save_pretrained(tmp_path)
    with pytest.raises(eyespot.EyespotError, match="ViTForImageClassification") as caught:
        eyespot.load(tmp_path)
    assert caught.value.code == "family-config"
    # The way out that the error names.
    hf.AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).save_pretrained(tmp_path / "encoder")
    assert eyespot.load(tmp_path / "encoder").module.config.pooled_dense == "none"
