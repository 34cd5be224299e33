"""Any image tower beside BERT against `transformers`: vectors, logits, tokens, both directions, two draws."""

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import eyespot
from eyespot.inputs.tokenizer import Tokenizer
from tests.parity.references import BAR, DRAWS, picture, redraw, relative

pytestmark = pytest.mark.parity
SENTENCE = "a x ray of the chest no sign un clear heart lung ##s ##ness ##ly left right , . - ( ) 1 2 ##3 中 é e"
WORDS = SENTENCE.split()
SHARED = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 42, "patch_size": 14,
}  # fmt: skip
WIDE = SHARED | {"intermediate_size": 32}
VISION = {
    "vit": lambda: hf.ViTConfig(**WIDE, layer_norm_eps=1e-12, hidden_act="gelu"),
    "clip": lambda: hf.CLIPVisionConfig(**WIDE, layer_norm_eps=1e-5, hidden_act="quick_gelu"),
    "siglip": lambda: hf.SiglipVisionConfig(**WIDE, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh"),
    "dinov2": lambda: hf.Dinov2Config(**SHARED, mlp_ratio=4, layer_norm_eps=1e-6),
}
PICTURES = [picture(60, 33), picture(42, 42, 1), picture(5, 90, 2)]
TEXTS = ["An X-ray of the chest.", "a", "unclear lungs, (left) heartness 123 中é " * 3]


def processor(kind: str):
    if kind == "vit":
        return hf.ViTImageProcessorPil(size={"height": 42, "width": 42})
    if kind == "siglip":
        return hf.SiglipImageProcessorPil(size={"height": 42, "width": 42})
    cls = hf.CLIPImageProcessorPil if kind == "clip" else hf.BitImageProcessorPil
    return cls(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42})


def vocabulary(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n", "utf-8")
    return folder


def checkpoint(folder, kind: str, draw: str):
    text = hf.BertConfig(
        vocab_size=len(WORDS) + 5, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=20, layer_norm_eps=1e-12, hidden_act="gelu", pad_token_id=0,
    )  # fmt: skip
    config = hf.VisionTextDualEncoderConfig.from_vision_text_configs(VISION[kind](), text, projection_dim=12)
    reference = redraw(hf.VisionTextDualEncoderModel(config), draw)
    reference.save_pretrained(folder)
    pixels = processor(kind)
    pixels.save_pretrained(folder)
    tokens = hf.BertTokenizer(str(vocabulary(folder / "words") / "vocab.txt"), model_max_length=20)
    tokens.save_pretrained(folder)
    return reference, pixels, tokens


def both(reference, pixels, tokens):
    words = tokens(TEXTS, padding=True, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        return reference(**words, **pixels(PICTURES, return_tensors="pt")), words


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", VISION)
def test_vectors_and_logits_agree(tmp_path, kind, draw):
    theirs, words = both(*checkpoint(tmp_path, kind, draw))
    model = eyespot.load(tmp_path)
    assert torch.equal(model.processor.encode_texts(TEXTS), words["input_ids"])
    assert relative(model.encode_images(PICTURES), theirs.image_embeds) <= BAR[draw]
    assert relative(model.encode_texts(TEXTS), theirs.text_embeds) <= BAR[draw]
    assert relative(model.similarity(PICTURES, TEXTS), theirs.logits_per_image) <= BAR[draw]


@pytest.mark.parametrize("kind", VISION)
def test_what_we_export_they_load_and_agree(tmp_path, kind):
    checkpoint(tmp_path / "source", kind, "wide")
    model = eyespot.load(tmp_path / "source")
    eyespot.save(model, tmp_path / "own", layout="eyespot")
    eyespot.save(eyespot.load(tmp_path / "own"), tmp_path / "fresh", layout="hf")
    again, info = hf.VisionTextDualEncoderModel.from_pretrained(
        tmp_path / "fresh", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    files = tmp_path / "fresh"
    images = hf.AutoImageProcessor.from_pretrained(files, backend="pil")
    theirs, _ = both(again.eval(), images, hf.AutoTokenizer.from_pretrained(files))
    assert relative(model.similarity(PICTURES, TEXTS), theirs.logits_per_image) <= BAR["wide"]


def test_towers_that_were_wrapped_once_more_are_read(tmp_path):
    checkpoint(tmp_path, "clip", "wide")
    plain = eyespot.load(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    wrapped = {k.replace("vision_model.", "vision_model.vision_model."): t for k, t in tensors.items()}
    save_file(wrapped, tmp_path / "model.safetensors")
    again = eyespot.load(tmp_path)
    assert again.loaded.layout == "hf-wrapped"
    assert torch.equal(again.encode_images(PICTURES), plain.encode_images(PICTURES))


@pytest.mark.parametrize(
    "config", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}], ids=str
)
def test_a_vocabulary_alone_gives_the_same_tokens(tmp_path, config):
    vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = Tokenizer.load(tmp_path), hf.BertTokenizer(str(tmp_path / "vocab.txt"), **config)
    odd = ["", "  ", "中中é e\u0301 É", "a\u0000b\ufffd\t\nx", "un-clear.left(right)1,23", "[MASK] [CLS] x", "x" * 120]
    for text in [*TEXTS, *odd]:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
