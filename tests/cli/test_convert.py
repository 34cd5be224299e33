"""`eyespot build`, `convert`, `export`, `seal`: glue, so only what is passed on is looked at."""

import json
from pathlib import Path

import pytest

import eyespot
from eyespot import families
from eyespot.cli.app import main


@pytest.fixture
def calls(monkeypatch):
    seen = []
    monkeypatch.setattr(families, "convert", lambda model, out, **asked: seen.append((model, out, asked)))
    monkeypatch.setattr(eyespot, "compose", lambda **parts: parts, raising=False)
    monkeypatch.setattr(eyespot, "save", lambda m, p, layout=None: seen.append((m, p, layout)), raising=False)
    return seen


def test_export_keeps_the_layout_unless_told(calls, capsys):
    assert main(["export", "a", "b"]) == 0
    assert main(["export", "a", "c", "--layout", "hf"]) == 0
    plain = {"dtype": None, "max_shard_bytes": 5 * 10**9}
    assert calls == [("a", Path("b"), {"layout": None, **plain}), ("a", Path("c"), {"layout": "hf", **plain})]
    assert "wrote b" in capsys.readouterr().out


def test_build_joins_the_parts(calls, capsys):
    assert main(["build", "out", "--vision", "v", "--decoder", "d", "--select-layer", "-1", "--json"]) == 0
    parts = {"vision": "v", "decoder": "d", "connector": "mlp2x_gelu", "select_layer": -1, "tiles": None}
    assert calls == [(parts, Path("out"), None)]
    assert json.loads(capsys.readouterr().out) == {"out": "out"}


def test_build_takes_tiles(calls, capsys):
    parts = ["--vision", "v", "--decoder", "d"]
    assert main(["build", "out", *parts, "--tiles", "1x2, 2x1"]) == 0
    assert calls[0][0]["tiles"] == [(1, 2), (2, 1)]
    assert main(["build", "out", *parts, "--tiles", "2 by 1"]) == 2
    assert "1x2,2x1" in capsys.readouterr().err


def test_build_needs_both_parts(calls, capsys):
    assert main(["build", "out", "--vision", "v"]) == 2
    assert "--decoder" in capsys.readouterr().err


def test_seal_records_the_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert main(["seal", str(tmp_path)]) == 0
    assert "config.json" in json.loads((tmp_path / "eyespot.json").read_text())["files"]


def test_seal_of_what_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["seal", str(tmp_path / "absent")]) == 2
    assert "checkpoint-missing" in capsys.readouterr().err
