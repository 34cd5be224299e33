"""Tiny LLaVA-OneVisions of `transformers`, and the processor that it gives them.

Without torchvision its video processors cannot be made; a stand-in squeezes frames with the PIL back end, and the real
image processor (PIL), template and expansion of placeholders run.
"""

from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tests.parity.references import SPECIALS, llava, tokenizer, vision_config

# A tile leaves a border of pixels that no patch takes, as the published one does (384 = 27 × 14 + 6).
TILE = 48
PINPOINTS = [[TILE * rows, TILE * columns] for rows in range(1, 5) for columns in range(1, 5)]
BOUND = 4
VIDEO_TOKEN, VIDEO_TOKEN_ID = "<video>", len(SPECIALS)
# In the manner of the published one: pictures first, then videos, then text; answers marked.
TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- for part in message.content if part.type == 'image' -%}{{- '<image>' -}}{%- endfor -%}
{%- for part in message.content if part.type == 'video' -%}{{- '<video>' -}}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- part.text + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- part.text + '<|im_end|>' -}}
{%- endif -%}
{%- endfor -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def llava_onevision(kind: str, draw: str, vision: str = "siglip", side: int = TILE, **changes: Any) -> torch.nn.Module:
    """LLaVA-OneVision with a decoder of `kind`; its tower stops where the published one does."""
    head = {} if vision == "clip" else {"vision_use_head": False}
    own = dict(
        vision_config=vision_config(vision, image_size=side, **head).to_dict(), video_token_index=VIDEO_TOKEN_ID,
        vision_feature_layer=-2 if vision == "clip" else -1, vision_aspect_ratio=f"anyres_max_{BOUND}",
        image_grid_pinpoints=[[h // TILE * side, w // TILE * side] for h, w in PINPOINTS],
    )  # fmt: skip
    model = llava(kind, draw, vision, hf.LlavaOnevisionConfig, **{**own, **changes})
    del model.config.image_seq_length  # LLaVA's, which this family has no use for
    return model


class Frames:
    """Stands in for the video processor: every frame squeezed to one tile."""

    model_input_names = ("pixel_values_videos",)

    def __init__(self, image: Any) -> None:
        self.squeeze = hf.SiglipImageProcessorPil(
            size=image.size, image_mean=image.image_mean, image_std=image.image_std
        )

    def __call__(self, videos: Any, **_: Any) -> dict[str, torch.Tensor]:
        flat = [video for videos_of_one in videos for video in videos_of_one]
        return {"pixel_values_videos": torch.stack([self.squeeze(v, return_tensors="pt").pixel_values for v in flat])}


def whole_processor(image: Any, text: Any, grid: int, vision: str = "siglip") -> Any:
    """Their whole processor around an image processor and a tokenizer."""

    class Whole(hf.LlavaOnevisionProcessor):
        def check_argument_for_proper_class(self, name: str, argument: Any) -> type:
            return type(argument)

    Whole.__name__ = hf.LlavaOnevisionProcessor.__name__
    clip = vision == "clip"
    return Whole(
        image, text, Frames(image), num_image_tokens=grid**2 + clip, chat_template=TEMPLATE,
        vision_feature_select_strategy="default" if clip else "full", vision_aspect_ratio=f"anyres_max_{BOUND}",
    )  # fmt: skip


def llava_onevision_processor(folder: Path, vision: str = "siglip", side: int = TILE) -> Any:
    """Their processor; image processor, template and tokenizer are written to `folder`."""
    image = hf.LlavaOnevisionImageProcessorPil(
        size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        image_grid_pinpoints=[[h // TILE * side, w // TILE * side] for h, w in PINPOINTS],
    )  # fmt: skip
    image.save_pretrained(folder)
    text = tokenizer(folder, bos=False, template=TEMPLATE, extra=[VIDEO_TOKEN])
    text.video_token, text.video_token_id = VIDEO_TOKEN, VIDEO_TOKEN_ID
    return whole_processor(image, text, side // 14, vision)
