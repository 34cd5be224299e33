"""Seconds of one training step of a small LLaVA: packed branches on pictures, forward and backward, by attention path.

Run on an idle machine: `make bench`. Prints medians; the first steps are left out.
"""

import statistics
import time
from itertools import pairwise

import numpy as np
import torch

from eyespot.contracts.encoded import Encoded, EncodedMedia
from eyespot.data.packing import pack
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.vit import VitConfig
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.runtime.device import autocast, autocast_dtype
from eyespot.train.losses import token_loss

PICTURES, QUESTIONS, WORDS, VOCABULARY = 48, 8, 12, 256
STEPS, WARMUP = 12, 3
SIZE, PATCH = 64, 8


def sample(generator: np.random.Generator) -> Encoded:
    """A picture as prefix and questions as its branches, of random words."""
    places = (SIZE // PATCH) ** 2
    medium = EncodedMedia(
        kind="image",
        patches=generator.standard_normal((places, 3 * PATCH * PATCH)).astype(np.float32),
        grid_thw=np.array([[1, SIZE // PATCH, SIZE // PATCH]]),
        slots=np.arange(1, 1 + places),
        original_size=(SIZE, SIZE),
        input_size=(SIZE, SIZE),
        sha256="",
    )
    lengths = (places + 2, *[WORDS] * QUESTIONS)
    weight = np.zeros(sum(lengths), np.float32)
    for _, end in pairwise(np.cumsum(lengths)):
        weight[end - 3 : end] = 1
    ids = generator.integers(0, VOCABULARY, sum(lengths))
    return Encoded("", "", ids, weight, lengths=lengths, parent=(-1, *[0] * QUESTIONS), media=(medium,))


def main() -> None:
    """Time steps in each precision that the machine computes in."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    model = VisionLanguageModel(
        VlmConfig(
            DecoderConfig(VOCABULARY, 128, 4, 4, 2, intermediate_size=384, tie_word_embeddings=True),
            VitConfig(128, 4, 4, 384, image_size=(SIZE, SIZE), patch_size=PATCH, stem="conv", stem_channels=(32, 64)),
            ConnectorConfig("mlp2x_gelu", 128, 128),
            select_layers=(-1,),
        )
    )
    batches = [pack([sample(generator) for _ in range(PICTURES)]) for _ in range(STEPS)]
    tokens = batches[0].segments.tokens
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters:,} parameters, {PICTURES} pictures, {tokens:,} tokens a step, {torch.get_num_threads()} threads"
    )
    for dtype in dict.fromkeys((torch.float32, autocast_dtype("cpu"))):
        seconds = []
        for batch in batches:
            began = time.perf_counter()
            with autocast(torch.device("cpu"), dtype):
                total, weight = token_loss(model, model(batch).last, batch.targets, batch.loss_weight)
            (total / weight).backward()
            model.zero_grad()
            seconds.append(time.perf_counter() - began)
        median = statistics.median(seconds[WARMUP:])
        print(f"{str(dtype).removeprefix('torch.'):10} {median:6.3f} s a step  {tokens / median:10,.0f} tokens/s")


if __name__ == "__main__":
    main()
