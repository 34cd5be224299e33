"""Tiny checkpoints by hand, without `transformers`: published layouts, random weights, a word tokenizer."""

from functools import cache

import torch

from eyespot import families
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words

TEXTS = ("What color is the star? It is red. A blue circle is left of the yellow square.",)
VICUNA = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
    "{% for p in m['content'] if p['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def family(name):
    return next(f for f in families.all_families() if f.name == name)


@cache
def tokenizer(*specials):
    return words(TEXTS, ["<unk>", "<s>", "</s>", "<pad>", *specials])


def random_module(config, seed=0):
    """Every parameter drawn, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    module = families.build(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return module.eval()


def loaded(name, config, tokens=None, **files):
    """A model as if it had been read from a folder with these small files."""
    kind = family(name)
    contract = kind.contract_from_hf(files, config, tokens)
    layout = next(iter(kind.layouts))
    return families.Loaded(random_module(config), Processor(contract, tokens), contract, name, layout)


def llava():
    """A LLaVA of CLIP and Llama that knows `<image>` and `</s>`."""
    config = family("llava").tiny()["clip-llama"]
    tokens = tokenizer("<image>")
    config = config.replace(decoder=config.decoder.replace(vocab_size=tokens.vocab_size))
    raw = {"model_type": "llava", "text_config": {}, "image_token_index": tokens.id_of("<image>")}
    return loaded("llava", config, tokens, **{"chat_template.jinja": VICUNA, "config.json": raw})


def clip():
    """Both towers of a CLIP."""
    return loaded("clip", next(iter(family("clip").tiny().values())))


def qwen2(spare=0):
    """A Qwen2 that has never heard of pictures; `spare` rows of its embedding belong to no token."""
    tokens = tokenizer("<|im_start|>", "<|im_end|>")
    config = family("qwen2").tiny()[next(iter(family("qwen2").tiny()))]
    config = config.replace(decoder=config.decoder.replace(vocab_size=tokens.vocab_size + spare))
    end = tokens.id_of("<|im_end|>")
    files = {"chat_template.jinja": CHATML, "generation_config.json": {"eos_token_id": end}}
    made = loaded("qwen2", config, tokens, **files)
    made.generation = {"eos_token_id": end}
    return made


def save(model, folder, **options):
    """To disk, as `eyespot.save` does."""
    families.save(model, folder, **options)
    return folder
