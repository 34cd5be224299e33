"""Vocabularies and merges of slow tokenizers: what is read, and how text is split before merging."""

import json

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer

ALPHABET = [*"abcdefghijklmnopqrstuvwxyzAT'!?.", "Ġ", "Ċ", "Ã", "©", "1", "2"]
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("'", "t"), ("n", "'t"), ("1", "2"), ("Ċ", "Ċ")]


def write(folder, tokenizer_class="Qwen2Tokenizer", **config):
    pieces = [*ALPHABET, *(a + b for a, b in MERGES)]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in MERGES) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps({"<img>": len(pieces)}))
    settings = {"tokenizer_class": tokenizer_class, "eos_token": "!", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def pieces(tokenizer, text):
    return [tokenizer.token_of(i) for i in tokenizer.encode(text).ids]


def test_text_is_split_as_the_class_does_and_then_merged(tmp_path):
    write(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert pieces(tokenizer, "the the") == ["the", "Ġthe"]
    assert pieces(tokenizer, "can't") == ["c", "a", "n", "'t"]  # an ending is split off before its letters merge
    assert pieces(tokenizer, "12") == ["1", "2"]  # digits stand alone
    assert pieces(tokenizer, "a\n\n") == ["a", "ĊĊ"]
    assert pieces(tokenizer, "the<img>a") == ["the", "<img>", "a"]
    assert pieces(tokenizer, "e\u0301") == pieces(tokenizer, "\u00e9") == ["Ã", "©"]  # composed first


def test_what_is_saved_reads_back_without_the_two_files(tmp_path):
    (tmp_path / "slow").mkdir()
    write(tmp_path / "slow")
    tokenizer = Tokenizer.load(tmp_path / "slow")
    tokenizer.save(tmp_path / "fast")
    again = Tokenizer.load(tmp_path / "fast")
    for text in ("the <img> can't 12\n", "T!"):
        assert again.encode(text).ids == tokenizer.encode(text).ids
        assert again.decode(again.encode(text).ids, skip_special=False) == text


def test_a_class_whose_split_no_file_says_is_not_guessed(tmp_path):
    write(tmp_path, "GPT2Tokenizer")
    with pytest.raises(EyespotError, match=r"vocab\.json") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.code == "tokenizer-missing"


@pytest.mark.parametrize(("name", "text"), [("vocab.json", "[1, 2]"), ("vocab.json", "{"), ("merges.txt", "a b c")])
def test_broken_files_are_named(tmp_path, name, text):
    write(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(EyespotError) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.code == "checkpoint-corrupt"
    assert str(tmp_path) in caught.value.where
