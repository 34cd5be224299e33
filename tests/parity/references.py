"""Tiny random reference models of `transformers`, in two draws that together see every wrong flag.

`small` keeps every norm's input near its eps, so a wrong eps shows; `wide` drives activations far from zero, so a wrong
GELU shows (docs/decisions, parity). Neither alone is enough.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DRAWS = ("small", "wide")
BAR = {"small": 1e-5, "wide": 1e-4}

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<image>"]
VOCAB = 360

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] if content['type'] == 'text' %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """max |difference| ÷ max |reference|, the measure of every parity claim."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())


def redraw(model: torch.nn.Module, draw: str, seed: int = 0) -> torch.nn.Module:
    """Every parameter anew, N(0, 0.2²), +1 on norm weights; then the draw's own scales."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
            embedding = "embed" in name or "lm_head" in name or "shared" in name
            # Wide scores would make a fused attention a choice of one key, where rounding of either side decides.
            if draw == "wide" and p.ndim >= 2 and not embedding and "position" not in name and "qkv" not in name:
                p.mul_(2.5)
            quiet = ("embed" in name, "o_proj" in name, "down_proj" in name, "out_proj" in name, "fc2" in name)
            more = ("pre_layrnorm" in name, name.endswith("probe"), "class_embedding" in name)
            more += (".attn.proj." in name, "merger.mlp.2." in name)
            if draw == "small" and (any(quiet) or any(more)):
                p.mul_(1e-2)
    return model.eval()


def tokenizer(
    folder: Path, *, bos: bool, template: str | None, extra: Sequence[str] = ()
) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE with the special tokens of the families and the `extra` ones, written to `folder`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[*SPECIALS, *extra], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(["What is in the picture? A red star is left of the blue circle."] * 20, trainer)
    if bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>", "<image>", *extra],
        padding_side="left",
    )
    made.chat_template = template
    made.image_token = "<image>"
    made.image_token_id = 6
    made.save_pretrained(folder)
    return made


def text_config(kind: str, **changes):
    """Tiny configs of the four text families, every value explicit."""
    shared = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    special = {
        "llama": dict(head_dim=8, rms_norm_eps=1e-5, rope_theta=1e4, attention_bias=False),
        "mistral": dict(head_dim=8, rms_norm_eps=1e-5, rope_theta=1e5, sliding_window=5),
        "qwen2": dict(rms_norm_eps=1e-6, rope_theta=1e6, use_sliding_window=False),
        "qwen3": dict(head_dim=16, rms_norm_eps=1e-6, rope_theta=1e6, use_sliding_window=False),
    }[kind]
    classes = dict(llama=hf.LlamaConfig, mistral=hf.MistralConfig, qwen2=hf.Qwen2Config, qwen3=hf.Qwen3Config)
    return classes[kind](**{**shared, **special, **changes})


def vision_config(kind: str, **changes):
    """Tiny towers: CLIP's and SigLIP's."""
    shared = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=42, patch_size=14
    )
    if kind == "clip":
        return hf.CLIPVisionConfig(
            **{**shared, "projection_dim": 12, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", **changes}
        )
    return hf.SiglipVisionConfig(**{**shared, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh", **changes})


def contrastive(kind: str, draw: str, legacy_eos: bool = False) -> torch.nn.Module:
    """A whole CLIP or SigLIP model."""
    text = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=VOCAB)
    if kind == "clip":
        eos = 2 if legacy_eos else VOCAB - 1
        text = hf.CLIPTextConfig(
            **text,
            max_position_embeddings=16,
            projection_dim=12,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
            bos_token_id=VOCAB - 2,
            eos_token_id=eos,
            pad_token_id=VOCAB - 1,
        )
        config = hf.CLIPConfig(
            text_config=text.to_dict(), vision_config=vision_config("clip").to_dict(), projection_dim=12
        )
        return redraw(hf.CLIPModel(config), draw)
    text = hf.SiglipTextConfig(
        **text,
        max_position_embeddings=16,
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=1e-6,
        projection_size=16,
        pad_token_id=1,
        bos_token_id=VOCAB - 2,
        eos_token_id=VOCAB - 1,
    )
    config = hf.SiglipConfig(text_config=text.to_dict(), vision_config=vision_config("siglip").to_dict())
    return redraw(hf.SiglipModel(config), draw)


def llava(kind: str, draw: str, vision: str = "clip", config_class: type = hf.LlavaConfig, **changes):
    """LLaVA, or a model configured like it, with a decoder of `kind`."""
    strategy = "default" if vision == "clip" else "full"
    config = config_class(
        **{
            **dict(
                text_config=text_config(kind).to_dict(),
                vision_config=vision_config(vision).to_dict(),
                image_token_index=6,
                projector_hidden_act="gelu",
                vision_feature_layer=-2,
                vision_feature_select_strategy=strategy,
                image_seq_length=9,
                multimodal_projector_bias=True,
                tie_word_embeddings=False,
            ),
            **changes,
        }
    )
    return redraw(hf.AutoModelForImageTextToText.from_config(config), draw)


PINPOINTS = [[42, 84], [84, 42], [84, 84], [126, 42], [42, 126]]  # the published canvases for tiles of 42


def llava_next(kind: str, draw: str, vision: str = "clip", **changes) -> torch.nn.Module:
    """LLaVA-NeXT with a decoder of `kind`."""
    return llava(kind, draw, vision, hf.LlavaNextConfig, **{"image_grid_pinpoints": PINPOINTS, **changes})


def llava_next_processor(folder: Path, vision: str = "clip", pinpoints=PINPOINTS) -> hf.LlavaNextProcessor:
    """Processor files of a LLaVA-NeXT checkpoint."""
    changes = {} if vision == "clip" else {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    image = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}, image_grid_pinpoints=pinpoints, **changes
    )
    return _saved(hf.LlavaNextProcessor, image, folder, vision)


def llava_processor(folder: Path, vision: str = "clip", pad: bool = False) -> hf.LlavaProcessor:
    """Processor files of a LLaVA checkpoint."""
    size = {"shortest_edge": 42} if vision == "clip" else {"height": 42, "width": 42}
    if vision == "clip" and pad:
        image = hf.LlavaImageProcessorPil(do_pad=True, size=size, crop_size={"height": 42, "width": 42})
    elif vision == "clip":
        image = hf.CLIPImageProcessorPil(size=size, crop_size={"height": 42, "width": 42})
    else:
        image = hf.SiglipImageProcessorPil(size=size)
    return _saved(hf.LlavaProcessor, image, folder, vision)


def _saved(cls: type, image, folder: Path, vision: str):
    """The processor of a LLaVA of either kind, with its files."""
    made = cls(
        image_processor=image,
        tokenizer=tokenizer(folder, bos=True, template=LLAVA_TEMPLATE),
        patch_size=14,
        vision_feature_select_strategy="default" if vision == "clip" else "full",
        num_additional_image_tokens=1 if vision == "clip" else 0,
        chat_template=LLAVA_TEMPLATE,
        image_token="<image>",
    )
    made.save_pretrained(folder)
    return made


def authors_layout(model: torch.nn.Module, tower: Path, folder: Path, **changes) -> None:
    """The weights of a LLaVA under the names of the authors' code, with its flat config, which names the tower."""
    names = {
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.", "model.language_model.": "model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    }  # fmt: skip
    tensors = {}
    for name, tensor in model.state_dict().items():
        theirs = next((their for their in names if name.startswith(their)), "")
        tensors[names.get(theirs, "") + name.removeprefix(theirs)] = tensor.contiguous().clone()
    save_file(tensors, folder / "model.safetensors")
    raw = {
        **model.config.text_config.to_dict(), "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava",
        "mm_vision_tower": str(tower), "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch", "mm_patch_merge_type": "spatial_unpad", **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(raw))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth random colours, so that resampling matters."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def user(*parts) -> list[dict]:
    """One user turn of texts and pictures."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return [{"role": "user", "content": content}]
