"""Tiny InternVL models of `transformers`, and the processor that it gives them.

Without torchvision their processor insists on a video processor that cannot be made; a stub that prepares each frame
with the real image processor (PIL) stands in for it. Image processor, template and placeholders are theirs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from tests.parity.references import VOCAB, redraw, text_config

NAMED = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip
SPECIALS = ["<|endoftext|>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *NAMED.values()]
ID = {token: i for i, token in enumerate(SPECIALS)}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# In the manner of the published one: a line for each medium, no system turn of its own.
TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<IMG_CONTEXT>\\n' -}}
{%- elif part.type == 'video' -%}{{- '<video>\\n' -}}
{%- else -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
TILE, MOST = 56, 6


def tokenizer(folder: Path) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE with the family's control tokens, written to `folder`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, initial_alphabet=alphabet)
    raw.train_from_iterator(["What is in the picture? A red star is left of the blue circle."] * 20, trainer)
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens=NAMED,
    )  # fmt: skip
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return made


def image_processor(**changes: Any) -> GotOcr2ImageProcessorPil:
    shared = dict(size={"height": TILE, "width": TILE}, image_mean=MEAN, image_std=STD, max_patches=MOST)
    return GotOcr2ImageProcessorPil(**{**shared, **changes})


class Frames:
    """Each frame squeezed to a tile, as their video processor does, by the PIL back end."""

    model_input_names = ()

    def __init__(self, image: GotOcr2ImageProcessorPil) -> None:
        self.image = image

    def __call__(self, videos: list, **_: Any) -> dict[str, torch.Tensor]:
        made = [self.image(list(v), crop_to_patches=False, return_tensors="pt")["pixel_values"] for v in videos]
        return {"pixel_values_videos": torch.stack(made)}


def processor(folder: Path, **changes: Any) -> Any:
    """Their whole processor; its image processor and tokenizer are written to `folder`."""
    image = image_processor(**changes)
    image.save_pretrained(folder)
    return whole_processor(image, tokenizer(folder))


def whole_processor(image: Any, text: Any) -> Any:
    class Whole(hf.InternVLProcessor):
        def check_argument_for_proper_class(self, name: str, argument: Any) -> type:
            return type(argument)

    tokens = (image.size["height"] // 14 // 2) ** 2
    return Whole(image, text, Frames(image), image_seq_length=tokens, chat_template=text.chat_template)


def inputs_of(theirs: Any, *conversations: list[dict], **options: Any) -> Any:
    """One or several conversations as their model takes them; videos of one call have one length."""
    texts = [theirs.apply_chat_template(c, tokenize=False, **options) for c in conversations]
    parts = [p for c in conversations for m in c if not isinstance(m["content"], str) for p in m["content"]]
    images = [p["image"] for p in parts if p["type"] == "image"]
    videos = [np.stack([np.asarray(f) for f in p["video"]]) for p in parts if p["type"] == "video"]
    given = {name: media for name, media in (("images", images), ("videos", videos)) if media}
    return theirs(text=texts, return_tensors="pt", padding=True, **given)


def internvl(kind: str, draw: str, tower: str = "small", vision: dict | None = None, **changes: Any) -> torch.nn.Module:
    """A decoder of `kind` behind a tower built like that of 300 million (`small`) or of 6 billion parameters."""
    large = tower == "large"
    own = dict(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=[TILE, TILE],
        patch_size=[14, 14], hidden_act="gelu", layer_norm_eps=1e-6, layer_scale_init_value=0.1,
        attention_bias=not large, use_qk_norm=large, norm_type="rms_norm" if large else "layer_norm",
        use_mean_pooling=True, use_absolute_position_embeddings=True,
    )  # fmt: skip
    text = text_config(kind, **changes.pop("text", {}))
    config = hf.InternVLConfig(**{
        **dict(
            text_config=text.to_dict(), vision_config={**own, **(vision or {})}, image_token_id=ID["<IMG_CONTEXT>"],
            image_seq_length=4, downsample_ratio=0.5, projector_hidden_act="gelu", vision_feature_layer=-1,
            vision_feature_select_strategy="default", tie_word_embeddings=False,
        ),
        **changes,
    })  # fmt: skip
    return _drawn(hf.InternVLForConditionalGeneration(config), draw)


def _drawn(model: torch.nn.Module, draw: str) -> torch.nn.Module:
    """As `redraw`, for this tower's names: what a norm reads is near its eps in `small`, scales are loud in `wide`."""
    redraw(model, draw)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if draw == "small" and any(n in name for n in ("cls_token", "lambda_", "projection_layer")):
                p.mul_(1e-2)
            if draw == "wide" and "lambda_" in name:
                p.mul_(5.0)
    return model.eval()


def frames(count: int, width: int, height: int) -> list[Image.Image]:
    """A video of noise that changes from frame to frame."""
    rng = np.random.default_rng([count, width, height])
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(count)]


def video(*parts: Any) -> list[dict]:
    """One user turn of texts, pictures and lists of frames."""
    content = []
    for part in parts:
        kind = "text" if isinstance(part, str) else "video" if isinstance(part, list) else "image"
        content.append({"type": kind, kind: part} | ({"fps": 2.0} if kind == "video" else {}))
    return [{"role": "user", "content": content}]
