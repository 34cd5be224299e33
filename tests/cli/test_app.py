"""The frame of the command line: errors in two lines or one object, exit codes, help, no torch for `--help`."""

import json
import os
import subprocess
import sys

import pytest

from eyespot.cli.app import app, main
from eyespot.errors import CODES, EyespotError

VERBS = {"train", "chat", "eval", "inspect", "build", "export", "seal", "doctor", "explain"}


def test_the_verbs_are_exactly_these(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert {verb for verb in VERBS if f"│ {verb} " in shown or f" {verb} " in shown} == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_verb_has_help_with_an_example(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage" in shown
    if verb not in ("inspect", "doctor"):
        assert "Example" in shown


def test_an_error_is_two_lines_on_stderr_and_exit_2(capsys):
    assert main(["explain", "no-such-code"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: argument: ") and second.startswith("  -> ")


def test_with_json_an_error_is_one_object_on_stdout(capsys):
    assert main(["explain", "no-such-code", "--json"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["error"].keys() == {"code", "message", "where", "remedy"}


def test_a_near_miss_is_named(capsys):
    main(["explain", "media-truncatd"])
    assert "media-truncated" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nonsense"], ["chat"], ["chat", "m", "--nope"], ["chat", "m", "--seed", "x"]])
def test_what_the_parser_refuses_has_the_same_form(words, capsys):
    assert main(words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: argument: ") and "--help" in second


def test_an_error_with_many_lines_still_takes_two(capsys, monkeypatch):
    table = EyespotError("checkpoint-keys", "the tensors do not fit:\n  missing a\n  missing b", where="model")
    monkeypatch.setattr("eyespot.cli.explain.CODES", Raising(table))
    assert main(["explain"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


class Raising(dict):
    """A table whose reading fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def items(self):
        raise self.error


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "x"), OSError(28, "No space left", "x")])
def test_trouble_with_files_is_an_error_not_a_traceback(error, capsys, monkeypatch):
    monkeypatch.setattr("eyespot.cli.explain.CODES", Raising(error))
    assert main(["explain"]) == 2
    assert "file-access" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(monkeypatch):
    monkeypatch.setattr("eyespot.cli.explain.CODES", Raising(BrokenPipeError()))
    assert main(["explain"]) == 0


def test_explain_prints_every_code(capsys):
    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert all(code in shown for code in CODES)


def test_explain_gives_one_code_as_json(capsys):
    assert main(["explain", "media-missing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"media-missing": CODES["media-missing"]}


def test_help_does_not_wait_for_torch():
    code = "import sys\nfrom eyespot.cli.app import main\nmain(['--help'])\nassert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_verb_of_a_package_beside_ours_is_found(monkeypatch, capsys):
    class Entry:
        name = "greet"

        @staticmethod
        def load():
            def greet() -> None:
                """Say hello."""
                print("hello")

            return greet

    monkeypatch.setattr("eyespot.cli.app.entry_points", lambda group: [Entry] if group == "eyespot.verbs" else [])
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    assert main(["greet"]) == 0
    assert capsys.readouterr().out == "hello\n"
