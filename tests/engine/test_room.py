"""How long a conversation may become: the trained length, times what the rotary frequencies are stretched by."""

import pytest

from eyespot import families
from eyespot.engine.model import Model
from eyespot.errors import EyespotError
from eyespot.nn.rope import RopeConfig
from tests.families.makers import text_model


@pytest.mark.parametrize(("rope", "factor"), [
    (RopeConfig(), 1), (RopeConfig(type="linear", factor=2.0), 2),
    (RopeConfig(type="dynamic", factor=2.0, original_max_position_embeddings=512), 2),
])  # fmt: skip
def test_the_limit_is_stretched_with_the_frequencies(tmp_path, rope, factor):
    made = text_model(tmp_path, "llama")
    config = made.config.replace(decoder=made.config.decoder.replace(rope=rope))
    module = families.build(config)
    module.load_state_dict(made.module.state_dict())
    made.module = module.eval()
    model = Model(made)
    assert model._room(500) == 512 * factor - 500
    with pytest.raises(EyespotError, match=f"fewer than {512 * factor:,}"):
        model._room(512 * factor)
