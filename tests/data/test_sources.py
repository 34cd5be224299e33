"""Sources: files, rows in memory and worlds, each row by number."""

import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from data_fakes import Counting, llava

from eyespot.contracts.message import Example, Message, Text
from eyespot.data.sources import open_source
from eyespot.errors import EyespotError


def openai(text="a"):
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]}


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_file_gives_its_rows_its_format_and_its_folder_as_root(write, name, tmp_path):
    source = open_source(str(write([llava(i) for i in range(3)], name)))
    assert (source.format, len(source), source.root) == ("llava", 3, tmp_path)
    assert [e.id for e in source.examples()] == ["id0", "id1", "id2"]
    assert [e.id for e in source.examples(start=2)] == ["id2"]
    assert str(source).endswith(f"{name}: llava, 3 rows")


def test_image_root_replaces_the_folder(write, tmp_path):
    assert open_source(write([llava(0)]), image_root=tmp_path / "x").root == tmp_path / "x"


def test_a_row_without_an_id_is_called_by_file_and_line(write):
    source = open_source(write([openai(), openai()]))
    assert source.read(1).id == source.id_of(1) == "rows.jsonl:2"


def test_a_bad_row_raises_with_line_and_id_and_the_rest_is_read(write):
    source = open_source(write([llava(0), llava(1, answer=""), llava(2)]))
    with pytest.raises(EyespotError, match="row-no-answer") as caught:
        source.read(1)
    assert caught.value.where == "rows.jsonl:2, id id1"
    assert source.read(2).id == source.id_of(2) == "id2"


def test_one_format_holds_for_a_source_and_rows_of_another_are_errors(write):
    source = open_source(write([*[llava(i) for i in range(5)], openai()]))
    assert source.format == "llava"
    with pytest.raises(EyespotError, match="has the shape of openai"):
        source.read(5)


def test_broken_lines_do_not_hide_the_format(write):
    path = write([llava(0), llava(1)])
    path.write_text("{broken\n" + path.read_text())
    source = open_source(path)
    assert source.format == "llava"
    assert source.id_of(0) == "rows.jsonl:1"
    assert source.read(1).id == "id0"


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"question": "a"}', "'question'"), ("{broken", "the first fault: not JSON"), ("[1]", "no row is an object")],
)
def test_a_file_of_no_known_format_says_what_it_holds(tmp_path, text, says):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(EyespotError, match="data-unknown-format") as caught:
        open_source(path)
    assert says in caught.value.message
    assert str(path) in caught.value.where


def test_rows_in_memory_and_examples_are_sources_too():
    assert open_source([llava(0)]).format == "llava"
    assert open_source(iter([openai("x")])).read(0).messages[0].text == "x"
    example = Example("e", (Message("user", (Text("a"),)), Message("assistant", (Text("b"),))))
    source = open_source([example])
    assert (source.format, source.read(0)) == ("examples", example)
    assert open_source(lambda: [openai()]).format == "openai"


@pytest.mark.parametrize(("spec", "code"), [([], "data-empty"), (3, "argument"), ({"a": 1}, "argument")])
def test_what_is_no_source_is_refused(spec, code):
    with pytest.raises(EyespotError, match=code):
        open_source(spec)


def test_a_world_is_endless_and_any_item_can_be_read():
    source = open_source(Counting(), seed=4)
    assert (source.length, source.name) == (None, "world:counting:train")
    assert source.read(1000).id == next(source.examples(start=1000)).id == "train-1000"
    assert "train 4 1000" in source.read(1000).messages[0].text
    with pytest.raises(TypeError):
        len(source)


def test_a_world_is_found_by_its_name_and_split():
    source = open_source("world:scenes")
    assert source.name == "world:scenes:train"
    assert source.read(2).id == source.read(2).id != source.read(3).id


def test_a_world_can_be_cut_to_its_first_items():
    assert open_source("world:scenes#12").length == 12
    assert open_source("world:scenes:train#12").name == "world:scenes:train#12"
    for wrong in ("world:scenes#0", "world:scenes#many"):
        with pytest.raises(EyespotError, match="number of items"):
            open_source(wrong)


def test_an_unknown_world_names_the_nearest():
    with pytest.raises(EyespotError, match="did you mean 'scenes'"):
        open_source("world:scene")
    with pytest.raises(EyespotError, match="no world is called 'samples'"):
        open_source("world:samples")


def test_the_hash_of_a_world_follows_its_configuration_however_deep_it_is():
    @dataclass(frozen=True)
    class Inner:
        size: int

    def of(size):
        world = Counting()
        world.config = Inner(size)
        return open_source(world).data_hash

    assert of(1) == of(1) != of(2)


def test_the_hash_of_rows_follows_their_pictures():
    def of(value):
        return open_source([{**openai(), "images": [np.full((2, 2, 3), value, dtype=np.uint8)]}]).data_hash

    assert of(1) == of(1) != of(2)


def test_the_hash_follows_the_content(write, tmp_path):
    path = write([llava(0)])
    before = open_source(path).data_hash
    assert open_source(path).data_hash == before
    path.write_text(path.read_text().replace("yes", "yet"))
    assert open_source(path).data_hash != before
    rows = [open_source([openai(text)]).data_hash for text in "aab"]
    assert rows[0] == rows[1] != rows[2]
    worlds = [open_source(Counting(words), seed=seed).data_hash for words, seed in ((3, 0), (3, 0), (4, 0), (3, 1))]
    assert worlds[0] == worlds[1]
    assert len(set(worlds)) == 3


def test_a_source_travels_to_another_process(write):
    for source in (open_source(write([llava(0)])), open_source(Counting())):
        assert pickle.loads(pickle.dumps(source)).read(0) == source.read(0)


def test_a_million_rows_are_not_kept_in_memory(write):
    source = open_source(write([llava(i) for i in range(200)]))
    assert len(pickle.dumps(source)) < 200 * 24 + 2000


def test_a_file_that_shrinks_while_it_is_read_costs_rows_not_the_process(write):
    path = write([llava(i) for i in range(3)])
    source = open_source(path)
    path.write_text(json.dumps(llava(0)) + "\n")
    assert source.read(0).id == "id0"
    with pytest.raises(EyespotError, match="row-malformed"):
        source.read(2)
