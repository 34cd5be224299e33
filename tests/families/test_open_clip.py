"""open_clip and OpenAI: what is recognised from files, published sizes, and what is refused."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families import open_clip
from tests.families.makers import family_named, loaded

BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
TIMM = {"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 16}
PUBLISHED = {
    "ViT-B-32": (
        {"embed_dim": 512,
         "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
         "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}},
        "", 302, 151_277_313,
    ),
    "ViT-B-16-SigLIP": (
        {"embed_dim": 768, "init_logit_bias": -10, "custom_text": True,
         "vision_cfg": {"image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
                        "timm_proj": "none", "timm_model_kwargs": TIMM},
         "text_cfg": {"context_length": 64, "vocab_size": 32000, "width": 768, "heads": 12, "layers": 12,
                      "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}},
        "text.", None, 203_155_970,
    ),
    "BiomedCLIP": (
        {"embed_dim": 512,
         "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear",
                        "image_size": 224, "timm_model_kwargs": TIMM},
         "text_cfg": {"hf_model_name": "x/y", "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler",
                      "context_length": 256, "hf_model_config": BERT}},
        "text.", 351, 195_902_721,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_tensors_and_parameters(name):
    model, place, tensors, parameters = PUBLISHED[name]
    config = open_clip.config_from_hf({"model_type": "open_clip", "model_cfg": model}, (), {})
    module = families.build(config, "meta")
    theirs = open_clip.keymap(config, place).to_theirs(module.state_dict())
    assert tensors is None or len(theirs) == tensors
    assert sum(p.numel() for p in module.parameters()) == parameters


def checkpoint(folder, case: str = "clip", layout: str | None = None) -> families.Loaded:
    family = family_named("open_clip")
    made = loaded(family, family.tiny()[case], layout)
    families.save(made, folder)
    (folder / "eyespot.json").unlink()
    return made


def edit(folder, part: str, **changes) -> None:
    path = folder / "open_clip_config.json"
    raw = json.loads(path.read_text())
    raw["model_cfg"][part] |= changes
    path.write_text(json.dumps(raw))


def test_a_foreign_config_json_does_not_hide_what_is_there(tmp_path):
    made = checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_siglip_224"}))
    assert families.load(tmp_path).config == made.config


@pytest.mark.parametrize(
    ("case", "part", "changes", "message"),
    [
        ("clip", "vision_cfg", {"layers": [3, 4, 6, 3]}, "ResNet"),
        ("clip", "vision_cfg", {"ls_init_value": 0.1}, "ls_init_value"),
        ("clip", "text_cfg", {"embed_cls": True}, "embed_cls"),
        ("siglip", "vision_cfg", {"timm_model_name": "convnext_base"}, "convnext_base"),
        ("siglip", "vision_cfg", {"timm_pool": "avg"}, "timm_pool"),
        ("timm-bert", "text_cfg", {"hf_pooler_type": "max_pooler"}, "max_pooler"),
        ("clip", "vision_cfg", {"width": "wide"}, "width"),
        ("clip", "vision_cfg", {"mlp_ratio": "4"}, "mlp_ratio"),
        ("clip", "text_cfg", {"heads": 3}, "3 heads"),
        ("timm-bert", "text_cfg", {"context_length": "long"}, "context_length"),
    ],
    ids=["resnet", "layer scale", "class token", "convnext", "average", "max", "width", "ratio", "heads", "context"],
)  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path, case, part, changes, message):
    checkpoint(tmp_path, case, "open_clip-text" if case != "clip" else None)
    edit(tmp_path, part, **changes)
    with pytest.raises(EyespotError, match=message) as caught:
        families.load(tmp_path)
    assert caught.value.code == "family-config"
    assert str(tmp_path) in caught.value.where


def test_tensors_that_do_not_show_a_size_are_named(tmp_path):
    family = family_named("open_clip")
    made = checkpoint(tmp_path, "timm-bert", "open_clip-text")
    edit(tmp_path, "vision_cfg", timm_model_kwargs=None)
    tensors = family.layouts["open_clip-text"].keymap(made.config).to_theirs(made.module.state_dict())
    del tensors["visual.trunk.patch_embed.proj.weight"]
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(EyespotError, match="patch_embed") as caught:
        families.load(tmp_path)
    assert caught.value.code == "checkpoint-keys"


def test_a_torchscript_archive_is_refused_with_the_way_to_its_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:  # its parts, as far as they tell what it is
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"ViT-B-32/{name}", b"")
    with pytest.raises(EyespotError, match="TorchScript") as caught:
        families.load(tmp_path)
    assert caught.value.code == "checkpoint-corrupt"
    assert "state_dict()" in caught.value.remedy


def test_a_pickle_that_holds_more_than_tensors_is_never_run(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()

    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"visual.proj": Code()}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(EyespotError, match="not plain weights"):
        families.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_other_weights_still_lacks_its_config(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(EyespotError, match=r"no config\.json") as caught:
        families.load(tmp_path)
    assert caught.value.code == "checkpoint-missing"


def test_a_checkpoint_of_training_is_read(tmp_path):
    family = family_named("open_clip")
    made = checkpoint(tmp_path)
    tensors = family.layouts["open_clip"].keymap(made.config).to_theirs(made.module.state_dict())
    (tmp_path / "open_clip_model.safetensors").unlink()
    inside = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 3, "state_dict": inside}, tmp_path / "epoch_3.pt")
    again = families.load(tmp_path)
    assert again.config == made.config
    assert all(torch.equal(a, b) for a, b in zip(again.module.parameters(), made.module.parameters(), strict=True))


def test_towers_of_different_widths_are_not_written(tmp_path):
    family = family_named("open_clip")
    config = family.tiny()["timm-bert"]
    made = loaded(family, config.replace(vision=config.vision.replace(projection_size=6)))
    with pytest.raises(EyespotError, match="6 and 8"):
        families.save(made, tmp_path)
