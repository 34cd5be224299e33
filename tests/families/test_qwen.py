"""The first Qwen against numbers of its authors' own code (tests/goldens/qwen_text.json says which)."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from eyespot import families
from eyespot.contracts.batch import Batch, Segments
from eyespot.engine.generate import Sampling, decode
from eyespot.errors import EyespotError
from eyespot.families import qwen
from eyespot.inputs.chat import render
from eyespot.inputs.messages import read_messages
from eyespot.models.positions import positions
from tests.families import qwen_draws as draws
from tests.goldens.authors import distance

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "qwen_text.json").read_text())
CONFIG = qwen.tiny()["text"]
MAKES = pytest.mark.parametrize("draw", draws.DRAWS)


def checkpoint(folder: Path, raw: dict, draw: str) -> families.Loaded:
    """What the authors' code would have saved: their names, their shapes."""
    config = qwen.config_from_hf(raw, (), {})
    shapes = qwen.FAMILY.layouts["hf"].keymap(config).to_theirs(families.build(config).state_dict())
    save_file(
        {name: draws.weight(name, tuple(t.shape), draw) for name, t in shapes.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(raw))
    return families.load(folder)


def batch(*rows: list[int], parent: tuple[int, ...] | None = None) -> Batch:
    lengths = tuple(map(len, rows))
    segments = Segments.of(lengths, parent=parent)
    return Batch(torch.tensor([i for row in rows for i in row]), positions(lengths, segments.parent), segments)


@MAKES
@pytest.mark.parametrize("case", draws.TEXTS)
@torch.inference_mode()
def test_logits_and_loss_are_those_of_the_authors_code(tmp_path, draw, case):
    changes, count = draws.TEXTS[case]
    module = checkpoint(tmp_path, draws.TEXT | changes, draw).module
    ids = draws.ids(case, count, draws.TEXT["vocab_size"])
    logits = module.logits(module(batch(ids)).last)
    wanted = GOLDEN[draw][case]
    assert distance(logits[draws.rows(count)], wanted["logits"], "qwen_text", draw) <= draws.DRAWS[draw]
    loss = float(F.cross_entropy(logits[:-1], torch.tensor(ids[1:])))
    assert loss == pytest.approx(wanted["loss"], rel=draws.DRAWS[draw])


@MAKES
def test_an_answer_goes_on_with_the_frequencies_of_its_prompt(tmp_path, draw):
    module = checkpoint(tmp_path, draws.TEXT, draw).module
    prompt = batch(draws.ids("answer", draws.PROMPT, draws.TEXT["vocab_size"]))
    answer = list(decode(module, prompt, frozenset(), draws.ANSWER, Sampling()))
    assert answer == GOLDEN[draw]["answer"]["tokens"]


@torch.inference_mode()
def test_packed_sequences_have_the_frequencies_of_their_own_lengths(tmp_path):
    module = checkpoint(tmp_path, draws.TEXT, "wide").module
    rows = [draws.ids(f"row {n}", n, draws.TEXT["vocab_size"]) for n in (12, 40, 20)]
    together = module(batch(*rows)).last.split([12, 40, 20])
    for packed, row in zip(together, rows, strict=True):
        torch.testing.assert_close(packed, module(batch(row)).last, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_branches_have_the_frequencies_of_the_longest_chain(tmp_path):
    module = checkpoint(tmp_path, draws.TEXT, "wide").module
    prefix, short, long = (draws.ids(f"part {n}", n, draws.TEXT["vocab_size"]) for n in (15, 5, 17))
    together = module(batch(prefix, short, long, parent=(-1, 0, 0))).last
    alone = module(batch([*prefix, *short])).last
    torch.testing.assert_close(together[:15], module(batch([*prefix, *long])).last[:15], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[15:20], alone[15:], rtol=1e-4, atol=1e-4)


def test_training_knows_neither_growth_nor_sharpening(tmp_path):
    (tmp_path / "plain").mkdir()
    raw = draws.TEXT | {"use_dynamic_ntk": False, "use_logn_attn": False}
    module, plain = checkpoint(tmp_path, draws.TEXT, "wide").module, checkpoint(tmp_path / "plain", raw, "wide").module
    row = batch(draws.ids("long", 40, draws.TEXT["vocab_size"]))
    assert torch.equal(module.train()(row).last, plain(row).last)
    assert not torch.equal(module.eval()(row).last, plain(row).last)


@pytest.mark.parametrize(
    ("key", "value"),
    [("kv_channels", 8), ("rotary_pct", 0.5), ("intermediate_size", 81), ("seq_length", 0), ("num_hidden_layers", 0),
     ("quantization_config", {"bits": 4}), ("hidden_size", "wide")],
)  # fmt: skip
def test_what_it_cannot_be_is_refused_by_its_key(key, value):
    with pytest.raises(EyespotError, match=key) as caught:
        qwen.config_from_hf(draws.TEXT | {key: value}, (), {})
    assert caught.value.code == "family-config"


def written(form: str, messages: list, prompt: bool = False) -> str:
    contract = qwen.contract_from_hf({"generation_config.json": {"chat_format": form}}, CONFIG, None)
    rule = contract.text.replace(eos_token="<|endoftext|>")
    return render(read_messages(messages), rule, add_generation_prompt=prompt).text


TALK = [
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": "A star."},
    {"role": "user", "content": "Why?"},
]


def test_a_chat_is_written_as_the_authors_write_it():
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    first = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nA star.<|im_end|>\n"
    assert (
        written("chatml", TALK, prompt=True)
        == f"{system}{first}<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    own = [{"role": "system", "content": "Be brief."}, *TALK[:2]]
    assert written("chatml", own) == f"<|im_start|>system\nBe brief.<|im_end|>\n{first}"


def test_a_base_model_is_given_the_text_itself():
    assert written("raw", TALK[:1], prompt=True) == "What?"
    assert written("raw", TALK[:2]) == "What?A star.<|endoftext|>"


def test_without_a_stated_form_no_template_is_chosen():
    assert qwen.contract_from_hf({}, CONFIG, None).text.template is None
