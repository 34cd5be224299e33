"""The verbs on a real, tiny checkpoint: what is printed is what the library says."""

import json

import eyespot
from eyespot.cli.app import main


def test_chat_prints_what_the_model_answers(checkpoint, capsys):
    words = [str(checkpoint / "model"), "What color is the star?", "-i", str(checkpoint / "star.png")]
    assert main(["chat", *words, "--max-new-tokens", "5"]) == 0
    streamed = capsys.readouterr().out
    assert main(["chat", *words, "--max-new-tokens", "5", "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert streamed == reply["text"] + "\n"
    model = eyespot.load(checkpoint / "model")
    direct = model.chat(words[1], images=[checkpoint / "star.png"], max_new_tokens=5)
    assert reply["text"] == direct.text and reply["finish_reason"] == direct.finish_reason


def test_chat_names_a_picture_that_is_not_there(checkpoint, capsys):
    assert main(["chat", str(checkpoint / "model"), "What?", "-i", "no-such.png", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "media-missing" and "no-such.png" in error["where"] + error["message"]


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main(["chat", str(tmp_path / "none"), "What?"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "checkpoint-missing" in first and second.startswith("  -> ")


def test_inspect_model_counts_every_parameter(checkpoint, capsys):
    assert main(["inspect", "model", str(checkpoint / "model"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    module = eyespot.load(checkpoint / "model").module
    assert shown["parameters"] == sum(p.numel() for p in module.parameters())
    assert [part["part"] for part in shown["parts"]] == ["vision_encoder", "connector", "decoder", "lm_head"]
    assert {t["name"] for t in shown["tensors"]} == {name for name, _ in module.named_parameters()}


def test_inspect_model_is_readable(checkpoint, capsys):
    assert main(["inspect", "model", str(checkpoint / "model"), "--names"]) == 0
    shown = capsys.readouterr().out
    assert "vision_encoder" in shown and "connector.layers.0.weight" in shown and "32 × 32" in shown


def test_inspect_batch_marks_what_is_learnt(checkpoint, capsys):
    words = ["inspect", "batch", str(checkpoint / "model"), f"data={checkpoint / 'rows.jsonl'}"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "[image 0: 64 tokens]" in shown
    assert "⟦red</s>⟧" in shown.replace(" ", "")
    assert main([*words, "--rows", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 3 and facts["patches"] == 3 * 64 and facts["learnt"] == 3 * 2
    tokens = facts["samples"][0]["tokens"]
    assert sum(t["image"] == 0 for t in tokens) == 64
    assert "".join(t["text"] for t in tokens if t["weight"]).strip() == "red</s>"


def test_inspect_batch_needs_data(checkpoint, capsys):
    assert main(["inspect", "batch", str(checkpoint / "model")]) == 2
    assert "data=" in capsys.readouterr().err


def test_inspect_data_can_try_the_models_template(checkpoint, capsys):
    words = ["inspect", "data", str(checkpoint / "rows.jsonl"), f"model={checkpoint / 'model'}"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "max_length=40"]) == 2
    assert "too-long" in capsys.readouterr().err


def test_export_writes_a_checkpoint_that_loads_and_agrees(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint / "model"), str(tmp_path / "hf"), "--layout", "hf"]) == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == "llava"
    question = [{"role": "user", "content": [{"type": "image", "image": str(checkpoint / "star.png")}]}]
    ours, theirs = (eyespot.load(p).trace(question) for p in (checkpoint / "model", tmp_path / "hf"))
    assert (ours.logits - theirs.logits).abs().max() < 1e-5


def test_a_changed_file_is_noticed_and_seal_accepts_it(checkpoint, tmp_path, capsys):
    copy = tmp_path / "copy"
    main(["export", str(checkpoint / "model"), str(copy)])
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    capsys.readouterr()
    assert main(["inspect", "model", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "checkpoint-seal" in error and "config.json" in error
    assert main(["seal", str(copy)]) == 0
    assert main(["inspect", "model", str(copy), "--verify"]) == 0
