"""A CLIP and a Qwen2 become a LLaVA: built, trained through two stages, exported; without `transformers`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import eyespot
from tests.e2e.checkpoints import clip, qwen2, save
from tests.e2e.rows import pixels, row, write_rows

QUESTION = "What color is the star?"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A CLIP and a Qwen2 in their published layouts, and rows with pictures."""
    folder = tmp_path_factory.mktemp("parts")
    save(clip(), folder / "clip")
    save(qwen2(), folder / "qwen2")
    Image.fromarray(pixels()).save(folder / "star.png")
    write_rows(folder / "rows.json", [row(i) for i in range(12)])
    shutil.copy(Path(__file__).with_name("recipes.py"), folder / "e2e_recipes.py")
    return folder


@pytest.fixture
def here(parts, tmp_path, monkeypatch):
    """The parts in the current folder of the test."""
    for path in parts.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_built_trained_in_two_stages_and_exported(here, command):
    assert command("build", "llava", "--vision", "clip", "--decoder", "qwen2").code == 0
    trained = command("train", "e2e_recipes:two_stages", "model=llava", "data=rows.json")
    assert trained.code == 0, trained.err
    frozen = json.loads(Path("run/result.json").read_text())["frozen"]
    moved = {stage: {p for p, h in hashes.items() if h["before"] != h["after"]} for stage, hashes in frozen.items()}
    assert moved["align"] == {"connector"}
    assert moved["finetune"] == {"connector", "decoder"}
    assert frozen["finetune"]["connector"]["before"] == frozen["align"]["connector"]["after"]

    assert command("export", "run/model", "exported", "--layout", "hf").code == 0
    config = json.loads(Path("exported/config.json").read_text())
    assert (config["model_type"], config["text_config"]["model_type"]) == ("llava", "qwen2")
    names = load_file("exported/model.safetensors")
    assert {n.split(".")[0] for n in names} == {"language_model", "multi_modal_projector", "vision_tower"}
    ours, theirs = (eyespot.load(p).trace(QUESTION, ["star.png"], True) for p in ("run/model", "exported"))
    assert ours.input_ids.equal(theirs.input_ids) and ours.logits.equal(theirs.logits)
    built = eyespot.load("llava").trace(QUESTION, ["star.png"], True)
    assert not built.logits.equal(ours.logits)


def test_the_recipe_finetune_goes_on_with_a_composed_model(here, command):
    eyespot.save(eyespot.compose(vision="clip", decoder="qwen2"), "llava")
    words = [
        "train",
        "finetune",
        "model=llava",
        "data=rows.json",
        "out=tuned",
        "steps=2",
        "batch_tokens=400",
        "trainable=connector",
    ]
    assert command(*words).code == 0
    frozen = json.loads(Path("tuned/result.json").read_text())["frozen"]["finetune"]
    assert {part for part, h in frozen.items() if h["before"] != h["after"]} == {"connector"}
    assert eyespot.load("tuned/model").chat(QUESTION, images=["star.png"], max_new_tokens=2).text is not None


def test_every_weight_of_the_parts_is_in_the_composed_model(here):
    model = eyespot.compose(vision="clip", decoder="qwen2")
    tower, text = eyespot.load("clip").module, eyespot.load("qwen2").module
    ours = model.module.vision_encoder.state_dict()
    for name, tensor in tower.vision_encoder.state_dict().items():
        assert name.startswith("projection.") or ours[name].equal(tensor), name
    used = text.decoder.embed_tokens.weight.shape[0]
    for name, tensor in text.state_dict().items():
        grown = model.module.state_dict()[name]
        assert grown[:used].equal(tensor) if "embed_tokens" in name or "lm_head" in name else grown.equal(tensor), name


def test_new_tokens_start_as_the_mean_and_the_text_model_still_says_the_same(here):
    model, text = eyespot.compose(vision="clip", decoder="qwen2"), eyespot.load("qwen2")
    used = text.module.decoder.embed_tokens.weight.shape[0]
    token = model.contract.text.image_token_id
    rows = model.module.decoder.embed_tokens.weight
    assert token == used
    torch.testing.assert_close(rows[token], rows[:used].mean(0))
    ours, theirs = model.trace(QUESTION), text.trace(QUESTION)
    assert ours.input_ids.equal(theirs.input_ids)
    torch.testing.assert_close(ours.logits[:, :used], theirs.logits)


def test_the_decoders_own_template_takes_pictures(here):
    """The picture comes before the text within the turn, between the same control tokens as before."""
    model = eyespot.compose(vision="clip", decoder="qwen2")
    tokenizer, image = model.processor.tokenizer, model.contract.text.image_token_id
    ids = model.trace(QUESTION, ["star.png"], True).input_ids.tolist()
    assert ids.count(image) > 1
    said = tokenizer.decode([i for i in ids if i != image], skip_special=False)
    plain = tokenizer.decode(eyespot.load("qwen2").trace(QUESTION, (), True).input_ids.tolist(), skip_special=False)
    assert said.replace("user\n\n", "user\n") == plain


def test_a_part_can_be_taken_from_elsewhere_on_loading(here):
    eyespot.save(eyespot.compose(vision="clip", decoder="qwen2"), "llava")
    other = clip()
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter.mul_(0.5)
    save(other, here / "other")
    model = eyespot.load("llava", parts={"vision_encoder": "other"})
    ours, theirs = model.module.vision_encoder.state_dict(), other.module.vision_encoder.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
