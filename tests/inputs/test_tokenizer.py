import json
import pickle
import re

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from eyespot.errors import EyespotError
from eyespot.inputs.tokenizer import Tokenizer, words

SPELLED = ["<image>", "</s>", "<|im_end|>", "<|im_start|>", "<think>"]
TEXTS = st.lists(
    st.one_of(st.sampled_from([*SPELLED, " ", "\n", "circle", "그림", "<", "|>"]), st.text(max_size=5)), max_size=8
).map("".join)
TEXTS = TEXTS.filter(lambda text: "\ufdd0" not in text)


def tiny() -> Tokenizer:
    return words(["What color is the red circle?", "There are 3 objects."], ["<s>", "</s>", "<pad>", "<image>"])


def pieces(tokenizer: Tokenizer, ids) -> list[str]:
    return [tokenizer.token_of(i) for i in ids]


@pytest.fixture(scope="session", params=["qwen2", "llama2"])
def tokenizer(request, cases, tokenizer_of) -> Tokenizer:
    return tokenizer_of(cases[request.param])


def test_offsets_are_characters_of_the_text(tokenizer):
    text = "그림 <image> red"
    tokens = tokenizer.encode(text, add_special_tokens=False)
    i = tokens.ids.index(tokenizer.id_of("<image>"))
    start, stop = tokens.offsets[i]
    assert text[start:stop] == "<image>"


def test_an_added_bos_has_no_place_in_the_text(cases, tokenizer_of):
    tokens = tokenizer_of(cases["llama2"]).encode("red")
    assert tokens.offsets[0] == (-1, -1) and tokens.ids[0] == 1


@given(text=TEXTS)
@settings(max_examples=50, deadline=None)
def test_without_special_tokens_no_spelling_is_a_control_token(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False, special_tokens=False).ids
    controls = {tokenizer.id_of(t) for t in tokenizer.added_tokens if t != "<unk>"}
    assert not controls & set(ids)
    assert tokenizer.decode(ids, skip_special=False) in (text, text.removeprefix(" "))


@given(text=TEXTS, data=st.data())
@settings(max_examples=50, deadline=None)
def test_only_the_literal_ranges_lose_their_control_tokens(tokenizer, text, data):
    found = [m.span() for m in re.finditer("|".join(map(re.escape, SPELLED)), text)]
    literal = [span for span in found if data.draw(st.booleans())]
    tokens = tokenizer.encode(text, add_special_tokens=False, literals=literal)
    controls = {tokenizer.id_of(t) for t in SPELLED}
    meant = [offset for i, offset in zip(tokens.ids, tokens.offsets, strict=True) if i in controls]
    assert meant == [span for span in found if span not in literal]


@given(text=TEXTS)
@settings(max_examples=50, deadline=None)
def test_the_twin_reads_meant_tokens_as_the_tokenizer_does(tokenizer, text):
    # A literal at the end forces the twin; what stands before it must not notice.
    twin = tokenizer.encode(text + "\n<pad>", literals=[(len(text) + 1, len(text) + 6)])
    plain = tokenizer.encode(text + "\n")
    same = sum(stop <= len(text) for _, stop in plain.offsets)
    assert twin.ids[:same] == plain.ids[:same] and twin.offsets[:same] == plain.offsets[:same]


def test_a_noncharacter_cannot_smuggle_a_control_token_in(tokenizer):
    with pytest.raises(EyespotError, match="noncharacter"):
        tokenizer.encode("<image> \ufdd0\U000f0004", special_tokens=False)


def test_saving_and_loading_changes_no_byte(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a")
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_loaded_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    text = "What <image> 그림</s>"
    assert Tokenizer.load(tmp_path).encode(text) == tokenizer.encode(text)


def test_it_travels_to_other_processes(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("What <image>") == tokenizer.encode("What <image>")
    assert copy.eos_token == tokenizer.eos_token


def test_added_tokens_get_the_next_ids_and_survive_the_disk(tokenizer, tmp_path):
    copy = pickle.loads(pickle.dumps(tokenizer))
    size = copy.vocab_size
    assert copy.add_tokens(["<new>", "<image>"]) == [size, tokenizer.id_of("<image>")]
    assert "<new>" in copy.special_tokens
    copy.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode("<new>", add_special_tokens=False).ids == [size]


def test_ids_may_have_gaps():
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 9}, unk_token="a"))
    tokenizer = Tokenizer(backend.to_str())
    assert tokenizer.vocab_size == 10
    tokenizer.add_tokens(["<c>"])
    assert tokenizer.tokens_from(9) == {"b": 9}
    assert tokenizer.tokens_from(2) == {"<c>": tokenizer.id_of("<c>"), "b": 9}


def test_tokens_that_only_the_side_files_name_are_added(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["extra_special_tokens"] = {"image_token": "<picture>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.id_of("<picture>") == tokenizer.vocab_size and "<picture>" in loaded.special_tokens


def test_add_bos_token_of_the_config_decides(cases, tokenizer_of, tmp_path):
    tokenizer_of(cases["llama2"]).save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for wanted in (True, False):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "add_bos_token": wanted}))
        assert (Tokenizer.load(tmp_path).encode("red").ids[0] == 1) is wanted


def test_a_folder_without_tokenizer_says_what_it_needs(tmp_path):
    with pytest.raises(EyespotError, match="tokenizer-missing"):
        Tokenizer.load(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EyespotError, match="checkpoint-corrupt") as error:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_words_of_the_texts_are_one_token_each():
    tokenizer = tiny()
    assert pieces(tokenizer, tokenizer.encode("What color is the circle? 3").ids) == [
        "What", "Ġcolor", "Ġis", "Ġthe", "Ġcircle", "?", "Ġ3"
    ]  # fmt: skip


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_words_can_write_any_text_and_read_it_back(text):
    tokenizer = _TINY
    assert tokenizer.decode(tokenizer.encode(text, special_tokens="\ufdd0" in text).ids, skip_special=False) == text


_TINY = tiny()


def test_words_are_the_same_whatever_the_order_of_the_texts():
    a, b = words(["red circle", "blue"], ["</s>"]), words(["blue", "red circle"], ["</s>"])
    assert a.encode("blue circle").ids == b.encode("blue circle").ids and a.vocab_size == b.vocab_size


def test_specials_of_words_have_the_first_ids_and_the_usual_names():
    tokenizer = tiny()
    assert [tokenizer.id_of(t) for t in ("<s>", "</s>", "<pad>", "<image>")] == [0, 1, 2, 3]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
