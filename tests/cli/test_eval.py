"""`eyespot eval`: rows become questions, answers become a table, beside the blank picture."""

import json

import pytest

import eyespot
from eyespot import tasks
from eyespot.cli.app import main
from eyespot.contracts.protocols import Reply, Usage


class Exact:
    """A codec that wants the very word."""

    name = "exact"

    def prompt(self, example):
        return example.messages

    def parse(self, text):
        return text.strip()

    def score(self, prediction, target):
        return {"correct": float(prediction == target)}


class Sighted:
    """Says red to any picture that is not of one colour, and nothing else."""

    def generate(self, prompts, max_new_tokens):
        pictures = [m.media[0].source for p in prompts for m in p if m.media]
        return [Reply("red" if p.min() < p.max() else "blank", "stop", Usage(1, 1)) for p in pictures]


@pytest.fixture
def evaluated(checkpoint, monkeypatch):
    monkeypatch.setattr(tasks, "open_task", lambda name: Exact(), raising=False)
    monkeypatch.setattr(eyespot, "load", lambda *a, **k: Sighted(), raising=False)
    return f"data={checkpoint / 'rows.jsonl'}"


def test_the_table_has_sample_size_interval_blank_and_chance(evaluated, capsys):
    assert main(["eval", "m", "vqa", evaluated]) == 0
    out, err = capsys.readouterr()
    assert "4 questions" in err
    header, overall = (line.split() for line in out.splitlines()[:2])
    assert header == ["type", "accuracy", "95", "%", "interval", "n", "blank", "chance"]
    assert overall[0] == "overall"


def test_json_gives_the_figures(evaluated, capsys):
    assert main(["eval", "m", "vqa", evaluated, "n=3", "blank=false", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]["overall"]
    assert figures["n"] == 3 and "blank" not in figures


def test_vqa_without_data_is_an_error(evaluated, capsys):
    assert main(["eval", "m", "vqa"]) == 2
    assert "data=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["blank=perhaps", "n=many", "dta=x"])
def test_a_wrong_key_or_value_is_an_error(pair, evaluated, capsys):
    assert main(["eval", "m", "vqa", evaluated, pair]) == 2
    assert pair.partition("=")[0] in capsys.readouterr().err
