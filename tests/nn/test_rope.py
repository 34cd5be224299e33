"""Rotary frequencies whose base grows with the sequence: nothing below the trained length, each sequence for itself."""

import torch

from eyespot.contracts.batch import Segments
from eyespot.models.decoder import Decoder, DecoderConfig
from eyespot.nn.rope import RopeConfig, for_length, rotary_tables

DYNAMIC = RopeConfig(theta=1e4, type="dynamic", factor=2.0, original_max_position_embeddings=8)


def tables(length: int, config: RopeConfig = DYNAMIC):
    return rotary_tables(torch.arange(length)[None], for_length(config, 8, length), 8, torch.float32)


def test_up_to_the_trained_length_nothing_changes():
    for mine, plain in zip(tables(8), tables(8, RopeConfig()), strict=True):
        assert torch.equal(mine, plain)


def test_beyond_it_the_base_is_that_of_the_formula():
    length = 20
    base = 1e4 * (2.0 * length / 8 - 1.0) ** (8 / 6)
    for mine, expected in zip(tables(length), tables(length, RopeConfig(theta=base)), strict=True):
        assert torch.allclose(mine, expected, atol=1e-5)
    assert not torch.allclose(tables(length)[0], tables(length, RopeConfig())[0], atol=1e-2)


def test_packed_sequences_are_those_alone():
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(30, 16, 2, 2, 2, intermediate_size=24, rope=DYNAMIC)).eval()
    lengths = (5, 20, 11)
    hidden = torch.randn(sum(lengths), 16)
    places = torch.cat([torch.arange(n) for n in lengths])[None]
    with torch.no_grad():
        packed = decoder(hidden, places, Segments.of(lengths)).last
        alone = [
            decoder(h, p[None], Segments.of((len(h),))).last
            for h, p in zip(hidden.split(lengths), places[0].split(lengths), strict=True)
        ]
    assert torch.allclose(packed, torch.cat(alone), atol=1e-5)
    assert not torch.allclose(tables(20)[0][:5], tables(5)[0], atol=1e-2), "one length for all would be seen"
