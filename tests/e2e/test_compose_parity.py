"""A published CLIP and a published Qwen2 become a LLaVA that is trained here and answers the same in `transformers`."""

import json
import shutil
from pathlib import Path

import pytest

import eyespot
from tests.e2e.rows import pixels, row, write_rows

pytestmark = pytest.mark.parity

QUESTION = "What color is the star?"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Rows with pictures, and the recipe where the command line finds it."""
    from PIL import Image

    for i in range(4):
        Image.fromarray(pixels(40 + 9 * i, 60 - 7 * i)).save(tmp_path / f"star{i}.png")
    write_rows(tmp_path / "rows.json", [row(i, image=f"star{i % 4}.png") for i in range(12)])
    shutil.copy(Path(__file__).with_name("recipes.py"), tmp_path / "e2e_recipes.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("tower", "spare", "tied", "old"),
    [("clip", 0, False, False), ("clip", 45, True, False), ("siglip", 1, False, False), ("clip", 0, False, True)],
)  # fmt: skip
def test_composed_trained_exported_and_answered_alike(data, command, tower, spare, tied, old):
    from tests.e2e import published

    getattr(published, tower)(data / tower)
    published.qwen2(data / "qwen2", spare=spare, tied=tied, old=old)
    assert command("build", "llava", "--vision", tower, "--decoder", "qwen2").code == 0

    options = ["model=llava", "data=rows.json", "out=run", "seed=3"]
    trained = command("train", "e2e_recipes:two_stages", *options)
    assert trained.code == 0, trained.err
    frozen = json.loads((data / "run" / "result.json").read_text())["frozen"]
    moved = {stage: {p for p, h in parts.items() if h["before"] != h["after"]} for stage, parts in frozen.items()}
    assert moved["align"] == {"connector"}
    assert moved["finetune"] >= {"connector", "decoder"} and "vision_encoder" not in moved["finetune"]

    exported = command("export", "run/model", "exported", "--layout", "hf")
    assert exported.code == 0, exported.err
    same_answers(data / "exported", data / "star1.png", data / "star2.png")


def same_answers(folder, *pictures):
    """`transformers` loads all of it and says the same, by logits and by greedy tokens."""
    import torch
    import transformers as hf

    from tests.e2e.published import answer

    theirs, info = hf.LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    processor = hf.AutoProcessor.from_pretrained(folder, backend="pil")
    model = eyespot.load(folder, dtype="float32")
    parts = [{"type": "image", "image": str(p)} for p in pictures]
    for content in (
        [parts[0], {"type": "text", "text": QUESTION}],
        [{"type": "text", "text": "Here:"}, parts[0], {"type": "text", "text": "and"}, parts[1]],
        [{"type": "text", "text": QUESTION}],
    ):
        messages = [{"role": "user", "content": content}]
        ids, logits, made = answer(theirs.eval(), processor, messages, 10)
        trace = model.trace(messages, add_generation_prompt=True)
        assert trace.input_ids.tolist() == ids
        assert float((trace.logits - logits).abs().max() / logits.abs().max()) < 1e-4
        reply = model.chat(messages, max_new_tokens=10)
        assert reply.text == processor.tokenizer.decode(made, skip_special_tokens=True)
        assert reply.usage.completion_tokens == len(made) - (reply.finish_reason == "stop")
