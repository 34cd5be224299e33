"""Vocabularies of ranked byte strings; the files are written here, and the authors' package is not needed."""

import base64
import json
import pickle

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer

# "abc" is merged of "a" and "bc", which ranks before "ab"; " red" has no last merge, as " re" takes its space first.
MERGED = [b"re", b" re", b"bc", b"ab", b"abc", b" red", "그".encode()[:2], "그".encode(), b"\n\n"]
PIECES = [bytes([i]) for i in range(256)] + MERGED
FIRST = len(PIECES)


def ranked(folder, pieces=PIECES, visual: bool = False, name: str = "qwen.tiktoken") -> Tokenizer:
    lines = [base64.b64encode(piece) + b" %d" % rank for rank, piece in enumerate(pieces)]
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    (folder / "config.json").write_text(json.dumps({"visual": {"width": 8}} if visual else {}))
    return Tokenizer.load(folder)


def pieces(tokenizer: Tokenizer, text: str) -> list[bytes]:
    return [PIECES[i] for i in tokenizer.encode(text).ids]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" red", [b" red"]), ("red", [b"re", b"d"]), ("abc", [b"abc"]), ("xabc", [b"x", b"abc"]),
        ("그", ["그".encode()]), ("a\n\nb", [b"a", b"\n\n", b"b"]), ("12", [b"1", b"2"]),
        ("e\u0301", [b"\xc3", b"\xa9"]),  # composed first: é
    ],
)  # fmt: skip
def test_the_lowest_rank_merges_first_and_a_whole_stretch_is_looked_up(tmp_path, text, wanted):
    assert pieces(ranked(tmp_path), text) == wanted


def test_text_comes_back(tmp_path):
    tokenizer = ranked(tmp_path)
    text = "Ça va? 그림 é\u0000\n\t  red"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_control_tokens_stand_behind_the_last_rank(tmp_path):
    tokenizer = ranked(tmp_path)
    spelled = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|extra_0|>": 3, "<|extra_204|>": 207}
    assert {t: tokenizer.id_of(t) for t in spelled} == {t: FIRST + i for t, i in spelled.items()}
    assert tokenizer.vocab_size == FIRST + 208
    assert tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert len(tokenizer.encode("<img>").ids) > 1


def test_a_model_that_takes_pictures_has_tokens_for_them(tmp_path):
    tokenizer = ranked(tmp_path, visual=True)
    tags = ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"]
    assert [tokenizer.id_of(tag) for tag in tags] == list(range(FIRST + 208, FIRST + 217))
    marked = "<ref>a</ref><box>(1,2)</box>"
    ids = tokenizer.encode(marked).ids
    assert tokenizer.decode(ids, skip_special=True) == marked  # an answer keeps its places
    assert tokenizer.id_of("<ref>") in ids
    assert {"<img>", "<imgpad>"} <= set(tokenizer.special_tokens) and "<box>" not in tokenizer.special_tokens


def test_the_file_goes_along_until_tokens_are_added(tmp_path):
    tokenizer = ranked(tmp_path)
    tokenizer.save(tmp_path / "saved")
    again = pickle.loads(pickle.dumps(Tokenizer.load(tmp_path / "saved")))
    again.save(tmp_path / "again")
    for folder in ("saved", "again"):
        assert (tmp_path / folder / "qwen.tiktoken").read_bytes() == (tmp_path / "qwen.tiktoken").read_bytes()
    assert again.encode(" red abc").ids == tokenizer.encode(" red abc").ids
    again.add_tokens(["<new>"])
    again.save(tmp_path / "grown")
    assert not (tmp_path / "grown" / "qwen.tiktoken").exists()


@pytest.mark.parametrize("fault", ["gap", "byte", "base64", "words"])
def test_a_broken_file_is_refused(tmp_path, fault):
    ranked(tmp_path)
    path = tmp_path / "qwen.tiktoken"
    lines = path.read_bytes().splitlines()
    changed = {
        "gap": lines[:-1] + [lines[-1] + b"0"], "byte": lines[1:], "base64": [b"?? 0", *lines[1:]],
        "words": [b"IQ==", *lines[1:]],
    }  # fmt: skip
    path.write_bytes(b"\n".join(changed[fault]))
    with pytest.raises(EyespotError) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.code == "checkpoint-corrupt" and str(path) in caught.value.where
