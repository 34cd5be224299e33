"""`finetune`: any model and any data, one stage.

``eyespot train finetune model=MODEL data=rows.jsonl out=runs/mine steps=100 lr=2e-5``. The connector and the decoder
learn, the encoder stays, as in LLaVA 1.5 (Liu et al. 2023); ``trainable=`` says otherwise.
"""

from eyespot.train.run import RunConfig, Stage


def finetune() -> RunConfig:
    """One stage; the model and the data are yours to name."""
    stage = Stage(name="finetune", steps=200, lr=2e-5, trainable=("connector|decoder|lm_head",))
    return RunConfig(out="runs/finetune", stages=(stage,))
