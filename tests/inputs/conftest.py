"""Chat templates in the manner of published checkpoints, and small tokenizers of both published kinds."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import CHATML, VICUNA
from eyespot.inputs.tokenizer import Tokenizer

FOLDER = Path(__file__).parent / "templates"
SPECIALS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<image>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|endoftext|>",
]
PLAIN_ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
CORPUS = [
    "What color is the circle? The circle is red, and the square on the left is blue.",
    "How many objects are there? There are 3 objects; is there a green star? yes, no",
    "USER: describe the picture ASSISTANT: [INST] a small yellow triangle [/INST] system user assistant",
    "그림에 무엇이 있나요? 빨간 원이 있습니다.",
] * 3


@dataclass(frozen=True)
class Case:
    """A published manner of chat: its template, control tokens and kind of tokenizer."""

    name: str
    bos: str | None
    eos: str
    kind: str
    image: str = "<image>"
    system: bool = True

    @property
    def template(self) -> str:
        named = {"vicuna": VICUNA, "chatml": CHATML}
        return named.get(self.name) or (FOLDER / f"{self.name}.jinja").read_text()


CASES = [
    Case("qwen2", None, "<|im_end|>", "bytes"),
    Case("qwen3", None, "<|im_end|>", "bytes"),
    Case("llama2", "<s>", "</s>", "pieces"),
    Case("llama3", "<|begin_of_text|>", "<|eot_id|>", "bytes"),
    Case("mistral", "<s>", "</s>", "pieces", system=False),
    Case("llava15", "<s>", "</s>", "pieces"),
    Case("vicuna", "<s>", "</s>", "pieces"),
    Case("chatml", None, "<|im_end|>", "bytes"),
    Case("qwen2vl", None, "<|im_end|>", "bytes", image="<|image_pad|>"),
]


def _train(kind: str) -> tokenizers.Tokenizer:
    if kind == "bytes":  # as GPT-2, Qwen, Llama 3
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=SPECIALS)
    else:  # as Llama 1 and 2, Mistral
        backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()  # no piece spans two words
        strip = decoders.Strip(content=" ", left=1)
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip]
        )
        fallback = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=650, special_tokens=[*SPECIALS, *fallback])
    backend.train_from_iterator(CORPUS, trainer)
    if kind == "pieces":  # the byte pieces belong to the model, nobody can spell them
        backend = _without_added_bytes(backend)
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.add_tokens([tokenizers.AddedToken(t, normalized=False) for t in PLAIN_ADDED])
    return backend


def _without_added_bytes(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    data = json.loads(backend.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(data))


@pytest.fixture(scope="session")
def backends() -> dict[str, tokenizers.Tokenizer]:
    return {kind: _train(kind) for kind in ("bytes", "pieces")}


@pytest.fixture(scope="session")
def tokenizer_of(backends):
    """`Case` → its tokenizer, which adds BOS by itself where the manner has one."""

    def make(case: Case) -> Tokenizer:
        backend = tokenizers.Tokenizer.from_str(backends[case.kind].to_str())
        if case.bos:
            special = [(case.bos, backend.token_to_id(case.bos))]
            backend.post_processor = processors.TemplateProcessing(
                single=f"{case.bos} $A", pair=f"{case.bos} $A $B", special_tokens=special
            )
        config = {"bos_token": case.bos, "eos_token": case.eos, "pad_token": "<pad>", "unk_token": "<unk>"}
        return Tokenizer(backend.to_str(), {k: v for k, v in config.items() if v})

    made: dict[str, Tokenizer] = {}
    return lambda case: made.setdefault(case.name, make(case))


@pytest.fixture(scope="session")
def rule_of():
    def make(case: Case, **changes) -> TextRule:
        rule = TextRule(
            template=case.template, image_token=case.image, bos_token=case.bos, eos_token=case.eos, pad_token="<pad>"
        )
        return rule.replace(**changes)

    return make


@pytest.fixture(scope="session")
def processor_of(tokenizer_of, rule_of):
    """`Case` → a processor with 4 tokens a picture."""

    def make(case: Case, coordinates: str = "unit", **changes) -> Processor:
        contract = Contract(image=ImageRule(size=(28, 28)), text=rule_of(case, **changes), coordinates=coordinates)
        return Processor(contract, tokenizer_of(case))

    made: dict[str, Processor] = {}
    return lambda case, **changes: make(case, **changes) if changes else made.setdefault(case.name, make(case))


@pytest.fixture(scope="session", params=[case.name for case in CASES])
def case(request, cases) -> Case:
    return cases[request.param]


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    return {case.name: case for case in CASES}


@pytest.fixture
def picture() -> np.ndarray:
    return np.full((40, 60, 3), 90, np.uint8)
