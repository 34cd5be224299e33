"""`eyespot chat`, with a model that repeats what it was asked: streaming, pictures, JSON, the dialogue."""

import io
import json

import pytest

import eyespot
from eyespot.cli.app import main
from eyespot.contracts.protocols import Reply, Usage
from eyespot.errors import EyespotError


class Echo:
    """Answers with the last question and remembers what it was given."""

    def __init__(self):
        self.seen = []

    def chat(self, messages, **options):
        self.seen.append((messages, options))
        return Reply(self.text(messages), "stop", Usage(3, 2))

    def stream(self, messages, **options):
        self.seen.append((messages, options))
        yield from self.text(messages)

    @staticmethod
    def text(messages):
        parts = messages[-1]["content"]
        if any(p.get("image") == "gone.png" for p in parts):
            raise EyespotError("media-missing", "no such file", where="gone.png")
        return "echo: " + parts[-1]["text"]


@pytest.fixture
def echo(monkeypatch):
    model = Echo()
    loads = []
    monkeypatch.setattr(eyespot, "load", lambda path, **k: (loads.append((path, k)), model)[1], raising=False)
    model.loads = loads
    return model


def test_one_question_streams_its_answer(echo, capsys):
    assert main(["chat", "m", "What is it?"]) == 0
    assert capsys.readouterr().out == "echo: What is it?\n"


def test_pictures_go_before_the_question_in_order(echo):
    main(["chat", "m", "Which?", "-i", "a.png", "--image", "b.png"])
    kinds = [(p["type"], p.get("image") or p.get("text")) for p in echo.seen[0][0][0]["content"]]
    assert kinds == [("image", "a.png"), ("image", "b.png"), ("text", "Which?")]


def test_videos_go_behind_the_pictures(echo, monkeypatch):
    main(["chat", "m", "Which?", "-v", "b.mp4", "-i", "a.png"])
    kinds = [(p["type"], p[p["type"]]) for p in echo.seen[0][0][0]["content"]]
    assert kinds == [("image", "a.png"), ("video", "b.mp4"), ("text", "Which?")]
    monkeypatch.setattr("sys.stdin", io.StringIO("/video c.mp4\nfirst\nsecond\n"))
    main(["chat", "m"])
    assert echo.seen[1][0][0]["content"][0] == {"type": "video", "video": "c.mp4"}
    assert len(echo.seen[2][0][-1]["content"]) == 1


def test_options_reach_the_model(echo):
    main(["chat", "m", "q", "--max-new-tokens", "7", "--temperature", "0.5", "--seed", "3", "--dtype", "float32"])
    assert echo.seen[0][1] == {"max_new_tokens": 7, "temperature": 0.5, "seed": 3}
    assert echo.loads == [("m", {"device": "cpu", "dtype": "float32", "verify": False})]


def test_json_gives_text_reason_and_usage(echo, capsys):
    assert main(["chat", "m", "q", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "text": "echo: q",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }


def test_without_a_question_it_is_a_dialogue_that_remembers(echo, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("/image a.png\nfirst\n\nsecond\n/new\nthird\n/quit\nnever\n"))
    assert main(["chat", "m"]) == 0
    assert capsys.readouterr().out == "echo: first\necho: second\necho: third\n"
    first, second, third = (messages for messages, _ in echo.seen)
    assert [p["type"] for p in first[0]["content"]] == ["image", "text"]
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == "echo: first"
    assert len(third) == 1


def test_a_wrong_picture_ends_the_turn_and_not_the_dialogue(echo, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("/image gone.png\nwhat?\nstill there?\n"))
    assert main(["chat", "m"]) == 0
    out, err = capsys.readouterr()
    assert out == "echo: still there?\n"
    assert "media-missing" in err


def test_a_fault_of_one_question_exits_2(echo, capsys):
    assert main(["chat", "m", "q", "-i", "gone.png"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
