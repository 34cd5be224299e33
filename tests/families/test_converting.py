"""`convert`: the same model in another form, tensor by tensor."""

import weakref

import pytest
import torch

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families import converting, saving
from eyespot.families.loading import open_checkpoint
from eyespot.nn.adapters import LoraConfig, attach
from eyespot.weights import files
from tests.families.makers import CASES, equal, family_named, llava, loaded, text_model

FIRST = list({f.name: (f, name) for f, name in reversed(CASES)}.values())


@pytest.fixture
def alive(monkeypatch):
    """The most tensors that were there at once of those that were read."""
    seen, most = [], [0]
    read = files._read

    def counted(file, name):
        tensor = read(file, name)
        seen.append(weakref.ref(tensor.untyped_storage()))
        most[0] = max(most[0], sum(ref() is not None for ref in seen))
        return tensor

    monkeypatch.setattr(files, "_read", counted)
    return most


@pytest.mark.parametrize(("family", "case"), FIRST, ids=[f.name for f, _ in FIRST])
def test_there_and_back_is_the_same_model_in_every_family(family, case, tmp_path):
    made = loaded(family, family.tiny()[case])
    families.save(made, tmp_path / "first")
    families.convert(tmp_path / "first", tmp_path / "own", layout="eyespot")
    families.convert(tmp_path / "own", tmp_path / "back", layout=None if family.name == "eyespot" else "hf")
    own, back = families.load(tmp_path / "own", verify=True), families.load(tmp_path / "back", verify=True)
    assert own.layout == "eyespot"
    assert equal(own.module, made.module) and equal(back.module, made.module)
    assert back.config == made.config and own.contract == made.contract


def test_what_convert_writes_is_what_save_writes(tmp_path):
    llava(tmp_path / "base")
    families.convert(tmp_path / "base", tmp_path / "a", layout="hf-c", dtype="bfloat16", max_shard_bytes=20_000)
    made = families.load(tmp_path / "base", dtype="bfloat16")
    families.save(made, tmp_path / "b", layout="hf-c", max_shard_bytes=20_000)
    a, b = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "ab")
    a.pop("eyespot.json"), b.pop("eyespot.json")  # holds times
    assert a == b and len([n for n in a if n.startswith("model-")]) > 2
    assert next(families.load(tmp_path / "a").module.parameters()).dtype == torch.bfloat16


def test_no_more_than_a_layers_own_tensors_are_there_at_once(tmp_path, alive):
    """And what the checker of types holds on to, a first one of each mapping."""
    family = family_named("qwen2_vl")
    families.save(loaded(family, next(iter(family.tiny().values()))), tmp_path / "base")
    families.load(tmp_path / "base")
    assert alive[0] <= 1 + 1
    families.convert(tmp_path / "base", tmp_path / "own", layout="eyespot", dtype="float16")
    assert alive[0] <= 1 + 1
    families.convert(tmp_path / "own", tmp_path / "back", layout="hf")
    assert alive[0] <= 3 + 2  # q, k and v, which that layout keeps as one


def test_a_whole_model_in_memory_would_be_seen(tmp_path, alive):
    text_model(tmp_path / "base")
    held = list(files.read_tensors(tmp_path / "base").values())
    assert alive[0] >= len(held) > 4


def test_what_needs_the_model_goes_through_memory(tmp_path, monkeypatch):
    """The authors' layout lacks the image token, and adapters are beside the weights."""
    made = llava(tmp_path / "base")
    families.convert(tmp_path / "base", tmp_path / "original", layout="original")
    families.convert(tmp_path / "original", tmp_path / "back", layout="hf")
    assert families.load(tmp_path / "original").layout == "original"
    attach(made.module, LoraConfig(rank=2))
    families.save(made, tmp_path / "own", layout="eyespot")
    families.convert(tmp_path / "own", tmp_path / "again", dtype="bfloat16")
    again = families.load(tmp_path / "again")
    assert len([n for n, _ in again.module.named_parameters() if ".lora_A" in n]) == 14


def test_a_layout_that_cannot_hold_the_model_refuses_before_a_byte_is_written(tmp_path, monkeypatch):
    text_model(tmp_path / "base")
    monkeypatch.setattr(saving, "write_tensors", lambda *_: pytest.fail("a tensor was written"))
    for wrong in ({"layout": "orignal"}, {"dtype": "int8"}):
        with pytest.raises(EyespotError) as caught:
            families.convert(tmp_path / "base", tmp_path / "out", **wrong)
        assert caught.value.code in ("layout-unsupported", "argument")
    assert not (tmp_path / "out").exists()


def test_an_unknown_tensor_is_refused_as_on_loading(tmp_path):
    from safetensors.torch import load_file, save_file

    text_model(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    save_file({**load_file(file), "stranger": torch.ones(1)}, file)
    (tmp_path / "base" / "eyespot.json").unlink()
    with pytest.raises(EyespotError, match="stranger"):
        families.convert(tmp_path / "base", tmp_path / "out")


@pytest.mark.parametrize(("name", "whole"), [("internvl", False), ("llava", True)])
def test_what_grows_by_an_image_token_goes_through_memory_and_nothing_else(name, whole, tmp_path):
    """Both have a layout `original`; LLaVA's knows no image token, InternVL's has its own."""
    family = family_named(name)
    families.save(loaded(family, next(iter(family.tiny().values()))), tmp_path)
    assert converting._whole(open_checkpoint(tmp_path), "original") is whole
