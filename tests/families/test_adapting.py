"""Adapters of every family in PEFT's format: written, read back onto the base, merged; else refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.nn.adapters import LoraConfig, adapters, attach, merge
from tests.families.makers import CASES, equal, family_named, llava, loaded, text_model

BARE = {"open_clip"}  # q, k and v are one bare parameter there, and PEFT knows layers only
FIRST = list({f.name: (f, name) for f, name in reversed(CASES)}.values())
BLOCKS = LoraConfig(rank=2, alpha=3, modules=r"(layers|blocks)\.\d+\.")  # what is no stem, no pool and no head


def trained(made: families.Loaded, config: LoraConfig = BLOCKS) -> families.Loaded:
    """With adapters that do something."""
    generator = torch.Generator().manual_seed(3)
    for layer in attach(made.module, config).values():
        layer.lora_B.data = torch.randn(layer.lora_B.shape, generator=generator)
    return made


def difference(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """The largest between two merged modules of the same names."""
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    return max(float((ours[k] - theirs[k]).abs().max()) for k in ours)


@pytest.mark.parametrize(("family", "case"), FIRST, ids=[f.name for f, _ in FIRST])
def test_an_adapter_goes_out_and_comes_back_onto_its_base_in_every_family(family, case, tmp_path):
    families.save(loaded(family, family.tiny()[case]), tmp_path / "base")
    made = trained(families.load(tmp_path / "base"))
    if family.name in BARE:
        with pytest.raises(EyespotError, match="adapter-format.*in_proj_weight"):
            families.save_adapter(made, tmp_path / "adapter")
        assert not (tmp_path / "adapter").exists()
        return
    families.save_adapter(made, tmp_path / "adapter")
    again = families.load(tmp_path / "base", adapter=tmp_path / "adapter", verify=True)
    assert adapters(again.module).keys() == adapters(made.module).keys()
    named = families.load(tmp_path / "adapter")  # names its base
    names = merge(made.module)
    assert len(names) > 4
    assert merge(again.module) == merge(named.module) == names
    assert difference(again.module, made.module) <= 1e-5
    assert equal(named.module, again.module)


def test_our_own_layout_keeps_adapters_beside_the_model_bit_by_bit(tmp_path):
    made = trained(llava(tmp_path / "base"), BLOCKS.replace(dropout=0.25, rslora=True))
    families.save(made, tmp_path / "own", layout="eyespot")
    again = families.load(tmp_path / "own", verify=True)
    assert equal(again.module, made.module)
    for name, layer in adapters(again.module).items():
        assert layer.config.replace(modules=BLOCKS.modules) == adapters(made.module)[name].config
    with pytest.raises(EyespotError) as caught:
        families.save(made, tmp_path / "hf", layout="hf")
    assert caught.value.code == "layout-unsupported" and "adapter" in str(caught.value)
    assert not (tmp_path / "hf").exists()


def test_an_adapter_under_hugging_faces_names_goes_onto_the_model_in_our_layout(tmp_path):
    made = llava(tmp_path / "base")
    families.save(made, tmp_path / "own", layout="eyespot")
    families.save_adapter(trained(made), tmp_path / "adapter")
    again = families.load(tmp_path / "own", adapter=tmp_path / "adapter")
    assert adapters(again.module).keys() == adapters(made.module).keys()


def layers_of(folder) -> set[str]:
    return {name.removeprefix("base_model.model.").split(".lora_")[0] for name in tensors(folder)}


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def test_the_files_name_layers_as_transformers_has_them_in_memory(tmp_path):
    made = trained(llava(tmp_path / "base"), LoraConfig(rank=2, modules=r"^decoder\..*q_proj"))
    families.save_adapter(made, tmp_path / "adapter")
    expected = {f"model.language_model.layers.{i}.self_attn.q_proj" for i in range(2)}
    assert layers_of(tmp_path / "adapter") == expected
    raw = config(tmp_path / "adapter")
    assert raw["target_modules"] == sorted(expected)  # "q_proj" would mean the tower's as well
    assert (raw["peft_type"], raw["r"], raw["lora_alpha"]) == ("LORA", 2, 16)
    families.save_adapter(made, tmp_path / "classic", layout="hf")
    assert "language_model.model.layers.0.self_attn.q_proj" in layers_of(tmp_path / "classic")


def test_the_last_words_are_enough_where_they_mean_no_other_layer(tmp_path):
    families.save_adapter(trained(text_model(tmp_path / "base")), tmp_path / "adapter")
    words = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config(tmp_path / "adapter")["target_modules"] == words


def test_a_layer_that_the_layout_fuses_gets_one_adapter_of_the_same_effect(tmp_path):
    family = family_named("qwen2_vl")
    families.save(loaded(family, next(iter(family.tiny().values()))), tmp_path / "base")
    made = trained(families.load(tmp_path / "base"), LoraConfig(rank=2, modules=r"blocks\..*(q|v)_proj"))
    families.save_adapter(made, tmp_path / "adapter")
    own = tensors(tmp_path / "adapter")["base_model.model.model.visual.blocks.0.attn.qkv.lora_B.weight"]
    size = made.config.vision.hidden_size
    assert own.shape == (3 * size, 4)
    assert not own[size : 2 * size].any()  # k has none
    # What came in with a common A, as PEFT trains it, goes out with it.
    again = families.load(tmp_path / "base", adapter=tmp_path / "adapter")
    families.save_adapter(again, tmp_path / "again")
    assert tensors(tmp_path / "again").keys() == tensors(tmp_path / "adapter").keys()
    assert all(torch.equal(t, tensors(tmp_path / "again")[n]) for n, t in tensors(tmp_path / "adapter").items())


def test_a_convolution_is_no_linear_layer_for_them(tmp_path):
    made = trained(llava(tmp_path / "base"), LoraConfig(modules="stem"))
    with pytest.raises(EyespotError) as caught:
        families.save_adapter(made, tmp_path / "adapter")
    assert caught.value.code == "adapter-format" and "stem.proj" in str(caught.value)
    assert not (tmp_path / "adapter").exists()


def test_ranks_and_scales_of_single_layers(tmp_path):
    made = text_model(tmp_path / "base")
    trained(made, LoraConfig(rank=2, alpha=4, modules="q_proj"))
    layer = adapters(made.module)["decoder.layers.1.attn.q_proj"]
    layer.config = layer.config.replace(rank=1, alpha=7.5)
    layer.lora_A.data, layer.lora_B.data = layer.lora_A.data[:1], layer.lora_B.data[:, :1]
    families.save_adapter(made, tmp_path / "adapter")
    again = adapters(families.load(tmp_path / "base", adapter=tmp_path / "adapter").module)
    found = {n: (x.config.rank, x.config.alpha, x.config.scale) for n, x in again.items()}
    assert found == {
        "decoder.layers.0.attn.q_proj": (2, 4, 2),
        "decoder.layers.1.attn.q_proj": (1, 7.5, 7.5),
    }


@pytest.fixture
def base(tmp_path):
    """A text model on the disk, and an adapter for it that tests may spoil."""
    made = trained(text_model(tmp_path / "base"))
    families.save_adapter(made, tmp_path / "adapter")
    (tmp_path / "adapter" / "eyespot.json").unlink()
    return tmp_path


def refused(code: str, *words: str, **where) -> None:
    with pytest.raises(EyespotError) as caught:
        families.load(**where)
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)


def edit(folder, **changes) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(config(folder) | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"}, {"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa_niter_4"}, {"fan_in_fan_out": True}, {"target_parameters": ["x"]},
        {"rank_pattern": {"(a+)+b": 3}}, {"alpha_pattern": ["x"]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_would_compute_something_else_is_refused_by_its_key(base, change):
    edit(base / "adapter", **change)
    refused("adapter-format", next(iter(change)), path_or_id=base / "base", adapter=base / "adapter")


@pytest.mark.parametrize("fault", ["half", "stranger", "rank", "absent", "integer", "size"])
def test_a_spoilt_adapter_is_refused_by_its_tensor(base, fault):
    own = tensors(base / "adapter")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    if fault == "half":
        del own[name]
    elif fault == "stranger":
        own["base_model.model.lm_head.weight"] = torch.zeros(2, 2)
    elif fault == "rank":
        edit(base / "adapter", r=5)
    elif fault == "absent":
        own = {n.replace("layers.0", "layers.9"): t for n, t in own.items()}
    elif fault == "integer":
        own[name] = own[name].to(torch.int8)
    else:
        own[name] = torch.zeros(2, 5)
    save_file(own, base / "adapter" / "adapter_model.safetensors")
    code = "adapter-mismatch" if fault in ("absent", "size") else "adapter-format"
    refused(code, str(base / "adapter"), path_or_id=base / "base", adapter=base / "adapter")


def test_an_adapter_of_pickled_tensors_is_read_without_running_it(base):
    file = base / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    assert adapters(families.load(base / "base", adapter=base / "adapter").module)
    file.with_suffix(".bin").unlink()
    refused("checkpoint-missing", path_or_id=base / "base", adapter=base / "adapter")
    refused("checkpoint-missing", "adapter_config.json", path_or_id=base / "base", adapter=base / "base")


def test_an_adapter_alone_needs_a_base_that_is_there(base):
    edit(base / "adapter", base_model_name_or_path=None)
    refused("checkpoint-missing", "adapter=PATH", path_or_id=base / "adapter")
    edit(base / "adapter", base_model_name_or_path=str(base / "gone"))
    refused("checkpoint-missing", "gone", "adapter=PATH", path_or_id=base / "adapter")


def test_an_adapter_for_input_prepared_otherwise_is_refused_by_the_field(tmp_path):
    made = trained(llava(tmp_path / "base"))
    made.contract = made.contract.replace(image=made.contract.image.replace(resample="nearest"))
    families.save_adapter(made, tmp_path / "adapter")
    refused("contract-mismatch", "resample", path_or_id=tmp_path / "base", adapter=tmp_path / "adapter")


def test_a_damaged_adapter_is_refused_by_its_seal(tmp_path):
    families.save_adapter(trained(text_model(tmp_path / "base")), tmp_path / "adapter")
    edit(tmp_path / "adapter", lora_alpha=1000)
    refused("checkpoint-seal", path_or_id=tmp_path / "base", adapter=tmp_path / "adapter")


def test_a_model_without_adapters_has_none_to_write(tmp_path):
    with pytest.raises(EyespotError) as caught:
        families.save_adapter(text_model(tmp_path / "base"), tmp_path / "adapter")
    assert caught.value.code == "adapter-format"
