"""What holds for every family: its description is reversible, loading is strict, export ∘ import is the identity."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families.family import Context
from tests.families.makers import CASES, IDS, equal, loaded, random_module

cases = pytest.mark.parametrize(("family", "case"), CASES, ids=IDS)

FIRST = list({f.name: (f, name) for f, name in reversed(CASES)}.values())  # one case of each family


def layouts(family, config) -> list[str]:
    """The layouts that can hold this config."""
    able = []
    for name, layout in family.layouts.items():
        try:
            layout.config_to_hf(config, Context())
        except EyespotError as error:
            assert error.code == "layout-unsupported"
        else:
            able.append(name)
    return able


@cases
def test_the_config_goes_there_and_back(family, case):
    config = family.tiny()[case]
    for name in layouts(family, config):
        keymap = family.layouts[name].keymap(config)
        names = [keymap.their_name(n) for n in families.build(config, "meta").state_dict()]
        raw = json.loads(json.dumps(family.layouts[name].config_to_hf(config, Context())))
        assert raw["model_type"] in family.model_types
        parts = {"vision_encoder": getattr(config, "vision", None)}
        assert family.config_from_hf(raw, names, parts) == config


@cases
def test_the_key_map_is_a_bijection_onto_the_models_tensors(family, case):
    config = family.tiny()[case]
    ours = random_module(config).state_dict()
    for name in layouts(family, config):
        keymap = family.layouts[name].keymap(config)
        theirs = keymap.to_theirs(ours)
        assert keymap.unknown(theirs) == []
        back = keymap.to_ours(theirs)
        assert back.keys() == ours.keys()
        assert all(torch.equal(back[k], ours[k]) for k in ours)


@cases
def test_a_fresh_model_is_written_and_read_back_in_every_layout(family, case, tmp_path):
    config = family.tiny()[case]
    for name in layouts(family, config):
        made = loaded(family, config, name)
        families.save(made, tmp_path / name)
        again = families.load(tmp_path / name, verify=True)
        assert equal(again.module, made.module)
        assert again.config == config
        assert again.family == family.name
        # Where two layouts write the same names, the first is recognised.
        keymaps = {n: family.layouts[n].keymap(config).their_name for n in (name, again.layout)}
        assert all(keymaps[name](k) == keymaps[again.layout](k) for k in again.module.state_dict())


@cases
def test_export_of_an_import_writes_the_same_files(family, case, tmp_path):
    made = loaded(family, family.tiny()[case])
    families.save(made, tmp_path / "first")
    families.save(families.load(tmp_path / "first"), tmp_path / "second")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("first", "second"))
    first.pop("eyespot.json"), second.pop("eyespot.json")  # holds times
    assert first == second


@cases
def test_a_model_keeps_everything_in_our_own_layout(family, case, tmp_path):
    made = loaded(family, family.tiny()[case])
    families.save(made, tmp_path / "own", layout="eyespot")
    again = families.load(tmp_path / "own")
    assert (again.family, again.layout) == ("eyespot", "eyespot")
    assert equal(again.module, made.module)
    assert again.config == made.config
    assert again.contract == made.contract


@cases
def test_our_own_layout_goes_back_to_hugging_faces(family, case, tmp_path):
    if family.name == "eyespot":
        return
    made = loaded(family, family.tiny()[case])
    families.save(made, tmp_path / "own", layout="eyespot")
    families.save(families.load(tmp_path / "own"), tmp_path / "hf", layout="hf")
    again = families.load(tmp_path / "hf")
    assert again.layout.startswith("hf")
    assert equal(again.module, made.module)
    assert again.config == made.config


@pytest.mark.parametrize(("family", "case"), FIRST, ids=[f.name for f, _ in FIRST])
@pytest.mark.parametrize("fault", ["missing", "extra", "misshapen", "integer"])
def test_loading_is_strict(family, case, fault, tmp_path):
    families.save(loaded(family, family.tiny()[case]), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[len(tensors) // 2]
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        tensors["stranger.weight"] = torch.zeros(2)
    elif fault == "misshapen":
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    else:
        tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, path)
    (tmp_path / "eyespot.json").rename(tmp_path / "kept.json")
    if family.name == "eyespot":
        record = json.loads((tmp_path / "kept.json").read_text())
        (tmp_path / "eyespot.json").write_text(
            json.dumps({"contract": record["contract"], "contract_id": record["contract_id"]})
        )
    with pytest.raises(EyespotError) as caught:
        families.load(tmp_path)
    assert caught.value.code == ("checkpoint-dtype" if fault == "integer" else "checkpoint-keys")
    assert ("stranger.weight" if fault == "extra" else name) in str(caught.value)
    assert str(tmp_path) in caught.value.where


@cases
def test_a_fresh_contract_can_be_written_and_read(family, case, tmp_path):
    made = loaded(family, family.tiny()[case])
    families.save(made, tmp_path)
    assert families.load(tmp_path).contract == made.contract


def test_every_model_type_of_the_table_belongs_to_its_family():
    listed = {t for f in families.all_families() for t in f.model_types}
    assert listed == set(families.TABLE)
