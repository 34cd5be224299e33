"""Tiny checkpoints by hand: a family's own tiny config, random weights, a word tokenizer, a template."""

from pathlib import Path
from typing import Any

import torch

from eyespot import families
from eyespot.contracts.contract import Contract
from eyespot.errors import EyespotError
from eyespot.families.family import Context
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import Tokenizer, words

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ p.text if p.type == 'text' else '<image>' }}{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CASES = [(f, name) for f in families.all_families() for name in f.tiny()]
IDS = [f"{f.name}-{name}" for f, name in CASES]


def tokenizer(image: bool = True) -> Tokenizer:
    """About 290 tokens; `<image>` is 4 where it is known."""
    return words(["What is in the picture? A red star."], SPECIALS if image else SPECIALS[:-1])


def random_module(config, seed: int = 0) -> torch.nn.Module:
    """Every parameter drawn."""
    generator = torch.Generator().manual_seed(seed)
    module = families.build(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def layouts(family: families.Family, config: Any) -> list[str]:
    """The layouts that can hold this config."""
    able = []
    for name, layout in family.layouts.items():
        try:
            layout.config_to_hf(config, Context())
        except EyespotError as error:
            assert error.code == "layout-unsupported"
        else:
            able.append(name)
    return able


def loaded(family, config, layout: str | None = None, tokens: Tokenizer | None = None, **files) -> families.Loaded:
    """A model as if it had been read."""
    if family.name == "eyespot":
        files.setdefault("eyespot.json", {"contract": Contract().to_dict()})
    contract = family.contract_from_hf(files, config, tokens)
    layout = layout or next(iter(layouts(family, config) or family.layouts))
    return families.Loaded(random_module(config), Processor(contract, tokens), contract, family.name, layout)


def llava(folder: Path, case: str = "clip-llama", layout: str = "hf", name: str = "llava") -> families.Loaded:
    """A whole LLaVA checkpoint on disk, or one of its kin, with tokenizer and template."""
    family = family_named(name)
    config = family.tiny()[case]
    config = config.replace(decoder=config.decoder.replace(vocab_size=320))
    raw = {"model_type": name, "text_config": {}, "image_token_index": 4}
    made = loaded(family, config, layout, tokenizer(), **{"chat_template.jinja": TEMPLATE, "config.json": raw})
    families.save(made, folder)
    return made


def text_model(folder: Path, name: str = "qwen2", case: str | None = None, image: bool = False) -> families.Loaded:
    """A whole text checkpoint on disk, whose tokenizer knows no image token."""
    family = family_named(name)
    config = family.tiny()[case or next(iter(family.tiny()))]
    config = config.replace(decoder=config.decoder.replace(vocab_size=300))
    files = {
        "chat_template.jinja": TEMPLATE.replace("'<image>'", "p.text"),
        "generation_config.json": {"eos_token_id": [2, 3]},
    }
    made = loaded(family, config, None, tokenizer(image), **files)
    families.save(made, folder)
    return made


def family_named(name: str) -> families.Family:
    return next(f for f in families.all_families() if f.name == name)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """The same names and the same bits."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
