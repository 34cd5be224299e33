"""The text tower with padding: what is not there changes nothing."""

import pytest
import torch

from eyespot.errors import EyespotError
from eyespot.models.encoders.post_norm_text import PostNormText, PostNormTextConfig

CONFIG = PostNormTextConfig(
    vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=12, projection_size=8
)


def tower(**changes) -> PostNormText:
    module = PostNormText(CONFIG.replace(**changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return module.eval()


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_padding_changes_no_vector(pool):
    module = tower(pool=pool)
    short, long = [5, 6, 7], [8, 9, 10, 11, 12]
    with torch.no_grad():
        together = module(torch.tensor([[*short, 0, 0], long]))
        for row, text in zip(together, (short, long), strict=True):
            assert torch.allclose(row, module(torch.tensor([text]))[0], atol=1e-6)
        seen = module(torch.tensor([[*short, 1, 1]]))
    assert not torch.allclose(seen[0], together[0], atol=1e-3)


def test_what_lies_behind_a_hole_keeps_its_place():
    module = tower()
    with torch.no_grad():
        whole, hole, moved = (module(torch.tensor([ids])) for ids in ([5, 6, 7], [5, 0, 7], [5, 7, 0]))
    assert not torch.allclose(hole, moved, atol=1e-4)
    assert not torch.allclose(hole, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("ids", "code"), [([[5, 6], [0, 0]], "argument"), ([[5] * 13], "too-long")], ids=["nothing", "too long"]
)
def test_texts_that_cannot_be_read_are_refused(ids, code):
    with pytest.raises(EyespotError) as caught:
        tower()(torch.tensor(ids))
    assert caught.value.code == code


def test_without_a_projection_both_widths_must_be_one():
    assert tower(projection="none", projection_size=16)(torch.tensor([[5]])).shape == (1, 16)
    with pytest.raises(EyespotError, match="16 and 8"):
        tower(projection="none")
