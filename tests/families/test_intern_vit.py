"""InternViT alone against what the authors' code gave: the pooled vector, and patches of the middle and the end."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

import eyespot
from tests.families.test_internvl_c import UNMOVED
from tests.goldens.authors import BAR, distance, drawn, picture

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "intern_vit.json").read_text("utf-8"))
CASES, SHOWN = GOLDEN["cases"], [picture(*size) for size in GOLDEN["sizes"]]


def load(folder: Path, name: str, **changes) -> eyespot.Model:
    case = CASES[name]
    (folder / "config.json").write_text(json.dumps(case["config"] | changes))
    save_file(drawn(case["shapes"], case, UNMOVED), folder / "model.safetensors")
    return eyespot.load(folder)


@pytest.mark.parametrize("name", CASES)
def test_vectors_and_patches_are_those_of_the_authors_code(name, tmp_path):
    model, case, draw = load(tmp_path, name), CASES[name], name.partition("-")[2]
    assert distance(model.encode_images(SHOWN), case["pooled"], "intern_vit", draw) <= BAR[draw]
    found = model.features(SHOWN, layers=(2, -1)).values
    for layer, key in zip(found, ("second", "last"), strict=True):
        assert distance(layer.flatten()[::29], case[key], "intern_vit", draw) <= BAR[draw]


def test_another_eps_is_seen(tmp_path):
    model = load(tmp_path, "300m-small", layer_norm_eps=1e-5)
    assert distance(model.encode_images(SHOWN), CASES["300m-small"]["pooled"]) > BAR["small"]


def test_without_a_processors_file_the_colours_are_imagenets(tmp_path):
    rule = load(tmp_path, "6b-plain").contract.image
    assert rule.mean == (0.485, 0.456, 0.406) and (rule.resize, rule.crop) == ("shortest_edge", True)
