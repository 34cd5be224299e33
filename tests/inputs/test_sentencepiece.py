"""Models in the bare SentencePiece form; the files are written here field by field, no package is needed."""

import struct

import pytest

from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def field(number: int, value) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def model(kind: int, pieces, **settings) -> bytes:
    body = b"".join(
        field(1, field(1, piece.encode()) + field(2, float(score)) + field(3, sort)) for piece, score, sort in pieces
    )
    trainer = field(3, kind) + b"".join(field(n, v % (1 << 64)) for n, v in settings.pop("trainer", {}).items())
    normalizer = b"".join(field(n, v) for n, v in settings.pop("normalizer", {}).items())
    return body + field(2, trainer) + field(3, normalizer)


LLAMA = [("<unk>", 0, UNKNOWN), ("<s>", 0, CONTROL), ("</s>", 0, CONTROL)]
LLAMA += [(f"<0x{i:02X}>", 0, BYTE) for i in range(256)]
LLAMA += [("▁r", -0.0, NORMAL), ("ed", -1, NORMAL), ("▁red", -2, NORMAL), ("re", -3, NORMAL)]
LLAMA += [(c, -10 - i, NORMAL) for i, c in enumerate("▁red")]


def llama(folder, **settings) -> Tokenizer:
    settings.setdefault("normalizer", {4: 0})
    (folder / "tokenizer.model").write_bytes(model(2, LLAMA, **settings))
    return Tokenizer.load(folder)


def spelled(tokenizer, text, **options) -> list[str]:
    return [tokenizer.token_of(i) for i in tokenizer.encode(text, **options).ids]


def test_merges_follow_the_scores_and_bos_comes_first(tmp_path):
    assert spelled(llama(tmp_path), "red") == ["<s>", "▁red"]
    assert spelled(llama(tmp_path), "red", add_special_tokens=False) == ["▁red"]


def test_what_the_model_lacks_falls_to_bytes_and_comes_back(tmp_path):
    tokenizer = llama(tmp_path)
    tokens = tokenizer.encode("red 원", add_special_tokens=False)
    assert [tokenizer.token_of(i) for i in tokens.ids] == ["▁red", "▁", "<0xEC>", "<0x9B>", "<0x90>"]
    assert tokenizer.decode(tokens.ids) == "red 원"


def test_control_pieces_are_special_and_cannot_be_spelled(tmp_path):
    tokenizer = llama(tmp_path)
    assert tokenizer.special_tokens == ("<unk>", "<s>", "</s>")
    assert 2 in tokenizer.encode("red</s>").ids
    assert 2 not in tokenizer.encode("red</s>", special_tokens=False).ids
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", None)


def test_the_config_beside_it_has_the_last_word(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    assert spelled(llama(tmp_path), "red") == ["▁red"]


def test_a_unigram_model_takes_the_likeliest_pieces_and_ends_with_eos(tmp_path):
    pieces = [("<pad>", 0, CONTROL), ("</s>", 0, CONTROL), ("<unk>", 0, UNKNOWN)]
    pieces += [("▁a", -2, NORMAL), ("▁", -3, NORMAL), ("a", -3, NORMAL), ("ab", -2.5, NORMAL), ("b", -9, NORMAL)]
    trainer = {40: 2, 41: -1, 42: 1, 43: 0}
    (tmp_path / "spiece.model").write_bytes(model(1, pieces, trainer=trainer))
    tokenizer = Tokenizer.load(tmp_path)
    assert spelled(tokenizer, " ab  a ") == ["▁", "ab", "▁a", "</s>"]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (None, "</s>", "<pad>")
    # The spelling is in the vocabulary of the model itself, and is still not to be found in a text.
    assert 1 in tokenizer.encode("a</s>", add_special_tokens=False).ids
    assert 1 not in tokenizer.encode("a</s>", add_special_tokens=False, special_tokens=False).ids


def test_a_converted_tokenizer_is_saved_as_tokenizer_json(tmp_path):
    tokenizer = llama(tmp_path)
    tokenizer.save(tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out").encode("red 원</s>") == tokenizer.encode("red 원</s>")


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"\xff" * 40, lambda b: b"no model", lambda b: b""])
def test_a_damaged_model_is_named(tmp_path, damage):
    (tmp_path / "tokenizer.model").write_bytes(damage(model(2, LLAMA)))
    with pytest.raises(EyespotError) as error:
        Tokenizer.load(tmp_path)
    assert error.value.code in ("checkpoint-corrupt", "tokenizer-missing")
    assert "tokenizer.model" in str(error.value)
