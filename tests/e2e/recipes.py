"""Recipes of these tests, named on the command line as `e2e_recipes:two_stages`."""

from eyespot.train.run import RunConfig, Stage


def two_stages() -> RunConfig:
    """LLaVA's two stages: the connector alone, then connector and decoder."""
    align = Stage(name="align", steps=3, lr=3e-3, trainable=("connector",), batch_tokens=160, max_length=120)
    finetune = align.replace(name="finetune", lr=1e-3, trainable=("connector|decoder|lm_head",))
    return RunConfig(out="run", stages=(align, finetune), precision="float32")
