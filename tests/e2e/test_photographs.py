"""Real photographs through `eyespot chat`, its own process, on a LLaVA made by `transformers`: the same answers."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import eyespot

pytestmark = [pytest.mark.parity, pytest.mark.slow]

QUESTION = "What color is the star?"
# Those that lie in the packages themselves: colour, grey, JPEG, palette, two colours, large and small.
SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg",
           "camera.png", "text.png", "color.png", "no_time_for_that_tiny.gif")  # fmt: skip
SKLEARN = ("china.jpg", "flower.jpg")


def photographs():
    skimage = pytest.importorskip("skimage.data")
    sklearn = pytest.importorskip("sklearn.datasets")
    found = [Path(skimage.__file__).parent / name for name in SKIMAGE]
    found = [path for path in found if path.is_file()]
    assert len(found) >= 5, "scikit-image's wheel carries pictures"
    return found + [Path(sklearn.__file__).parent / "images" / name for name in SKLEARN]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    from tests.e2e import published

    folder = tmp_path_factory.mktemp("llava")
    return folder, *published.llava(folder)


def theirs(reference, path):
    from tests.e2e.published import answer

    _, model, processor = reference
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]
    ids, logits, made = answer(model, processor, [{"role": "user", "content": content}], 12)
    return ids, logits, made, processor.tokenizer.decode(made, skip_special_tokens=True)


def test_every_photograph_is_answered_as_transformers_answers(reference, process):
    """One dialogue, each photograph in a conversation of its own."""
    paths = photographs()
    lines = [line for path in paths for line in ("/new", f"/image {path}", QUESTION)]
    words = ("chat", reference[0], "--max-new-tokens", 12, "--json")
    out, err = process(*words, stdin=subprocess.PIPE).communicate("\n".join(lines) + "\n", timeout=600)
    replies = [json.loads(line) for line in out.splitlines()]
    assert len(replies) == len(paths), err
    answers = set()
    for path, reply in zip(paths, replies, strict=True):
        ids, _, made, text = theirs(reference, path)
        assert reply["text"] == text, path.name
        stopped = reply["finish_reason"] == "stop"
        assert reply["usage"] == {"prompt_tokens": len(ids), "completion_tokens": len(made) - stopped}, path.name
        answers.add(text)
    assert len(answers) > 1, "a model that answers everything alike would prove nothing"


def test_the_answer_streams_as_plain_text(reference, process):
    path = photographs()[0]
    out, err = process("chat", reference[0], QUESTION, "-i", path, "--max-new-tokens", 12).communicate(timeout=600)
    assert (out, err) == (theirs(reference, path)[3] + "\n", "")


def test_ids_and_logits_agree(reference):
    model = eyespot.load(reference[0])
    for path in photographs():
        ids, logits, _, _ = theirs(reference, path)
        trace = model.trace(QUESTION, [path], add_generation_prompt=True)
        assert trace.input_ids.tolist() == ids, path.name
        assert float((trace.logits - logits).abs().max() / logits.abs().max()) < 1e-4, path.name
