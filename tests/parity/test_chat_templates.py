"""Our renderings and token ids against `apply_chat_template` of `transformers`, template by template."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.inputs.messages import read_messages
from eyespot.inputs.processor import Processor
from eyespot.inputs.templates import TEMPLATES, with_images
from eyespot.inputs.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

FOLDER = Path(__file__).parents[1] / "inputs" / "templates"
SPECIALS = [
    "<unk>", "<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
]  # fmt: skip
# name, BOS, EOS, whether content is a list of parts, picture token
MANNERS = [
    ("qwen2", None, "<|im_end|>", False, "<image>"),
    ("qwen3", None, "<|im_end|>", False, "<image>"),
    ("llama2", "<s>", "</s>", False, "<image>"),
    ("llama3", "<|begin_of_text|>", "<|eot_id|>", False, "<image>"),
    ("mistral", "<s>", "</s>", False, "<image>"),
    ("llava15", "<s>", "</s>", True, "<image>"),
    ("qwen2vl", None, "<|im_end|>", True, "<|image_pad|>"),
    ("vicuna", "<s>", "</s>", True, "<image>"),
    ("chatml", None, "<|im_end|>", True, "<image>"),
    ("plain", "<s>", "</s>", True, "<image>"),
]
TURNS = [
    ("user", "What color is the circle?\n"),
    ("assistant", "It is red."),
    ("user", " 그림에 2개?"),
    ("assistant", "네, 3"),
]


def template_of(name: str) -> str:
    return TEMPLATES.get(name) or (FOLDER / f"{name}.jinja").read_text()


@pytest.fixture(scope="module")
def backend() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIALS)
    made.train_from_iterator([text for _, text in TURNS] * 3, trainer)
    return made


@pytest.fixture(params=MANNERS, ids=lambda m: m[0])
def both(request, backend, tmp_path):
    """A manner's name, whether it takes parts, our processor and their tokenizer read from the same folder."""
    name, bos, eos, parts, image = request.param
    made = tokenizers.Tokenizer.from_str(backend.to_str())
    if bos:
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, made.token_to_id(bos))]
        )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": "<pad>"}
    Tokenizer(made.to_str(), {**config, **({"bos_token": bos} if bos else {})}).save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.chat_template = template_of(name)
    rule = TextRule(template=template_of(name), image_token=image, bos_token=bos, eos_token=eos, pad_token="<pad>")
    ours = Processor(Contract(image=ImageRule(size=(28, 28)), text=rule), Tokenizer.load(tmp_path))
    return name, parts, ours, theirs


def conversation(parts: bool, count: int) -> list[dict]:
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text} for role, text in TURNS[:count]
    ]


def their_ids(theirs, text: str) -> list[int]:
    """The rule of their processors: special tokens are added unless the text begins with BOS."""
    begun = theirs.bos_token is not None and text.startswith(theirs.bos_token)
    return theirs(text, add_special_tokens=not begun)["input_ids"]


@pytest.mark.parametrize(("count", "prompt"), [(4, False), (2, False), (1, True), (3, True)])
def test_ids_are_those_of_their_rendering(both, count, prompt):
    _, parts, ours, theirs = both
    messages = conversation(parts, count)
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    encoded = ours.encode(read_messages(messages), add_generation_prompt=prompt)
    assert encoded.input_ids.tolist() == their_ids(theirs, text)


def test_pictures_are_written_where_theirs_are(both):
    name, parts, ours, theirs = both
    if not parts:
        pytest.skip("the template takes no parts")
    messages = conversation(parts, 2)
    messages[0]["content"].insert(0, {"type": "image"})
    text = theirs.apply_chat_template(messages, tokenize=False)
    token = ours.contract.text.image_token
    text = text.replace(token, token * 4)
    picture = np.zeros((30, 30, 3), np.uint8)
    assert ours.encode(read_messages(messages, [picture])).input_ids.tolist() == their_ids(theirs, text)


def test_what_is_learnt_holds_what_their_mask_holds(both):
    name, parts, ours, theirs = both
    if "endgeneration" not in template_of(name):
        pytest.skip("the template has no {% generation %}")
    messages = conversation(parts, 4)
    theirs_out = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    text = theirs.apply_chat_template(messages, tokenize=False)
    encoded = ours.encode(read_messages(messages))
    extra = len(their_ids(theirs, text)) - len(theirs_out["input_ids"])
    mask = np.array(theirs_out["assistant_masks"], bool)
    assert mask.any() and encoded.loss_weight[extra:][mask].all()
    # Ours may have more only where a token lies across the border of an answer.
    assert (encoded.loss_weight > 0).sum() - mask.sum() <= 2


@pytest.mark.parametrize("name", ["qwen2", "llama2", "llama3", "mistral"])
def test_a_text_template_made_to_take_pictures_works_there_too(name, backend, tmp_path):
    Tokenizer(backend.to_str(), {"bos_token": "<s>", "eos_token": "</s>"}).save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pictured = conversation(True, 2)
    pictured[0]["content"].insert(0, {"type": "image"})
    written = [{**m, "content": m["content"][-1]["text"]} for m in pictured]
    written[0]["content"] = "<image>\n" + written[0]["content"]
    template = template_of(name)
    made = theirs.apply_chat_template(pictured, chat_template=with_images(template), tokenize=False)
    assert made == theirs.apply_chat_template(written, chat_template=template, tokenize=False)


def test_typed_control_tokens_are_text_as_in_their_careful_mode(both):
    name, parts, ours, theirs = both
    if name == "plain":
        pytest.skip("the prompt's text is dropped")
    messages = conversation(parts, 1)
    typed = "say <|im_end|> or <image> 네"
    messages[0]["content"] = [{"type": "text", "text": typed}] if parts else typed
    ids = theirs.apply_chat_template(messages, sanitize_control_tokens=True, add_generation_prompt=True)["input_ids"]
    encoded = ours.encode(read_messages(messages), add_generation_prompt=True)
    skip = len(encoded.input_ids) - len(ids)
    # Theirs splits the text at what was typed, ours reads it in one piece: same text, same control tokens.
    assert ours.tokenizer.decode(encoded.input_ids[max(skip, 0) :], skip_special=False).endswith(
        theirs.decode(ids)[-len(typed) :]
    )
    for token in SPECIALS:
        if token not in (theirs.bos_token,):
            assert (encoded.input_ids == ours.tokenizer.id_of(token)).sum() == ids.count(ours.tokenizer.id_of(token))
