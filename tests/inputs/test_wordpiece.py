"""``vocab.txt`` becomes a tokenizer: greedy pieces, clean text, and clear errors."""

import json

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "lung", "##s", "un", "##clear", "e", ",", "."]


def vocabulary(folder, words=WORDS, **config):
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_of(i) for i in tokenizer.encode(text).ids]


def test_words_are_cut_into_the_longest_pieces(tmp_path):
    tokenizer = Tokenizer.load(vocabulary(tmp_path))
    assert spelled(tokenizer, "The LUNGS, unclear.") == [
        "[CLS]", "the", "lung", "##s", ",", "un", "##clear", ".", "[SEP]",
    ]  # fmt: skip
    assert spelled(tokenizer, "é heart") == ["[CLS]", "e", "[UNK]", "[SEP]"]
    assert tokenizer.decode(tokenizer.encode("lungs").ids) == "lungs"
    assert (tokenizer.pad_token, tokenizer.unk_token, tokenizer.vocab_size) == ("[PAD]", "[UNK]", len(WORDS))


def test_case_is_kept_where_the_config_says_so(tmp_path):
    tokenizer = Tokenizer.load(vocabulary(tmp_path, do_lower_case=False))
    assert spelled(tokenizer, "The the") == ["[CLS]", "[UNK]", "the", "[SEP]"]


def test_a_cut_text_keeps_its_ends(tmp_path):
    tokenizer = Tokenizer.load(vocabulary(tmp_path))
    ids = tokenizer.encode_cut("the lungs the lungs", 5)
    assert [tokenizer.token_of(i) for i in ids] == ["[CLS]", "the", "lung", "##s", "[SEP]"]


def test_what_is_saved_is_read_back_without_the_vocabulary(tmp_path):
    tokenizer = Tokenizer.load(vocabulary(tmp_path))
    tokenizer.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "vocab.txt").exists()
    assert Tokenizer.load(tmp_path / "saved").encode("unclear lungs").ids == tokenizer.encode("unclear lungs").ids


def test_a_vocabulary_without_its_special_tokens_is_refused(tmp_path):
    with pytest.raises(EyespotError, match=r"\[CLS\], \[SEP\]|\[SEP\], \[CLS\]") as caught:
        Tokenizer.load(vocabulary(tmp_path, [w for w in WORDS if w not in ("[CLS]", "[SEP]")]))
    assert caught.value.code == "tokenizer-token"
    assert "vocab.txt" in caught.value.where
