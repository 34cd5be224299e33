"""`tiny`: a LLaVA of some thousand parameters, built from nothing and trained for a few steps. For tests and scripts.

It shows every part of a run in seconds and learns next to nothing; the recipe that learns to see is `demo`.
"""

from itertools import islice

import torch

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.families import Loaded, build
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import with_images
from eyespot.inputs.tokenizer import Tokenizer, words
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.train.run import RunConfig, Stage
from eyespot.worlds.scenes import SMALL, Scenes

SPECIALS = ("<pad>", "<image>", "<user>", "<assistant>", "<end>")
SIZE, PATCH = 32, 8

# Roles are control tokens; an answer ends with <end>.
TEMPLATE = with_images(
    "{%- for message in messages -%}{{ '<' + message.role + '>' }}"
    "{%- if message.role == 'assistant' -%}{% generation %}{{ message.content + '<end>' }}{% endgeneration %}"
    "{%- else -%}{{ message.content }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<assistant>' }}{%- endif -%}"
)


def tiny() -> RunConfig:
    """Two stages on drawn scenes: the connector alone, then everything but the encoder."""
    align = Stage(name="align", steps=4, lr=3e-3, trainable=("connector",), batch_tokens=1024, max_length=512)
    finetune = align.replace(name="finetune", lr=1e-3, trainable=("connector|decoder",))
    return RunConfig(
        model="eyespot.recipes.tiny:model", data=("world:scenes",), out="runs/tiny", stages=(align, finetune)
    )


def model() -> Loaded:
    """A fresh model with random weights: convolutional stem, two-layer decoder, words of the scenes as vocabulary."""
    tokenizer = vocabulary()
    vision = VitConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        image_size=(SIZE, SIZE),
        patch_size=PATCH,
        stem="conv",
        stem_channels=(8, 16),
    )
    decoder = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=64,
        tie_word_embeddings=True,
        max_position_embeddings=512,
    )
    config = VlmConfig(decoder, vision, ConnectorConfig("mlp2x_gelu", 32, 32), select_layers=(-1,))
    contract = Contract(
        image=ImageRule(size=(SIZE, SIZE), resize="exact", resample="bilinear", patch_size=PATCH),
        text=TextRule(
            template=TEMPLATE,
            image_token="<image>",
            image_token_id=tokenizer.id_of("<image>"),
            add_special_tokens=False,
            eos_token="<end>",
            pad_token="<pad>",
            stop_tokens=(tokenizer.id_of("<end>"),),
        ),
    )
    return Loaded(build(config).to(torch.float32), Processor(contract, tokenizer), contract, "eyespot", "eyespot")


def vocabulary() -> Tokenizer:
    """Every word that a hundred scenes are told with."""
    told = (m.text for example in islice(Scenes(SMALL).text_examples(), 100) for m in example.messages)
    return words(told, SPECIALS, eos_token="<end>", pad_token="<pad>")
