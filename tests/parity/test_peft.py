"""Adapters against PEFT: what it writes we read, what we write it reads, and the logits are the same, merged too."""

import pytest
import torch
import transformers as hf

import eyespot
from eyespot.nn.adapters import LoraConfig, adapters, attach
from tests.parity.grid_references import processor as grid_processor
from tests.parity.grid_references import qwen2_5_vl
from tests.parity.references import (
    BAR,
    CHATML,
    DRAWS,
    llava,
    llava_processor,
    picture,
    redraw,
    relative,
    text_config,
    tokenizer,
    user,
)

peft = pytest.importorskip("peft")
# The warning is PEFT's, about a property of `transformers` that it still asks for.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")]

SEEN = 1e-2  # an adapter must move the logits by at least this
# By what their layers are called there: all of the decoder's; some of both parts; some of both, one of them fused.
TARGETS = {
    "qwen2": "all-linear",
    "llava": r".*(language_model|vision_tower)\..*(q_proj|v_proj|out_proj|o_proj|fc1|up_proj)",
    "qwen2_5_vl": r".*(language_model.*(q_proj|down_proj)|visual\.blocks.*(qkv|proj))",
}
OURS = {
    "qwen2": r"^decoder\.|^lm_head",
    "llava": r"(layers|blocks)\.\d+\.(attn|mlp)|^connector",
    "qwen2_5_vl": r"decoder\..*(q_proj|up_proj)|blocks\.\d+\.attn\.(q|v|o)_proj|blocks\.0\.mlp",
}


def checkpoint(kind: str, draw: str, folder):
    """A reference model, its checkpoint on disk, a way to ask it, and what it is asked."""
    if kind == "qwen2":
        reference, messages = redraw(hf.Qwen2ForCausalLM(text_config("qwen2")), draw), user("A red star is left.")
        processor = tokenizer(folder, bos=False, template=CHATML)
        messages = [{"role": "user", "content": "A red star is left of the blue circle."}]
    elif kind == "llava":
        reference, processor = llava("qwen2", draw), llava_processor(folder)
        messages = user(picture(60, 33), "What is in the picture?")
    else:
        reference, processor = qwen2_5_vl(draw), grid_processor(folder, hf.Qwen2_5_VLProcessor)
        messages = user(picture(70, 60), "What is in the picture?")
    reference.save_pretrained(folder)

    def ask(model):
        inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        with torch.no_grad():
            return model(**inputs).logits[0]

    return reference, ask, messages


def randomise(named, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, p in named:
        if "lora_" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.1


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", TARGETS)
def test_what_peft_writes_we_read_and_agree(tmp_path, kind, draw):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    reference, ask, messages = checkpoint(kind, draw, base)
    plain = ask(reference)
    asked = peft.LoraConfig(
        r=4, lora_alpha=6, lora_dropout=0.1, use_rslora=draw == "wide", target_modules=TARGETS[kind],
        task_type="CAUSAL_LM",
        rank_pattern={r"layers\.1\..*q_proj": 3, "q_proj": 2}, alpha_pattern={r"layers\.0\..*q_proj": 3},
    )  # fmt: skip
    theirs = peft.get_peft_model(reference, asked).eval()
    randomise(theirs.named_parameters())
    theirs.save_pretrained(adapter)
    logits = ask(theirs)
    assert relative(logits, plain) >= SEEN
    model = eyespot.load(base, adapter=adapter)
    assert relative(model.trace(messages).logits, logits) <= BAR[draw]
    assert relative(model.merge().trace(messages).logits, logits) <= BAR[draw]
    eyespot.save(model, tmp_path / "merged", layout="hf")
    merged = type(reference).from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    assert relative(ask(merged), logits) <= BAR[draw]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", OURS)
def test_what_we_write_peft_reads_and_agrees(tmp_path, kind, draw, recwarn):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    reference, ask, messages = checkpoint(kind, draw, base)
    model = eyespot.load(base)
    plain = model.trace(messages).logits
    attach(model.module, LoraConfig(rank=3, alpha=5, rslora=kind == "llava", modules=OURS[kind]))
    randomise(model.module.named_parameters())
    eyespot.save(model, adapter, adapter=True)
    recwarn.clear()
    theirs = peft.PeftModel.from_pretrained(reference, str(adapter)).eval()
    assert not [w for w in recwarn if "adapter" in str(w.message) or "key" in str(w.message)]
    logits = model.trace(messages).logits
    assert relative(logits, plain) >= SEEN
    assert relative(ask(theirs), logits) <= BAR[draw]
    names = {n.split(".lora_A")[0] for n, _ in theirs.named_parameters() if ".lora_A." in n}
    again = eyespot.load(adapter)  # it names its base
    assert len(adapters(again.module)) >= len(names) > 3
    assert torch.allclose(again.trace(messages).logits, logits, atol=1e-5 * float(logits.abs().max()))


def test_transformers_own_loader_reads_what_we_write(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    reference, ask, messages = checkpoint("llava", "small", base)
    model = eyespot.load(base)
    attach(model.module, LoraConfig(rank=3, modules=OURS["llava"]))
    randomise(model.module.named_parameters())
    eyespot.save(model, adapter, adapter=True)
    reference.load_adapter(str(adapter))
    assert relative(ask(reference.eval()), model.trace(messages).logits) <= BAR["small"]
