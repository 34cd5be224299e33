"""Layouts of open_clip and OpenAI: the same weights under their names give what `transformers` gives."""

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

import eyespot
from tests.parity.open_clip_references import biomed, clip_tensors, siglip_tensors, write
from tests.parity.references import BAR, DRAWS, VOCAB, contrastive, picture, redraw, relative, tokenizer

pytestmark = pytest.mark.parity
PICTURES = [picture(60, 34), picture(42, 42, 1), picture(5, 90, 2)]
CLIP = {
    "embed_dim": 12, "quick_gelu": True,
    "vision_cfg": {"image_size": 42, "layers": 3, "width": 16, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 14},
    "text_cfg": {"context_length": 16, "vocab_size": VOCAB, "width": 16, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
}  # fmt: skip
SIGLIP = {
    "embed_dim": 16, "init_logit_bias": -10, "custom_text": True,
    "vision_cfg": {
        "image_size": 42, "timm_model_name": "vit_so400m_patch16_siglip_256", "timm_model_pretrained": False,
        "timm_pool": "map", "timm_proj": "none", "timm_model_kwargs": {"num_heads": 2},
    },
    "text_cfg": {
        "context_length": 16, "vocab_size": VOCAB, "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 16,
        "heads": 2, "layers": 2, "mlp_ratio": 2.0, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
    },
}  # fmt: skip
SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
BIOMED = {
    "embed_dim": 24,
    "vision_cfg": {
        "timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
        "timm_proj": "linear", "image_size": 42,
    },
    "text_cfg": {"hf_model_name": "somebody/a-bert", "hf_tokenizer_name": "somebody/a-bert", "context_length": 30},
}  # fmt: skip
DIALECTS = {
    "old": {"proj": "mlp", "pooler_type": "cls_last_hidden_state_pooler"},
    "new": {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"},
}
draws = pytest.mark.parametrize("draw", DRAWS)


def rows(length: int = 16) -> torch.Tensor:
    ids = torch.randint(10, VOCAB - 10, (3, length), generator=torch.Generator().manual_seed(3))
    for i, end in enumerate((5, 11, 15)):
        ids[i, end:] = VOCAB - 1
    return ids


def pixels(kind: str) -> torch.Tensor:
    if kind == "siglip":
        processor = hf.SiglipImageProcessorPil(size={"height": 42, "width": 42})
    else:
        processor = hf.CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42})
    return processor(PICTURES, return_tensors="pt")["pixel_values"]


def logits(model, ids):
    with torch.no_grad():
        return model.module.similarity(model.encode_images(PICTURES), model.module.encode_texts(ids))


@draws
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_logits_agree_and_the_way_out_is_the_way_in(tmp_path, kind, draw):
    reference = contrastive(kind, draw, legacy_eos=kind == "clip")
    tensors = clip_tensors(reference) if kind == "clip" else siglip_tensors(reference)
    write(tmp_path / "in", tensors, *((CLIP,) if kind == "clip" else (SIGLIP, SQUASH)))
    model = eyespot.load(tmp_path / "in")
    with torch.no_grad():
        theirs = reference(input_ids=rows(), pixel_values=pixels(kind))
    assert relative(model.encode_images(PICTURES), theirs.image_embeds) <= BAR[draw]
    assert relative(logits(model, rows()), theirs.logits_per_image) <= BAR[draw]
    eyespot.save(model, tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)
    again = eyespot.load(tmp_path / "out")
    assert again.contract == model.contract
    assert torch.equal(logits(again, rows()), logits(model, rows()))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_they_go_out_as_hugging_faces_and_come_back(tmp_path, kind):
    reference = contrastive(kind, "wide", legacy_eos=kind == "clip")
    tensors = clip_tensors(reference) if kind == "clip" else siglip_tensors(reference)
    write(tmp_path / "in", tensors, *((CLIP,) if kind == "clip" else (SIGLIP, SQUASH)))
    if kind == "clip":  # SigLIP's cleaning is told by the class of its own tokenizer
        tokenizer(tmp_path / "in", bos=False, template=None)
    eyespot.save(eyespot.load(tmp_path / "in"), tmp_path / "hf", layout="hf")
    again, info = hf.AutoModel.from_pretrained(tmp_path / "hf", dtype=torch.float32, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = reference.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in again.state_dict().items())
    layout = "open_clip" if kind == "clip" else "open_clip-text"
    eyespot.save(eyespot.load(tmp_path / "hf"), tmp_path / "back", layout=layout)
    written = load_file(tmp_path / "back" / "open_clip_model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)


@draws
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_pair_of_biomedclip_agrees(tmp_path, draw, dialect):
    reference = biomed(draw)
    tensors = reference.tensors()
    cfg = BIOMED | {"text_cfg": BIOMED["text_cfg"] | DIALECTS[dialect]}
    write(tmp_path / "in", tensors, cfg)
    model = eyespot.load(tmp_path / "in")
    assert model.contract.text.max_length == 30
    ids = torch.randint(5, 60, (3, 20), generator=torch.Generator().manual_seed(1))
    ids[0, 6:] = ids[2, 1:] = 0
    with torch.no_grad():
        images, texts = reference.images(pixels("clip")), reference.texts(ids)
        ours = model.module.encode_texts(ids)
    assert relative(model.encode_images(PICTURES), images) <= BAR[draw]
    assert relative(ours, texts) <= BAR[draw]
    assert (
        relative(logits(model, ids), images @ texts.T * torch.tensor(reference.logit_scale.item()).exp()) <= BAR[draw]
    )
    eyespot.save(model, tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    assert written.keys() == tensors.keys() - {"text.transformer.embeddings.position_ids"}
    assert all(torch.equal(written[name], tensors[name]) for name in written)
    assert eyespot.load(tmp_path / "out").contract == model.contract
    kept = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]
    assert kept["text_cfg"]["hf_model_name"] == "somebody/a-bert"


@pytest.mark.parametrize("half", [False, True])
def test_weights_of_openai_alone_are_enough(tmp_path, half):
    # 64 channels a head is what these files take for granted.
    wide = dict(num_hidden_layers=2, hidden_act="quick_gelu", layer_norm_eps=1e-5)
    text = hf.CLIPTextConfig(
        **wide, hidden_size=128, intermediate_size=512, num_attention_heads=2, vocab_size=VOCAB,
        max_position_embeddings=16, projection_dim=12, eos_token_id=2,
    )  # fmt: skip
    vision = hf.CLIPVisionConfig(
        **wide, hidden_size=192, intermediate_size=768, num_attention_heads=3, image_size=42, patch_size=14
    )
    config = hf.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)
    reference = redraw(hf.CLIPModel(config), "small")
    tensors = clip_tensors(reference)
    sizes = {"input_resolution": 42, "context_length": 16, "vocab_size": VOCAB}
    if half:  # matrices in half precision, norms and tables in full, as published
        tensors = {n: t.half() if t.ndim >= 2 and "embedding" not in n else t for n, t in tensors.items()}
    torch.save(tensors | {name: torch.tensor(size) for name, size in sizes.items()}, tmp_path / "ViT-T-14.pt")
    model = eyespot.load(tmp_path)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    with torch.no_grad():
        theirs = reference(input_ids=rows(), pixel_values=pixels("clip"))
    assert relative(logits(model, rows()), theirs.logits_per_image) <= (2e-2 if half else BAR["small"])
    eyespot.save(model, tmp_path / "out")
    assert torch.equal(logits(eyespot.load(tmp_path / "out"), rows()), logits(model, rows()))
