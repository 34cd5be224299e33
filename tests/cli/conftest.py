"""A tiny LLaVA on disk, made once for all tests of the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from eyespot import families
from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import VICUNA
from eyespot.inputs.tokenizer import words
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig

TEXTS = (VICUNA, " What color is the star?", " red", " USER: ASSISTANT:")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of a random LLaVA with an 8 × 8 grid of patches, and a picture and rows beside it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = words(TEXTS, ["<s>", "</s>", "<image>"])
    vision = VitConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        image_size=(32, 32),
        patch_size=4,
        class_token=True,
        pre_norm=True,
        patch_bias=False,
        activation="quick_gelu",
        post_norm="pooled",
        pool="class",
    )
    decoder = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        intermediate_size=64,
    )
    config = VlmConfig(decoder, vision, ConnectorConfig("mlp2x_gelu", 32, 48))
    text = TextRule(
        template=VICUNA,
        image_token="<image>",
        image_token_id=tokenizer.id_of("<image>"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        stop_tokens=(tokenizer.id_of("</s>"),),
    )
    contract = Contract(image=ImageRule(size=(32, 32), patch_size=4), text=text)
    loaded = families.Loaded(families.build(config), Processor(contract, tokenizer), contract, "llava", "eyespot")
    families.save(loaded, folder / "model")
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(folder / "star.png")
    turns = [{"from": "human", "value": "<image>\nWhat color is the star?"}, {"from": "gpt", "value": "red"}]
    rows = [{"id": f"row{i}", "image": "star.png", "conversations": turns} for i in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
