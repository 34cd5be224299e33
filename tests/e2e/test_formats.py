"""One conversation written in each format of rows is the same conversation to the model."""

import json
import shutil

import pytest

from eyespot import families
from eyespot.data.loader import encode_row
from eyespot.data.sources import open_source

ASKED, SAID, MORE, THEN = "What color is the star?", "red", "Is it left of the circle?", "It is."


def parts(*given):
    return [{"type": "text", "text": g} if isinstance(g, str) else g for g in given]


def turns(*contents):
    return [{"role": r, "content": c} for r, c in zip(("user", "assistant") * 2, contents, strict=True)]


LLAVA = [
    {"from": f, "value": v} for f, v in zip(("human", "gpt") * 2, (f"<image>\n{ASKED}", SAID, MORE, THEN), strict=True)
]
ROWS = {
    "llava": {"image": "star.png", "conversations": LLAVA},
    "sharegpt": {"images": ["star.png"], "conversations": LLAVA},
    "tagged": {
        "conversations": [{**LLAVA[0], "value": f"Picture 1: <img>star.png</img>\n{ASKED}"}, *LLAVA[1:]],
    },
    "openai": {
        "messages": turns(parts({"type": "image_url", "image_url": {"url": "star.png"}}, ASKED), SAID, MORE, THEN)
    },
    "conversational": {
        "images": ["star.png"],
        "messages": turns(parts({"type": "image"}, ASKED), parts(SAID), parts(MORE), parts(THEN)),
    },
}


@pytest.fixture(scope="module")
def processor(home):
    return families.load(home / "model").processor


@pytest.fixture
def data(home, tmp_path):
    """The formats in a folder of their own, the picture in another."""
    (tmp_path / "pictures").mkdir()
    shutil.copy(home / "star.png", tmp_path / "pictures")
    for name, row in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "it", **row}) + "\n")
    return tmp_path


def test_every_format_is_recognised_and_gives_the_same_tokens(processor, data):
    found = {}
    for name in ROWS:
        source = open_source(data / f"{name}.jsonl", image_root=data / "pictures")
        assert source.format == name
        sample = encode_row(source, 0, processor, {})
        found[name] = (sample.input_ids.tolist(), sample.loss_weight.tolist(), sample.media[0].sha256)
    assert all(sample == found["llava"] for sample in found.values())
    tokenizer, (ids, weights, _) = processor.tokenizer, found["llava"]
    learnt = tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w], skip_special=True)
    assert SAID in learnt and THEN in learnt and "What" not in learnt


def test_every_format_trains_and_the_run_says_what_it_read(home, data, command, tmp_path):
    words = [
        "train",
        "finetune",
        f"model={home / 'model'}",
        f"image_root={data / 'pictures'}",
        "steps=1",
        "batch_tokens=200",
    ]
    losses = set()
    for name in ROWS:
        result = command(*words, f"data={data / name}.jsonl", f"out={tmp_path / name}")
        assert result.code == 0, result.err
        assert f"{name}.jsonl: {name}, 1 rows" in result.err
        losses.add(json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[0])["loss"])
    assert len(losses) == 1


def test_inspect_data_reports_the_format(data, command):
    for name in ROWS:
        result = command("inspect", "data", data / f"{name}.jsonl", f"image_root={data / 'pictures'}", "--json")
        assert result.code == 0
        assert json.loads(result.out)["format"] == name
    refused = command("inspect", "data", data / "llava.jsonl")
    assert refused.code == 2 and "star.png" in refused.err
