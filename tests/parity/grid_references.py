"""Tiny references whose towers take pictures of any size, and the processor that `transformers` gives them.

Without torchvision their processor insists on a video processor that cannot be made; a stub stands in for it, and the
real image processor (PIL), template and expansion of placeholders run.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.parity.references import VOCAB, redraw

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
ID = {token: i for i, token in enumerate(SPECIALS)}
# In the manner of the published ones: a system turn where none is given, pictures counted where asked.
TEMPLATE = """\
{%- set seen = namespace(images=0, videos=0) -%}
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{%- set seen.images = seen.images + 1 -%}
{%- if add_vision_id -%}{{- 'Picture ' ~ seen.images ~ ': ' -}}{%- endif -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}
{%- set seen.videos = seen.videos + 1 -%}
{%- if add_vision_id -%}{{- 'Video ' ~ seen.videos ~ ': ' -}}{%- endif -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- else -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
LEAST, MOST = 56 * 56, 28 * 28 * 40


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
        additional_special_tokens=SPECIALS[1:],
    )  # fmt: skip
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return made


def image_processor(**changes: Any) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(**{"size": {"shortest_edge": LEAST, "longest_edge": MOST}, **changes})


class _NoVideos:
    merge_size, temporal_patch_size = 2, 2
    model_input_names = ()


def processor(folder: Path, kind: type = hf.Qwen2VLProcessor, **changes: Any) -> Any:
    """Their whole processor; its image processor and tokenizer are written to `folder`."""
    image = image_processor(**changes)
    image.save_pretrained(folder)
    return whole_processor(image, tokenizer(folder), kind)


def whole_processor(image: Any, text: Any, kind: type = hf.Qwen2VLProcessor) -> Any:
    class Whole(kind):
        def check_argument_for_proper_class(self, name: str, argument: Any) -> type:
            return type(argument)

    Whole.__name__ = kind.__name__
    return Whole(image, text, _NoVideos(), chat_template=TEMPLATE)


@contextmanager
def video_processor(module: str, name: str) -> Iterator[Any]:
    """A video processor of theirs, bare: made without its initialiser, while empty modules stand in for torchvision."""
    stubs = ["torchvision", *(f"torchvision.transforms{rest}" for rest in ("", ".v2", ".v2.functional"))]
    with pytest.MonkeyPatch.context() as patch:
        for stub in stubs:
            empty = ModuleType(stub)
            empty.__path__ = []
            patch.setitem(sys.modules, stub, empty)
        for stub in stubs[1:]:
            parent, _, child = stub.rpartition(".")
            setattr(sys.modules[parent], child, sys.modules[stub])
        kind = getattr(importlib.import_module(f"transformers.models.{module}"), name)
    yield object.__new__(kind)


def text_settings(**changes: Any) -> dict[str, Any]:
    shared = dict(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, use_sliding_window=False,
        bos_token_id=ID["<|endoftext|>"], eos_token_id=ID["<|im_end|>"], pad_token_id=ID["<|endoftext|>"],
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    )  # fmt: skip
    return {**shared, **changes}


def tokens() -> dict[str, int]:
    return {
        "image_token_id": ID["<|image_pad|>"], "video_token_id": ID["<|video_pad|>"],
        "vision_start_token_id": ID["<|vision_start|>"], "vision_end_token_id": ID["<|vision_end|>"],
    }  # fmt: skip


def qwen2_vl(draw: str, text: dict | None = None, vision: dict | None = None, **changes: Any) -> torch.nn.Module:
    tower = dict(
        depth=3, embed_dim=32, hidden_size=64, mlp_ratio=2, num_heads=2, patch_size=14, spatial_merge_size=2,
        temporal_patch_size=2, hidden_act="quick_gelu",
    )  # fmt: skip
    config = hf.Qwen2VLConfig(
        text_config=text_settings(**(text or {})), vision_config={**tower, **(vision or {})}, **tokens(),
        **{"tie_word_embeddings": False, **changes},
    )  # fmt: skip
    return ready(hf.Qwen2VLForConditionalGeneration(config), draw)


def qwen2_5_vl(draw: str, text: dict | None = None, vision: dict | None = None, **changes: Any) -> torch.nn.Module:
    tower = dict(
        depth=3, hidden_size=32, out_hidden_size=64, intermediate_size=48, num_heads=2, patch_size=14,
        spatial_merge_size=2, temporal_patch_size=2, hidden_act="silu", window_size=56, fullatt_block_indexes=[1],
        tokens_per_second=2,
    )  # fmt: skip
    config = hf.Qwen2_5_VLConfig(
        text_config=text_settings(**(text or {})), vision_config={**tower, **(vision or {})}, **tokens(),
        **{"tie_word_embeddings": False, **changes},
    )  # fmt: skip
    return ready(hf.Qwen2_5_VLForConditionalGeneration(config), draw)


def qwen3_vl(draw: str, text: dict | None = None, vision: dict | None = None, **changes: Any) -> torch.nn.Module:
    """Two taps that are not the first two blocks, heads wider than the width has room for, sections of unlike size."""
    tower = dict(
        depth=4, hidden_size=32, out_hidden_size=64, intermediate_size=48, num_heads=2, patch_size=16,
        spatial_merge_size=2, temporal_patch_size=2, hidden_act="gelu_pytorch_tanh", num_position_embeddings=25,
        deepstack_visual_indexes=[0, 2],
    )  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 3, 3], "mrope_interleaved": True}
    own = {"head_dim": 24, "num_hidden_layers": 3, "rope_parameters": rope}
    config = hf.Qwen3VLConfig(
        text_config=text_settings(**own, **(text or {})), vision_config={**tower, **(vision or {})}, **tokens(),
        **{"tie_word_embeddings": False, **changes},
    )  # fmt: skip
    return ready(hf.Qwen3VLForConditionalGeneration(config), draw)


KINDS = {"qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl}
# What their image processors' files say beside the bounds.
PROCESSORS = {"qwen3_vl": {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}}


def ready(model: torch.nn.Module, draw: str) -> torch.nn.Module:
    """Redrawn, and stopping at the end tokens that a published generation config has."""
    model = redraw(model, draw)
    model.generation_config.eos_token_id = [ID["<|im_end|>"], ID["<|endoftext|>"]]
    model.generation_config.pad_token_id = ID["<|endoftext|>"]
    return model
