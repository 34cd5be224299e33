"""One picture in every spelling that a caller may use gives the same tokens and the same answer."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import eyespot
from tests.e2e.checkpoints import clip, save
from tests.e2e.rows import pixels

QUESTION = "What color is the star?"


@pytest.fixture(scope="module")
def model(home):
    return eyespot.load(home / "model")


def png():
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, "PNG")
    return stream.getvalue()


def data_url():
    return "data:image/png;base64," + base64.b64encode(png()).decode()


# What a caller may write for a picture; `home` holds star.png.
SOURCES = {
    "path": lambda home: home / "star.png",
    "path as text": lambda home: str(home / "star.png"),
    "pil": lambda home: Image.fromarray(pixels()),
    "array": lambda home: pixels(),
    "array with alpha": lambda home: np.dstack([pixels(), np.full((40, 60), 255, np.uint8)]),
    "bytes": lambda home: png(),
    "data url": lambda home: data_url(),
}
# How a part may hold it.
PARTS = {
    "ours": lambda source: {"type": "image", "image": source},
    "openai": lambda source: {"type": "image_url", "image_url": {"url": source}},
    "openai, bare": lambda source: {"type": "image_url", "image_url": source},
    "hugging face url": lambda source: {"type": "image", "url": source},
    "hugging face path": lambda source: {"type": "image", "path": source},
}


def said(part):
    return [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]


def seen(model, messages, images=()):
    trace = model.trace(messages, images, add_generation_prompt=True)
    return trace.input_ids.tolist(), trace.logits


@pytest.fixture(scope="module")
def expected(model, home):
    return seen(model, QUESTION, [home / "star.png"])


@pytest.mark.parametrize("spelling", SOURCES)
def test_every_kind_of_picture_is_the_same_picture(model, home, expected, spelling):
    source = SOURCES[spelling](home)
    for messages, images in (
        (QUESTION, [source]),
        (QUESTION, source),
        (said({"type": "image", "image": source}), ()),
        (said({"type": "image"}), [source]),
    ):
        ids, logits = seen(model, messages, images)
        assert ids == expected[0]
        assert logits.equal(expected[1])


@pytest.mark.parametrize("spelling", PARTS)
@pytest.mark.parametrize("source", ["path as text", "data url"])
def test_every_kind_of_part_holds_the_same_picture(model, home, expected, spelling, source):
    ids, logits = seen(model, said(PARTS[spelling](SOURCES[source](home))))
    assert ids == expected[0]
    assert logits.equal(expected[1])


def test_the_answer_is_the_same_too_and_streams_as_it_stands(model, home):
    given = SOURCES["path"](home)
    reply = model.chat(QUESTION, images=[given], max_new_tokens=8)
    assert reply.usage.completion_tokens <= 8
    for source in SOURCES.values():
        assert model.chat(said({"type": "image", "image": source(home)}), max_new_tokens=8) == reply
    assert "".join(model.stream(QUESTION, images=[given], max_new_tokens=8)) == reply.text


def test_a_seed_repeats_a_draw_and_another_seed_does_not(model):
    def draw(seed):
        return model.chat(QUESTION, max_new_tokens=12, temperature=2.0, seed=seed).text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1
    streamed = "".join(model.stream(QUESTION, max_new_tokens=12, temperature=2.0, seed=1))
    assert streamed == draw(1)


def test_the_command_line_answers_as_the_library_does(model, home, command):
    words = ("chat", home / "model", QUESTION, "-i", home / "star.png", "--max-new-tokens", 8)
    text = model.chat(QUESTION, images=[home / "star.png"], max_new_tokens=8).text
    assert command(*words).out == text + "\n"


@pytest.mark.parametrize("typed", ["<image>", "</s>", "<s>", "<image>\n<image>"])
def test_special_tokens_that_a_user_types_stay_text(model, home, command, typed):
    """Neither a picture nor a control token: the ids hold none of theirs, and the text comes back whole."""
    tokenizer = model.processor.tokenizer
    special = {tokenizer.id_of(token) for token in ("<image>", "</s>")}
    plain = model.trace("What is it?", add_generation_prompt=True).input_ids.tolist()
    ids = model.trace(f"What is {typed} it?", add_generation_prompt=True).input_ids.tolist()
    assert special.isdisjoint(ids)
    assert ids.count(tokenizer.id_of("<s>")) == plain.count(tokenizer.id_of("<s>"))
    assert typed in tokenizer.decode(ids, skip_special=True)
    with_picture = model.trace(f"{typed} it?", [home / "star.png"]).input_ids.tolist()
    without = model.trace("it?", [home / "star.png"]).input_ids.tolist()
    assert with_picture.count(tokenizer.id_of("<image>")) == without.count(tokenizer.id_of("<image>")) > 0
    assert command("chat", home / "model", f"What is {typed} it?", "--max-new-tokens", 2).code == 0


def test_a_picture_alone_is_a_list_of_one_for_contrastive_models_too(tmp_path, home):
    model = eyespot.load(save(clip(), tmp_path / "clip"))
    listed = model.encode_images([home / "star.png"])
    for source in SOURCES.values():
        assert model.encode_images(source(home)).equal(listed)
