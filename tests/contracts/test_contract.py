"""The contract: every field counts, and a difference is named."""

import dataclasses
import json
import typing

import pytest

from eyespot import families
from eyespot.contracts import contract
from eyespot.contracts.config import Config
from eyespot.contracts.contract import AspectTiling, Contract, FrameRule, ImageRule, TextRule, Tiling
from eyespot.errors import EyespotError
from tests.families.makers import family_named, loaded

RULE = ImageRule(
    size=(28, 28), resize="exact", crop=False, tiling=Tiling(((28, 56), (56, 28))), min_pixels=4, max_pixels=9,
    tokens_per_image=5, shortest_edge=28, tokens_per_second=2.0,
)  # fmt: skip
BY_ASPECT = RULE.replace(tiling=None, aspect_tiling=AspectTiling())
TEXT = TextRule(template="{{ messages }}", stop_tokens=(2,))
WHOLE = Contract(image=RULE, video=BY_ASPECT, text=TEXT, frames=FrameRule())


def changed(value, hint):
    """Another value of the same kind; None where the field may be None and holds something that cannot be changed."""
    options = typing.get_args(hint)
    if isinstance(value, bool):
        return not value
    if typing.get_origin(hint) is typing.Literal:
        return next(o for o in options if o != value)
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple) and value:
        return (*value[:-1], changed(value[-1], type(value[-1])))
    if isinstance(value, tuple):
        return (1,)
    kind = next(o for o in options if o is not type(None))
    made = {int: 3, float: 3.0, str: "x", Tiling: Tiling(((28, 28),))}
    return made[kind] if kind in made else kind()  # a nested rule comes into being


def leaves(config: Config, path: str = ""):
    """Each field that holds no config, nested ones too: its path, and the config with another value there."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, at = getattr(config, field.name), f"{path}{field.name}"
        if isinstance(value, Config):
            for inner, other in leaves(value, f"{at}."):
                yield inner, forced(config, field.name, other)
        else:
            yield at, forced(config, field.name, changed(value, hints[field.name]))


def forced(config: Config, name: str, value) -> Config:
    """A copy with one field changed, whether or not a picture could be prepared so."""
    copy = object.__new__(type(config))
    for field in dataclasses.fields(config):
        object.__setattr__(copy, field.name, value if field.name == name else getattr(config, field.name))
    return copy


LEAVES = dict(leaves(WHOLE))


@pytest.mark.parametrize("path", LEAVES)
def test_every_field_changes_the_id_and_is_named(path):
    other = LEAVES[path]
    assert other.id != WHOLE.id
    with pytest.raises(EyespotError) as caught:
        WHOLE.check_same(other)
    assert caught.value.code == "contract-mismatch"
    assert caught.value.message.startswith(f"{path}:")


def test_no_two_changes_have_the_same_id():
    assert len({c.id for c in LEAVES.values()}) == len(LEAVES)


def test_all_fields_are_walked():
    """A field that is added later is walked without a change here; a new kind of rule belongs into WHOLE."""
    kinds = {
        "": Contract, "image.": ImageRule, "video.": ImageRule, "text.": TextRule, "frames.": FrameRule,
        "image.tiling.": Tiling, "video.aspect_tiling.": AspectTiling,
    }  # fmt: skip
    for path, kind in kinds.items():
        for field in dataclasses.fields(kind):
            assert any(leaf == path + field.name or leaf.startswith(f"{path}{field.name}.") for leaf in LEAVES)
    rules = {kind for kind in vars(contract).values() if isinstance(kind, type) and issubclass(kind, Config)}
    assert rules - {Config} == set(kinds.values())


@pytest.fixture
def folder(tmp_path):
    """A saved checkpoint without its checksums, so that the contract is what speaks."""
    family = family_named("siglip")
    model = loaded(family, family.tiny()["vision-only"])
    model.contract = model.contract.replace(image=model.contract.image.replace(mean=(0.4, 0.5, 0.6)))
    families.save(model, tmp_path)
    record = json.loads((tmp_path / "eyespot.json").read_text())
    kept = {key: record[key] for key in ("contract", "contract_id")}
    (tmp_path / "eyespot.json").write_text(json.dumps(kept))
    return tmp_path


@pytest.mark.parametrize(("key", "value", "field"), [
    ("image_mean", [0.1, 0.5, 0.5], "image.mean"),
    ("resample", 2, "image.resample"),
    ("do_normalize", False, "image.normalize"),
    ("rescale_factor", 1 / 127.5, "image.scale"),
    ("size", {"height": 42, "width": 28}, "image.size"),
])  # fmt: skip
def test_files_that_say_other_than_the_sealed_contract_are_refused_by_field(folder, key, value, field):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(EyespotError) as caught:
        families.load(folder)
    assert caught.value.code == "contract-mismatch"
    assert caught.value.message.startswith(f"{field}:")
    assert str(folder) in caught.value.where
    (folder / "eyespot.json").unlink()  # the change is meant
    assert families.load(folder).family == "siglip"
