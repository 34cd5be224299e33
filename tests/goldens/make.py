"""Makes the golden samples anew with the installed `transformers`: python -m tests.goldens.make [NAME …]

One line of `REFERENCES` is one family: its tiny original with its processor, and what kind of question it is asked.
"""

import datetime as dt
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from eyespot import families
from tests.goldens import golden
from tests.goldens.golden import DRAWS, EXTREMES, PICTURES
from tests.parity import grid_references as grid
from tests.parity import internvl_references as intern
from tests.parity import onevision_references as onevision
from tests.parity import references as small
from tests.parity import test_image_towers as towers
from tests.parity import test_siglip2_naflex as naflex
from tests.parity import test_vision_text_dual as bert
from tests.parity.test_dual import image_processor
from tests.parity.test_qwen_vl import their_positions

Made = tuple[str, Any, Any]  # the kind of question, the original, its processor


def text(kind: str) -> Callable[[Path], Made]:
    def made(folder: Path) -> Made:
        model = hf.AutoModelForCausalLM.from_config(small.text_config(kind))
        return "text", model, small.tokenizer(folder, bos=kind in ("llama", "mistral"), template=small.CHATML)

    return made


def grids(kind: str) -> Callable[[Path], Made]:
    settings = grid.PROCESSORS.get(kind, {})
    return lambda folder: ("chat", grid.KINDS[kind]("small"), grid.processor(folder, **settings))


def dual(kind: str) -> Callable[[Path], Made]:
    def made(folder: Path) -> Made:
        processor = image_processor(kind)
        processor.save_pretrained(folder)
        return "dual", small.contrastive(kind, "small"), processor

    return made


class Through:
    """A processor whose parts stand in for what needs torchvision, asked in its own way."""

    def __init__(self, processor: Any, ask: Callable[..., Any]) -> None:
        self.processor, self.ask = processor, ask

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool, **_: Any) -> Any:
        return self.ask(self.processor, messages, add_generation_prompt=add_generation_prompt)


def tower(kind: str) -> Callable[[Path], Made]:
    return lambda folder: ("tower", *towers.checkpoint(folder, kind, "small"))


REFERENCES: dict[str, Callable[[Path], Made]] = {
    "llama": text("llama"),
    "mistral": text("mistral"),
    "qwen2": text("qwen2"),
    "qwen3": text("qwen3"),
    "clip": dual("clip"),
    "siglip": dual("siglip"),
    "siglip2": lambda folder: ("dual", *naflex.checkpoint(folder, "small")),
    "vit": tower("vit"),
    "dinov2": tower("dinov2"),
    "dinov2_with_registers": tower("registers"),
    "llava": lambda folder: ("chat", small.llava("llama", "small"), small.llava_processor(folder)),
    "llava_next": lambda folder: ("chat", small.llava_next("mistral", "small"), small.llava_next_processor(folder)),
    "llava_onevision": lambda folder: (
        "chat", onevision.llava_onevision("qwen2", "small"), onevision.llava_onevision_processor(folder),
    ),
    "internvl": lambda folder: (
        "chat", intern.internvl("qwen2", "small"), Through(intern.processor(folder), intern.inputs_of),
    ),
    "vision_text_dual_encoder": lambda folder: ("dual", *bert.checkpoint(folder, "vit", "small")[:2]),
    "qwen2_vl": grids("qwen2_vl"),
    "qwen2_5_vl": grids("qwen2_5_vl"),
    "qwen3_vl": grids("qwen3_vl"),
}  # fmt: skip


@torch.no_grad()
def theirs(made: Made, size: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """What the original answers; with a `size` to one picture of that size."""
    kind, model, processor = made
    shown = golden.pictures((size,) if size else PICTURES)
    if kind == "tower":
        return {"images": model(**processor(shown, return_tensors="pt")).pooler_output}
    if kind == "dual":
        out = model(input_ids=golden.rows(model.config.text_config.vocab_size), **processor(shown, return_tensors="pt"))
        return {"images": out.image_embeds, "texts": out.text_embeds, "logits": out.logits_per_image}
    messages, asked = golden.conversation(kind, size), {"add_generation_prompt": True}
    if kind == "text":  # a tokenizer alone leaves its own special tokens out when it renders and tokenises in one call
        inputs = processor(processor.apply_chat_template(messages, tokenize=False, **asked), return_tensors="pt")
    else:
        asked |= {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        inputs = processor.apply_chat_template(messages, **asked)
    ids = inputs["input_ids"]
    places = torch.arange(ids.shape[1])[None]
    if "image_grid_thw" in inputs:
        places = their_positions(model, inputs)[:, 0]
    return {"ids": ids[0], "positions": places, "logits": model(**inputs).logits[0]}


def make(name: str, where: Path = golden.HERE) -> dict[str, Any]:
    """The record of a family."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        kind, model, processor = REFERENCES[name](path)
        model.save_pretrained(path)
        weights = path / "model.safetensors"
        shapes = {n: list(t.shape) for n, t in load_file(weights).items()}
        record: dict[str, Any] = {
            "family": "", "kind": kind, "made": versions(), "differences": {}, "tensors": shapes, "draws": {},
            "files": {p.name: golden.kept(p.name, p.read_text("utf-8"), where)
                      for p in sorted(path.iterdir()) if p != weights and p.is_file()},
        }  # fmt: skip
        for draw in DRAWS:
            drawn = {n: golden.fill(n, tuple(shape), draw) for n, shape in shapes.items()}
            save_file(drawn, weights, metadata={"format": "pt"})
            again = (kind, type(model).from_pretrained(path, dtype=torch.float32).eval(), processor)
            answers = theirs(again)
            keep = {k: golden.some(v) if k == "logits" and kind != "dual" else v for k, v in answers.items()}
            record["draws"][draw] = {k: golden.numbers(v) for k, v in keep.items()}
            record["differences"][draw] = largest(path, again, answers)
        record["family"] = families.load(path).family
    return record


def largest(folder: Path, made: Made, answers: dict[str, torch.Tensor]) -> float:
    """The largest difference between them and us, over the golden questions and pictures of extreme size."""
    sizes = () if made[0] == "text" else EXTREMES
    pairs = [(answers, golden.ours(folder, made[0]))]
    pairs += [(theirs(made, size), golden.ours(folder, made[0], size)) for size in sizes]
    return max(
        golden.apart(mine[key], value)
        for expected, mine in pairs
        for key, value in expected.items()
        if value.is_floating_point()
    )


def versions() -> dict[str, str]:
    return {
        "transformers": hf.__version__, "torch": torch.__version__.partition("+")[0],
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }  # fmt: skip


def written(record: dict[str, Any]) -> str:
    """A line for each file, tensor and answer."""
    lines = []
    for key, value in record.items():
        if isinstance(value, dict) and key != "made":
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    for asked in sys.argv[1:] or REFERENCES:
        found = make(asked)
        (golden.HERE / f"{asked}.json").write_text(written(found), "utf-8")
        print(asked, found["differences"], flush=True)
