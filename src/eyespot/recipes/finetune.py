"""`finetune`: any model and any data, one stage.

``eyespot train finetune model=MODEL data=rows.jsonl out=runs/mine steps=100 lr=2e-5``. The connector and the decoder
learn, the encoder stays, as in LLaVA 1.5 (Liu et al. 2023); ``trainable=`` says otherwise. With ``lora.rank=8 lr=2e-4``
the whole model stays, and adapters on the decoder's linear layers learn.
"""

from eyespot.train.run import RunConfig, Stage


def finetune() -> RunConfig:
    """One stage; the model and the data are yours to name."""
    stage = Stage(name="finetune", steps=200, lr=2e-5)
    return RunConfig(out="runs/finetune", stages=(stage,))
