"""The demo's plan and its report, without its quarter of an hour."""

import json
from pathlib import Path

import numpy as np
import pytest

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message, Text
from eyespot.eval.report import answer_record
from eyespot.eval.run import Answer, Evaluation
from eyespot.recipes import _proof
from eyespot.recipes.demo import WORLD, demo, model, throw_away
from eyespot.train.trainable import apply
from eyespot.worlds.scenes import Scenes, words


@pytest.fixture(scope="module")
def fresh():
    return model()


def test_the_plan_has_the_stages_that_the_documents_name():
    config = demo()
    config.check()
    assert [s.name for s in config.stages] == ["encoder", "text", "align", "finetune"]


def test_align_trains_the_connector_alone_and_finetune_part_of_every_part(fresh):
    stages = {s.name: s for s in demo().stages}
    align = apply(fresh.module, stages["align"].trainable, 1e-3)
    assert {name.partition(".")[0] for name in align.lrs} == {"connector"}
    finetune = apply(fresh.module, stages["finetune"].trainable, 1e-3)
    assert {name.partition(".")[0] for name in finetune.lrs} == {"connector", "decoder", "vision_encoder"}


def test_the_throw_away_model_has_the_same_encoder(fresh):
    shapes = {k: v.shape for k, v in fresh.module.vision_encoder.state_dict().items()}
    assert {k: v.shape for k, v in throw_away().module.vision_encoder.state_dict().items()} == shapes


def test_every_word_of_the_world_is_one_token_wherever_it_stands(fresh):
    encode = fresh.processor.tokenizer.encode
    for word in (*WORLD.shapes, *WORLD.colours, "left", "right", "top", "bottom", "yes", "no"):
        assert len(encode(word, add_special_tokens=False).ids) == 1, word
        assert len(encode(f"What {word}", add_special_tokens=False).ids) == 2, word


def test_a_scene_fits_its_stage_and_only_answers_are_learnt(fresh):
    example = next(Scenes(WORLD).examples("train", 0))
    encoded = fresh.processor.encode_example(example)
    assert len(encoded.lengths) == 1 + len(example.messages) // 2
    assert encoded.supervised == 2 * len(example.messages) // 2  # a word and its end
    assert len(encoded.media[0].slots) == 64


def answers(right: int, wrong: int) -> Evaluation:
    picture = np.zeros((8, 8, 3), np.uint8)
    made = []
    for i in range(right + wrong):
        example = Example(str(i), (Message("user", (MediaRef("image", picture), Text("What color?"))),), "red")
        made.append(Answer(example, "colour", "red" if i < right else "blue", float(i < right), "blue", 0.0))
    return Evaluation("scenes", tuple(made))


def test_the_report_puts_the_figures_where_the_documents_say(tmp_path):
    good, bad = answers(9, 1), answers(5, 5)
    parts = {part: {"before": "a", "after": "b"} for part in ("vision_encoder", "connector", "decoder")}
    aligned = {"moment": "align", "stages": good.figures(), "compositions": bad.figures()}
    result = {
        "evaluations": [{"result": {}}, {"result": aligned}],
        "seconds": {"align": 60.0}, "steps": {"align": 5}, "frozen": {"align": parts},
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "curves.svg").write_text("<svg></svg>")
    shown = {key: [answer_record(a) for a in e.answers] for key, e in (("stages", good), ("compositions", bad))}
    (tmp_path / "answers.json").write_text(json.dumps(shown))
    _proof.report(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["stages"]["align"]["overall"]["accuracy"] == 0.9
    assert written["compositions"]["align"]["colour"]["n"] == 10
    assert written["stages"]["align"]["overall"]["blank"] == 0.0
    page = (tmp_path / "report.html").read_text()
    assert "90.0 %" in page and "truth: red" in page and page.count("<img") == 20


def test_the_sets_ask_each_type_equally_often():
    types = [e.meta["type"] for e in _proof.examples(WORLD, "heldout", 3)]
    assert sorted(types) == sorted(WORLD.types * 3)


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_readme_lists_what_the_model_understands(name):
    page = (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
    for kind in WORLD.types:
        for phrasing in words.PHRASINGS[kind]["en"]:
            assert phrasing in page
    assert all(word in page for word in (*WORLD.shapes, *WORLD.colours))
