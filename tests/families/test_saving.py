"""What a save leaves, and what it leaves alone."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families import saving
from eyespot.weights import seal
from tests.families.makers import TEMPLATE, equal, family_named, llava, loaded, text_model


@pytest.fixture
def model(tmp_path):
    llava(tmp_path / "model")
    return families.load(tmp_path / "model")


def content(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_a_checkpoint_is_self_contained_and_sealed(model, tmp_path):
    families.save(model, tmp_path / "out", card="# A card")
    assert set(content(tmp_path / "out")) == {
        "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
        "processor_config.json",
        "chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "README.md", "eyespot.json",
    }  # fmt: skip
    assert seal.check(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "# A card"
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TEMPLATE


def test_a_large_model_is_cut_into_shards_and_read_back(model, tmp_path):
    families.save(model, tmp_path / "out", max_shard_bytes=20_000)
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 2
    assert equal(families.load(tmp_path / "out").module, model.module)


def test_unknown_keys_are_kept_even_when_the_config_is_rewritten(model, tmp_path):
    raw = model.extra["config.json"]
    raw |= {"ignore_index": -100, "some_future_key": {"a": [1]}}
    raw["text_config"] |= {"also_unknown": 1, "rope_theta": 123.0, "rope_scaling": None}
    raw["text_config"]["rope_parameters"]["rope_theta"] = 123.0
    model.extra["config.json"] = raw  # says another theta than the model has: to be rewritten
    families.save(model, tmp_path / "out")
    written = config_of(tmp_path / "out")
    assert written["some_future_key"] == {"a": [1]}
    assert written["text_config"]["also_unknown"] == 1
    assert families.load(tmp_path / "out").config == model.config


def test_the_written_type_follows_the_weights(model, tmp_path):
    model.module.to(torch.bfloat16)
    families.save(model, tmp_path / "out")
    assert config_of(tmp_path / "out")["dtype"] == "bfloat16"


def test_what_cannot_be_expressed_is_named_and_nothing_is_written(tmp_path):
    family = family_named("eyespot")
    made = loaded(family, family.tiny()["conv-stem"])
    before = list(tmp_path.iterdir())
    with pytest.raises(EyespotError) as caught:
        families.save(made, tmp_path / "out", layout="hf")
    assert caught.value.code == "layout-unsupported"
    assert "mlp3x_gelu" in caught.value.message or "stem" in caught.value.message
    assert list(tmp_path.iterdir()) == before


def test_tokens_added_without_rows_are_named_and_nothing_is_written(model, tmp_path):
    model.tokenizer.add_tokens([f"word{i}" for i in range(60)], special=False)
    with pytest.raises(EyespotError, match="'word59'.* 320 rows") as caught:
        families.save(model, tmp_path / "out")
    assert caught.value.code == "tokenizer-mismatch"
    assert not (tmp_path / "out").exists()


def test_a_stem_that_no_family_has_is_named(tmp_path):
    family = family_named("eyespot")
    config = family.tiny()["conv-stem"]
    config = config.replace(connector=config.connector.replace(kind="mlp2x_gelu"))
    with pytest.raises(EyespotError, match=r"vision\.stem: 'conv'"):
        families.save(loaded(family, config), tmp_path / "out", layout="hf")


@pytest.mark.parametrize(("change", "field"), [
    ({"normalize": False, "scale": 1 / 127.5}, None), ({"resize": "exact", "crop": True}, None),
    ({"tokens_per_image": 7}, "tokens_per_image"), ({"resize": "pad", "pad_color": (1, 2, 3)}, "pad_color"),
])  # fmt: skip
def test_a_contract_that_the_files_cannot_say_is_named(model, tmp_path, change, field):
    contract = model.contract.replace(image=model.contract.image.replace(**change))
    model.contract = contract
    if field is None:
        families.save(model, tmp_path / "out")
        assert families.load(tmp_path / "out").contract == contract
    else:
        with pytest.raises(EyespotError, match=field):
            families.save(model, tmp_path / "out")


def test_what_only_our_file_says_comes_back_too(model, tmp_path):
    image = model.contract.image.replace(alpha="drop", sixteen_bit="clip")
    model.contract = model.contract.replace(image=image, coordinates="thousand")
    families.save(model, tmp_path / "out")
    assert families.load(tmp_path / "out").contract == model.contract


def test_a_new_template_replaces_the_old_one_everywhere(model, tmp_path):
    model.tokenizer.config["chat_template"] = "old"
    model.contract = model.contract.replace(text=model.contract.text.replace(template="new {{ messages }}"))
    families.save(model, tmp_path / "out")
    assert families.load(tmp_path / "out").contract.text.template == "new {{ messages }}"
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_end_tokens_of_the_contract_are_written(model, tmp_path):
    model.contract = model.contract.replace(text=model.contract.text.replace(stop_tokens=(2, 3)))
    families.save(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    assert families.load(tmp_path / "out").contract.text.stop_tokens == (2, 3)


def test_a_file_in_the_way_is_refused(model, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(EyespotError, match="a file"):
        families.save(model, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_checkpoint_is_replaced_as_a_whole(model, tmp_path):
    families.save(model, tmp_path / "out", max_shard_bytes=20_000)
    families.save(model, tmp_path / "out")
    assert not list((tmp_path / "out").glob("model-*"))
    assert seal.check(tmp_path / "out")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_files_that_are_not_ours_are_left_alone_and_stale_ones_go(model, tmp_path):
    out = tmp_path / "out"
    families.save(model, out, max_shard_bytes=20_000)
    (out / "notes.txt").write_text("mine")
    (out / "logs").mkdir()
    (out / "LICENSE").write_text("sealed by hand, written by another")
    seal.seal(out)
    model.extra |= {"chat_template.json": {"chat_template": "unread"}}
    families.save(model, out)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "logs").is_dir() and (out / "LICENSE").is_file()
    assert not list(out.glob("model-*")) and not [p for p in out.iterdir() if p.name.startswith(".")]
    assert seal.check(out, verify=True)
    assert equal(families.load(out).module, model.module)
    assert families.load(out).contract == model.contract


def foreign(model, out):
    """As downloaded, with nothing of ours."""
    families.save(model, out)
    (out / "eyespot.json").unlink()


def sealed_by_hand(model, out):
    foreign(model, out)
    seal.seal(out)


def added_to(model, out):
    families.save(model, out)
    (out / "added_tokens.json").write_text("{}")


def sealed_by_nobody(model, out):
    families.save(model, out)
    (out / "eyespot.json").write_text("{")


def another_card(model, out):
    families.save(model, out)
    (out / "README.md").write_text("mine")


def stale_shard(model, out):
    out.mkdir()
    (out / "model-00001-of-00002.safetensors").write_bytes(b"mine")


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (foreign, "config.json"), (sealed_by_hand, "config.json"), (added_to, "added_tokens.json"),
        (sealed_by_nobody, "eyespot.json"), (another_card, "README.md"), (stale_shard, "model-00001-of-00002"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_a_save_did_not_write_is_refused_and_left_as_it_was(model, tmp_path, prepare, named):
    out = tmp_path / "out"
    prepare(model, out)
    before = content(out)
    with pytest.raises(EyespotError, match=named) as caught:
        families.save(model, out, card="# A card")
    assert (caught.value.code, caught.value.where) == ("checkpoint-exists", str(out))
    assert content(out) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.fixture
def renames(monkeypatch):
    """Calls a function before each rename with which a finished folder gets to its place."""

    def watch(before):
        put, replace, count = saving.put_in_place, Path.replace, itertools.count(1)

        def replacing(self, target):
            before(next(count))
            return replace(self, target)

        def putting(work, path):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", replacing)
                put(work, path)

        monkeypatch.setattr(saving, "put_in_place", putting)

    return watch


@pytest.mark.parametrize("notes", [False, True])
def test_whatever_rename_fails_the_old_checkpoint_stays_whole(model, tmp_path, renames, notes):
    out = tmp_path / "out"
    families.save(model, out, max_shard_bytes=20_000)
    if notes:
        (out / "notes.txt").write_text("mine")
    before = content(out)

    def fail(count):
        if count == fail.at:
            raise OSError("no more")

    fail.at = 0
    renames(fail)
    for fail.at in range(1, 30 if notes else 3):
        try:
            families.save(model, out)
        except OSError as error:
            assert str(error) == "no more"
        else:
            break
        assert content(out) == before
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert fail.at > (10 if notes else 1)


def test_a_save_killed_among_other_files_is_noticed_and_the_next_one_mends_it(model, tmp_path, renames):
    out, moments = tmp_path / "out", []
    families.save(model, out, max_shard_bytes=20_000)
    (out / "notes.txt").write_text("mine")
    watched = True

    def copy(count):
        if watched:  # not the saves that mend, or each would give new folders to mend
            moments.append(shutil.copytree(out, tmp_path / f"killed-{count}"))

    renames(copy)
    families.save(model, out, "eyespot")
    watched = False
    assert len(moments) > 10
    refused = 0
    for killed in moments:
        try:
            assert equal(families.load(killed).module, model.module)  # nothing done yet, or the last file is the same
        except EyespotError as error:
            assert error.code == "checkpoint-seal"
            refused += 1
        families.save(model, killed)
        assert (killed / "notes.txt").is_file() and equal(families.load(killed).module, model.module)
    assert refused > len(moments) - 4


def test_a_link_to_a_folder_stays_one(model, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    families.save(model, tmp_path / "out")
    families.save(model, tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert families.load(tmp_path / "disk").config == model.config
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "model", "out"]


def test_the_folder_that_one_works_in_can_be_saved_to(model, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    families.save(model, ".")
    families.save(model, ".")
    assert Path.cwd() == tmp_path / "here"
    assert families.load(".").config == model.config
    assert not [p for p in Path.cwd().iterdir() if p.name.startswith(".")]


def test_permissions_of_the_folder_are_kept(model, tmp_path):
    (tmp_path / "out").mkdir(mode=0o750)
    families.save(model, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_failed_save_leaves_the_old_checkpoint_whole(model, tmp_path, monkeypatch):
    families.save(model, tmp_path / "out")
    before = content(tmp_path / "out")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(saving.seal, "seal", broken)
    with pytest.raises(OSError, match="disk full"):
        families.save(model, tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_layout_that_a_model_does_not_have_names_those_it_has(tmp_path):
    made = text_model(tmp_path / "text")
    with pytest.raises(EyespotError, match="known: eyespot, hf, hf-base") as caught:
        families.save(made, tmp_path / "out", layout="original")
    assert caught.value.code == "layout-unsupported"


def test_a_loaded_base_model_keeps_its_layout(tmp_path):
    family = family_named("qwen2")
    families.save(loaded(family, family.tiny()["tied"], "hf-base"), tmp_path / "base")
    model = families.load(tmp_path / "base")
    assert model.layout == "hf-base"
    assert model.config.decoder.tie_word_embeddings
