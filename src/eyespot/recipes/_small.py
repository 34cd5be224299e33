"""A LLaVA of a million parameters that two cores can train: convolutional stem, Llama-like decoder, words as tokens.

Not a recipe: what the recipes `demo`, `scenes` and `handwriting` build their models with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.families import Loaded, build
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import with_images
from eyespot.inputs.tokenizer import words
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.nn.rope import RopeConfig
from eyespot.train.run import Stage

SPECIALS = ("<pad>", "<image>", "<user>", "<assistant>", "<end>")

# Roles are control tokens; what the system says opens the user's turn, where a picture would stand.
TEMPLATE = with_images(
    "{%- set ns = namespace(given='') -%}{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set ns.given = message.content + '\n' -%}"
    "{%- elif message.role == 'assistant' -%}"
    "{{ '<assistant>' }}{% generation %}{{ message.content + '<end>' }}{% endgeneration %}"
    "{%- else -%}{{ '<user>' + ns.given + message.content }}{%- set ns.given = '' -%}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<assistant>' }}{%- endif -%}"
)


# How these models learn fastest: Muon on the hidden matrices, warm-up, a stable stretch, linear decay.
FAST = Stage(
    optimizer="muon",
    lr=3e-3,
    schedule="wsd",
    warmup=0.05,
    decay=0.3,
    weight_decay=0.01,
    betas=(0.9, 0.98),
)


@dataclass(frozen=True)
class Sizes:
    """How large the parts are; the defaults are the demo's."""

    picture: int = 64
    patch: int = 8
    width: int = 128
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 4
    context: int = 1024


def small_llava(texts: Sequence[str], sizes: Sizes | None = None) -> Loaded:
    """A fresh model with random weights.

    Args:
        texts: hold every word that is to be a token of its own; all else is spelt in bytes.
        sizes: of the parts.
    """
    sizes = sizes or Sizes()
    tokenizer = words(texts, SPECIALS, eos_token="<end>", pad_token="<pad>")
    side = (sizes.picture, sizes.picture)
    vision = VitConfig(
        hidden_size=sizes.width,
        num_layers=sizes.encoder_layers,
        num_heads=sizes.heads,
        intermediate_size=2 * sizes.width,
        image_size=side,
        patch_size=sizes.patch,
        stem="conv",
        stem_channels=(32, 64),
    )
    decoder = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=sizes.width,
        num_layers=sizes.decoder_layers,
        num_heads=sizes.heads,
        num_kv_heads=sizes.heads,
        intermediate_size=2 * sizes.width,
        rope=RopeConfig(theta=1000.0),
        tie_word_embeddings=True,
        max_position_embeddings=sizes.context,
    )
    connector = ConnectorConfig("mlp2x_gelu", sizes.width, sizes.width)
    contract = Contract(
        image=ImageRule(size=side, resize="exact", resample="bilinear", patch_size=sizes.patch),
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
    module = build(VlmConfig(decoder, vision, connector, select_layers=(-1,))).to(torch.float32)
    return Loaded(module, Processor(contract, tokenizer), contract, "eyespot", "eyespot")
