"""LLaVA-NeXT's files: layouts, and canvases that stand in two of them and must agree."""

import json

import numpy as np
import pytest

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.inputs.messages import read_messages
from tests.families.makers import equal, family_named, llava, loaded


@pytest.fixture
def model(tmp_path):
    llava(tmp_path / "model", name="llava_next")
    return families.load(tmp_path / "model")


def rewrite(folder, name, **changes):
    """Change a file and forget the seal."""
    (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))
    (folder / "eyespot.json").unlink(missing_ok=True)


def read(folder, name):
    return json.loads((folder / name).read_text())


def tiled(model, *canvases, **changes):
    """The same model with other canvases in its contract."""
    tiling = model.contract.image.tiling.replace(pinpoints=canvases, **changes)
    model.contract = model.contract.replace(image=model.contract.image.replace(tiling=tiling))
    return model


@pytest.mark.parametrize("layout", ["hf", "hf-a2", "hf-b", "hf-c"])
def test_all_four_layouts_are_recognised_by_their_keys_and_kept(tmp_path, layout):
    made = llava(tmp_path / "one", layout=layout, name="llava_next")
    model = families.load(tmp_path / "one")
    assert (model.family, model.layout) == ("llava_next", layout)
    assert equal(model.module, made.module)


def test_the_model_reads_a_picture_in_tiles(model, tmp_path):
    families.save(tiled(model, (28, 56), (56, 28)), tmp_path / "small")
    model = families.load(tmp_path / "small")
    picture = np.zeros((20, 50, 3), np.uint8)
    messages = read_messages(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}], [picture]
    )
    encoded = model.processor.encode(messages)
    assert len(encoded.media[0].slots) == 4 + 2 * (4 + 1)


def test_canvases_of_the_contract_are_written_to_both_files(model, tmp_path):
    families.save(tiled(model, (28, 56), (56, 84)), tmp_path / "out")
    wanted = [[28, 56], [56, 84]]
    assert read(tmp_path / "out", "config.json")["image_grid_pinpoints"] == wanted
    assert read(tmp_path / "out", "preprocessor_config.json")["image_grid_pinpoints"] == wanted
    assert families.load(tmp_path / "out").contract == model.contract


def test_the_authors_order_is_written_turned_round_and_read_back(model, tmp_path):
    families.save(tiled(model, (28, 56), (56, 84), order="width_height"), tmp_path / "out")
    assert read(tmp_path / "out", "config.json")["image_grid_pinpoints"] == [[56, 28], [84, 56]]
    again = families.load(tmp_path / "out")
    assert again.contract == model.contract
    families.save(again, tmp_path / "again")
    assert families.load(tmp_path / "again").contract == model.contract


def test_files_that_disagree_on_the_canvases_are_refused(model, tmp_path):
    rewrite(tmp_path / "model", "preprocessor_config.json", image_grid_pinpoints=[[28, 56]])
    with pytest.raises(EyespotError, match="image_grid_pinpoints") as caught:
        families.load(tmp_path / "model")
    assert caught.value.code == "family-config"


def test_tiles_of_another_size_than_the_towers_are_refused(model, tmp_path):
    rewrite(tmp_path / "model", "preprocessor_config.json", size={"shortest_edge": 14}, crop_size=14)
    with pytest.raises(EyespotError, match="crop_size") as caught:
        families.load(tmp_path / "model")
    assert caught.value.code == "family-config"


def test_tiles_cannot_be_taken_from_the_contract(model, tmp_path):
    model.contract = model.contract.replace(image=model.contract.image.replace(tiling=None))
    with pytest.raises(EyespotError, match="tiles") as caught:
        families.save(model, tmp_path / "out")
    assert caught.value.code == "layout-unsupported"
    assert not (tmp_path / "out").exists()


def test_it_goes_through_the_authors_layout_and_back(model, tmp_path):
    families.save(model, tmp_path / "original", layout="original")
    again = families.load(tmp_path / "original")
    assert (again.family, again.layout, again.contract) == ("llava", "original", model.contract)
    assert equal(again.module, model.module)
    families.save(again, tmp_path / "back", layout="hf")
    assert families.load(tmp_path / "back").contract == model.contract


def test_a_fresh_newline_is_drawn_and_on_the_meta_device_it_is_not():
    config = family_named("llava_next").tiny()["clip-llama"]
    assert families.build(config).image_newline.abs().max() > 0
    assert families.build(config, "meta").image_newline.is_meta
    assert "image_newline" not in families.build(config.replace(newline=False)).state_dict()


def test_a_model_without_tokenizer_or_files_is_written_with_the_published_canvases(tmp_path):
    family = family_named("llava_next")
    families.save(loaded(family, family.tiny()["siglip-qwen3"]), tmp_path)
    assert read(tmp_path, "config.json")["image_grid_pinpoints"][0] == [336, 672]
