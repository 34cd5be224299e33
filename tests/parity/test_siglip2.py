"""SigLIP 2 of one picture size, as it is published: SigLIP's classes, Gemma's tokenizer, texts in lower case."""

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import eyespot
from tests.parity.references import BAR, DRAWS, picture, redraw, relative, vision_config

pytestmark = pytest.mark.parity
LENGTH = 16
TEXTS = ["a photo of 2 cats", "", "a red star, left of the blue circle", "그림 é 🐈", "star " * 40]
MIXED = ["A Photo of 2 CATS", "ÉTOILE Straße ΣΑΣ İ", "a Red star"]
SIZES = [(60, 33), (42, 42), (5, 90), (1, 1), (400, 7)]


def gemma(cls: type) -> hf.PreTrainedTokenizerBase:
    """Gemma's kind of tokenizer as SigLIP 2 has it: BPE with bytes, an end token and no BOS, padded on the right."""
    raw = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    byte_tokens = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *byte_tokens])
    raw.train_from_iterator(["a photo of two cats. a red star is left of the blue circle"] * 20, trainer)
    model = json.loads(raw.to_str())["model"]
    return cls(
        vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], add_bos_token=False, add_eos_token=True,
        padding_side="right", model_input_names=["input_ids"], model_max_length=LENGTH,
    )  # fmt: skip


def checkpoint(folder, draw: str, cls: type = hf.GemmaTokenizer):
    """A tiny SigLIP 2 in the published layout; the text tower is narrower than the space, as of the largest."""
    text = hf.SiglipTextConfig(
        hidden_size=8, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=360,
        max_position_embeddings=LENGTH, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, projection_size=16,
        pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    config = hf.SiglipConfig(text_config=text.to_dict(), vision_config=vision_config("siglip").to_dict())
    reference = redraw(hf.SiglipModel(config), draw)
    reference.save_pretrained(folder)
    image = hf.SiglipImageProcessorPil(size={"height": 42, "width": 42}, resample=2)
    processor = hf.SiglipProcessor(image, gemma(cls))
    processor.save_pretrained(folder)
    return reference, processor


def their_ids(tokenizer, texts: list[str]) -> torch.Tensor:
    made = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return made["input_ids"]


@pytest.fixture(params=DRAWS)
def draw(request) -> str:
    return request.param


def test_vectors_logits_and_loss_agree(tmp_path, draw):
    reference, processor = checkpoint(tmp_path, draw)
    model = eyespot.load(tmp_path)
    images = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = reference(input_ids=their_ids(processor.tokenizer, TEXTS), pixel_values=pixels, return_loss=True)
        image_vectors, text_vectors = model.encode_images(images), model.encode_texts(TEXTS)
        logits = model.module.similarity(image_vectors, text_vectors)
        signs = 2 * torch.eye(len(TEXTS)) - 1
        loss = -torch.nn.functional.logsigmoid(signs * logits).sum(-1).mean()
    assert relative(image_vectors, out.image_embeds) <= BAR[draw]
    assert relative(text_vectors, out.text_embeds) <= BAR[draw]
    assert relative(logits, out.logits_per_image) <= BAR[draw]
    assert abs(float(loss - out.loss)) <= BAR[draw] * abs(float(out.loss))


def test_ids_are_those_of_the_published_tokenizer(tmp_path):
    checkpoint(tmp_path, "small")
    theirs = hf.AutoTokenizer.from_pretrained(tmp_path)
    ours = eyespot.load(tmp_path)
    assert ours.processor.contract.text.clean == "lower"
    assert torch.equal(ours.processor.encode_texts(TEXTS), their_ids(theirs, TEXTS))


@pytest.mark.parametrize("cls", [hf.GemmaTokenizer, hf.Siglip2Tokenizer])
def test_text_is_lowered_as_in_training_whichever_class_the_file_names(tmp_path, cls):
    """Gemma's class keeps case although the model never saw it; the later Siglip2Tokenizer is the truth here."""
    checkpoint(tmp_path, "small", cls)
    ours = eyespot.load(tmp_path).processor.encode_texts(MIXED)
    assert torch.equal(ours, their_ids(gemma(hf.Siglip2Tokenizer), MIXED))


@pytest.mark.parametrize("cls", [hf.GemmaTokenizer, hf.Siglip2Tokenizer])
@pytest.mark.parametrize("way", ["direct", "through our layout"])
def test_what_we_export_they_load_and_agree(tmp_path, draw, way, cls):
    source, export = tmp_path / "source", tmp_path / "export"
    reference, _ = checkpoint(source, draw, cls)
    model = eyespot.load(source)
    if way == "direct":
        eyespot.save(model, export)
    else:
        eyespot.save(model, tmp_path / "own", layout="eyespot")
        eyespot.save(eyespot.load(tmp_path / "own"), export, layout="hf")
    again, info = hf.SiglipModel.from_pretrained(export, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in reference.state_dict().items())
    ids = their_ids(hf.AutoTokenizer.from_pretrained(export), TEXTS)
    images = [picture(60, 33), picture(42, 42, 1)]
    processor = hf.AutoImageProcessor.from_pretrained(export, backend="pil")
    with torch.no_grad():
        out = again.eval()(input_ids=ids, pixel_values=processor(images, return_tensors="pt")["pixel_values"])
        logits = model.module.similarity(model.encode_images(images), model.encode_texts(TEXTS))
    assert relative(logits, out.logits_per_image) <= BAR[draw]
    assert eyespot.load(export).processor.contract == model.processor.contract


def test_a_checkpoint_saved_again_holds_the_same_tensors_and_config(tmp_path):
    checkpoint(tmp_path / "theirs", "wide")
    eyespot.save(eyespot.load(tmp_path / "theirs"), tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / f / "model.safetensors") for f in ("theirs", "ours"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)
    configs = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("theirs", "ours")]
    assert configs[0] == configs[1]
