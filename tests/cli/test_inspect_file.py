"""`eyespot inspect file`: pictures, weights, data files, other JSON."""

import json

import torch
from PIL import Image
from safetensors.torch import save_file

from eyespot.cli.app import main
from tests.films import film


def shown(capsys, *words):
    assert main(["inspect", "file", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_picture_is_shown_as_the_model_gets_it(tmp_path, capsys):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    facts = shown(capsys, tmp_path / "a.png")
    assert (facts["width"], facts["height"], facts["mean colour"]) == (8, 6, [255, 0, 0])


def test_a_video_shows_its_length_and_what_a_model_would_take(tmp_path, capsys):
    facts = shown(capsys, film(tmp_path / "a.mp4", 50))
    assert (facts["kind"], facts["width"], facts["height"], facts["frames"]) == ("video", 64, 48, 50)
    assert (facts["seconds"], facts["codec"], facts["frames taken at 2 a second"]) == (5.0, "h264", 10)
    assert shown(capsys, film(tmp_path / "a.gif", 5))["kind"] == "image"


def test_a_weights_file_shows_its_tensors(tmp_path, capsys):
    save_file({"w": torch.zeros(2, 3)}, tmp_path / "m.safetensors")
    facts = shown(capsys, tmp_path / "m.safetensors")
    assert facts["tensors"] == [{"name": "w", "shape": [2, 3], "dtype": "F32"}]


def test_a_damaged_weights_file_is_an_error(tmp_path, capsys):
    (tmp_path / "m.safetensors").write_bytes(b"nonsense")
    assert main(["inspect", "file", str(tmp_path / "m.safetensors")]) == 2
    assert "checkpoint-corrupt" in capsys.readouterr().err


def test_a_config_shows_its_keys(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "llava", "hidden_size": 8}')
    assert shown(capsys, tmp_path / "config.json")["model_type"] == "llava"


def test_a_data_file_shows_its_format(tmp_path, capsys):
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    facts = shown(capsys, tmp_path / "rows.jsonl")
    assert (facts["format"], facts["rows"]) == ("openai", 1)


def test_a_text_file_is_no_picture(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("hello")
    assert main(["inspect", "file", str(tmp_path / "notes.txt")]) == 2
    assert "media-unreadable" in capsys.readouterr().err
