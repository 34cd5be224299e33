"""`eyespot inspect data`: every row, every picture, bad rows on stderr."""

import json

import pytest
from PIL import Image

from eyespot.cli.app import main


def row(image="a.png", question="<image>\nWhat?", answer="A star.", **more):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": image, "conversations": turns, **more}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    (tmp_path / "notes.png").write_text("not a picture")
    return tmp_path


def write(folder, *rows):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(file)


def test_good_rows_give_a_summary_and_exit_0(folder, capsys):
    assert main(["inspect", "data", write(folder, row(id=1), row(id=2)), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["format"], shown["rows"], shown["good"], shown["images"]) == ("llava", 2, 2, 2)


def test_bad_rows_are_named_on_stderr_with_line_id_and_file(folder, capsys):
    rows = [row(id=1), row(id="gone", image="gone.png"), row(id="text", image="notes.png"), row(id="mute", answer="")]
    assert main(["inspect", "data", write(folder, *rows)]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 3
    for line, number, name, code in zip(
        lines,
        (2, 3, 4),
        ("gone", "text", "mute"),
        ("media-missing", "media-unreadable", "row-no-answer"),
        strict=True,
    ):
        assert f"rows.jsonl:{number}" in line and name in line and code in line
    assert "gone.png" in lines[0]
    assert "1 media-missing" in out


def test_pictures_outside_the_root_are_refused(folder, capsys):
    (folder / "sub").mkdir()
    assert main(["inspect", "data", write(folder, row(id=1)), f"image_root={folder / 'sub'}"]) == 2
    capsys.readouterr()
    assert main(["inspect", "data", write(folder, row(id=1, image="../a.png")), f"image_root={folder / 'sub'}"]) == 2
    assert "media-refused" in capsys.readouterr().err


def test_repeated_ids_are_counted_and_no_fault(folder, capsys):
    assert main(["inspect", "data", write(folder, row(id=1), row(id=1)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repeated ids"] == 1


def test_with_json_bad_rows_are_in_the_object(folder, capsys):
    assert main(["inspect", "data", write(folder, row(id="x", image="gone.png")), "--json"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["bad_rows"][0]["code"] == "media-missing"


def test_an_unknown_key_names_the_nearest(folder, capsys):
    assert main(["inspect", "data", write(folder, row(id=1)), "image_rot=x"]) == 2
    assert "image_root" in capsys.readouterr().err


def test_a_missing_file_is_an_error(tmp_path, capsys):
    assert main(["inspect", "data", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
