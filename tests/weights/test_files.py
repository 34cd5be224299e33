"""Weight files: what is read is whole and inside the folder; what is written is complete or absent."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from eyespot.errors import EyespotError
from eyespot.weights import files
from eyespot.weights.files import load_into, read_json, read_tensors, write_tensors


def some(count: int = 4) -> dict[str, torch.Tensor]:
    return {f"layers.{i}.weight": torch.randn(3, 5) for i in range(count)}


def code(caught) -> str:
    return caught.value.code


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in b)


@pytest.mark.parametrize("limit", [10**9, 130, 1])
def test_what_is_written_is_read_back_whatever_the_number_of_files(tmp_path, limit):
    tensors = some()
    written = write_tensors(tmp_path, tensors, limit)
    assert len(written) == {10**9: 1, 130: 3, 1: 5}[limit]
    assert same(read_tensors(tmp_path), tensors)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written}


def test_an_index_counts_bytes_and_places_every_tensor(tmp_path):
    write_tensors(tmp_path, some(), 130)
    index = read_json(tmp_path / "model.safetensors.index.json")
    assert index["metadata"]["total_size"] == 4 * 60
    assert set(index["weight_map"]) == set(some())


def test_files_of_another_number_of_shards_are_removed(tmp_path):
    write_tensors(tmp_path, some(), 1)
    write_tensors(tmp_path, some(2))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    tensors = some()
    write_tensors(tmp_path, tensors)

    def broken(path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files.streaming, "write", broken)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(tmp_path, some())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    assert same(read_tensors(tmp_path), tensors)


def test_tensors_are_read_when_they_are_asked_for(tmp_path):
    write_tensors(tmp_path, some())
    tensors = read_tensors(tmp_path)
    with pytest.raises(KeyError):
        tensors["absent"]
    assert tensors["layers.2.weight"].shape == (3, 5)


def test_no_weights_is_said(tmp_path):
    with pytest.raises(EyespotError) as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-missing"


def test_shards_without_their_index_are_said(tmp_path):
    save_file(some(), tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(EyespotError, match="without model.safetensors.index.json") as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-missing"


@settings(deadline=None, max_examples=50)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path_factory, cut):
    folder, data = tmp_path_factory.mktemp("cut"), save(some())
    (folder / "model.safetensors").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(EyespotError, match=r"model\.safetensors") as caught:
        read_tensors(folder)
    assert code(caught) == "checkpoint-corrupt"


def header(text: str, data: bytes = b"\0" * 8) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


ONE = '"a": {"dtype": "F32", "shape": [%s], "data_offsets": [%s]}'


@pytest.mark.parametrize("content", [
    b"", b"abc", b"garbage" * 20, struct.pack("<Q", 99_000_000) + b"{}", header("[]"), header("{"), header("not json"),
    header("{" + ONE % ("1", "0, 4") + "}"),  # bytes that belong to nothing
    header("{" + ONE % ("-1", "0, 8") + "}"), header("{" + ONE % ("2", "8, 0") + "}"),
    header("{" + ONE % ("2", "0, 99") + "}"),
    header("{" + ONE % ("4294967296, 4294967296, 4294967296", "0, 8") + "}"),
    header("{" + ONE % ("1", "0, 4") + ", " + (ONE % ("1", "2, 6")).replace('"a"', '"b"') + "}"),
])  # fmt: skip
def test_a_malformed_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(EyespotError, match=r"model\.safetensors") as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-corrupt"


@pytest.mark.parametrize("name", [
    "../outside.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", "a\0b.safetensors", "..\\x.safetensors",
    "C:x.safetensors",
])  # fmt: skip
def test_an_index_names_only_plain_files(tmp_path, name):
    save_file(some(), tmp_path / "outside.safetensors")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(EyespotError) as caught:
        read_tensors(folder)
    assert code(caught) == "checkpoint-path"


def test_an_index_that_names_an_absent_file_is_refused(tmp_path):
    write_tensors(tmp_path, some(), 1)
    (tmp_path / "model-00003-of-00004.safetensors").unlink()
    with pytest.raises(EyespotError, match="model-00003-of-00004.safetensors, which is absent") as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-path"


def test_a_shard_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    save_file(some(), tmp_path / "outside.safetensors")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "shard.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"layers.0.weight": "shard.safetensors"}})
    )
    with pytest.raises(EyespotError, match="a link out of the folder") as caught:
        read_tensors(folder)
    assert code(caught) == "checkpoint-path"


def test_the_links_of_the_hubs_cache_are_followed(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "main", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    tensors = some()
    save_file(tensors, blobs / "f00d")
    (snapshot / "shard.safetensors").symlink_to("../../blobs/f00d")
    index = {"weight_map": dict.fromkeys(tensors, "shard.safetensors")}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read_tensors(snapshot), tensors)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_broken_index_is_refused(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(EyespotError, match=r"index\.json") as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-corrupt"


def test_an_index_that_places_a_tensor_where_it_is_not_is_refused(tmp_path):
    write_tensors(tmp_path, some(), 130)
    path = tmp_path / "model.safetensors.index.json"
    index = read_json(path)
    index["weight_map"]["ghost"] = index["weight_map"]["layers.0.weight"]
    path.write_text(json.dumps(index))
    with pytest.raises(EyespotError, match="ghost"):
        read_tensors(tmp_path)


class Gadget:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("how", ["zip", "legacy", "bare"])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, how):
    touched, path = tmp_path / "touched", tmp_path / "pytorch_model.bin"
    if how == "bare":
        path.write_bytes(pickle.dumps({"a": Gadget(touched)}, protocol=2))
    else:
        torch.save({"a": Gadget(touched)}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(EyespotError, match=r"pytorch_model\.bin") as caught:
        read_tensors(tmp_path)
    assert code(caught) == "checkpoint-corrupt"
    assert not touched.exists()


def test_a_pickle_of_plain_weights_is_read(tmp_path):
    tensors = some()
    torch.save(tensors, tmp_path / "mm_projector.bin")
    assert same(read_tensors(tmp_path), tensors)


def fresh(dtype=torch.float32) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    return module, {name: torch.randn(t.shape).to(dtype) for name, t in module.state_dict().items()}


def test_loading_keeps_the_stored_type_and_gives_real_memory():
    module, tensors = fresh(torch.bfloat16)
    load_into(module, tensors, "here")
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert same(module.state_dict(), tensors)
    assert not any(p.is_meta for p in module.parameters())


def test_loading_converts_when_told():
    module, tensors = fresh(torch.float16)
    load_into(module, tensors, "here", dtype=torch.float32)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_loaded_weight_does_not_hang_on_the_file(tmp_path):
    module, tensors = fresh()
    write_tensors(tmp_path, tensors)
    load_into(module, read_tensors(tmp_path), "here")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert same(module.state_dict(), tensors)


def test_one_error_holds_a_table_of_everything_that_does_not_fit():
    module, tensors = fresh()
    tensors["1.weight"] = torch.zeros(9, 9)
    del tensors["0.bias"]
    with pytest.raises(EyespotError) as caught:
        load_into(module, tensors, "here", unexpected=["stranger"], their_name=lambda name: f"their.{name}")
    assert code(caught) == "checkpoint-keys"
    message = str(caught.value)
    assert "missing     their.0.bias (4,)" in message
    assert "unexpected  stranger" in message
    assert "misshapen   their.1.weight is (9, 9), the config asks for (2, 4)" in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_not_floating_point_are_refused(dtype):
    module, tensors = fresh()
    tensors["0.bias"] = torch.zeros(4).to(dtype)
    with pytest.raises(EyespotError, match=r"0\.bias") as caught:
        load_into(module, tensors, "here")
    assert code(caught) == "checkpoint-dtype"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "lone.pth"])
def test_a_pickle_whose_archive_is_damaged_is_refused_by_name(tmp_path, name):
    torch.save({"a": torch.zeros(3)}, tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    content[content.index(b"PK\x01\x02")] ^= 1  # the first entry of the archive's directory
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EyespotError, match=name) as caught:
        read_tensors(tmp_path)
    assert caught.value.code == "checkpoint-corrupt"
