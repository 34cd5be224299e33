"""The authors' own LLaVA layout: no tower inside, no image token, flat config."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.inputs.templates import VICUNA
from tests.families.makers import equal, family_named, llava, loaded, tokenizer


@pytest.fixture
def tower(tmp_path):
    """A published CLIP beside it: both towers, another draw than the model's own."""
    family = family_named("clip")
    made = loaded(family, family.tiny()["plain"])
    families.save(made, tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def original(tmp_path, tower):
    """What the authors' training leaves: decoder and projector in one folder, the tower only named."""
    folder, made = tmp_path / "original", llava(tmp_path / "hf")
    theirs = family_named("llava").layouts["original"]
    config = made.config.replace(decoder=made.config.decoder.replace(vocab_size=300))
    tensors = {
        k: v for k, v in theirs.keymap(config).to_theirs(made.module.state_dict()).items() if "vision_tower" not in k
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:300].contiguous()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    decoder = config.decoder
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "hidden_size": decoder.hidden_size,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 300, "max_position_embeddings": 512, "rms_norm_eps": decoder.rms_norm_eps, "eos_token_id": 2,
        "mm_vision_tower": str(tower), "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 16,
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "image_aspect_ratio": "pad",
        "mm_use_im_start_end": False, "freeze_it": True,
    }))  # fmt: skip
    tokenizer(image=False).save(folder)
    return folder


def edit(folder, **changes):
    path = folder / "config.json"
    raw = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))


def test_the_named_tower_is_fetched_and_its_projection_left_behind(original, tower):
    model = families.load(original)
    assert (model.family, model.layout) == ("llava", "original")
    theirs = families.load(tower).module.vision_encoder.state_dict()
    ours = model.module.vision_encoder.state_dict()
    assert "projection.weight" in theirs and "projection.weight" not in ours
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_the_contract_pads_has_vicunas_template_and_an_image_token(original):
    contract = families.load(original).contract
    assert contract.image.resize == "pad"
    assert contract.text.template == VICUNA
    assert contract.text.image_token == "<image>"
    assert contract.text.stop_tokens == (2,)


def test_the_image_token_gets_a_row_with_the_mean_and_the_table_a_round_size(original):
    model = families.load(original)
    table, old = (
        model.module.decoder.embed_tokens.weight,
        load_file(original / "model.safetensors")["model.embed_tokens.weight"],
    )
    token, used = model.contract.text.image_token_id, model.tokenizer.vocab_size - 1
    assert token == used
    assert torch.equal(table[:used], old[:used])
    assert torch.allclose(table[token], old[:used].mean(0), atol=1e-6)


def test_a_table_without_room_grows_to_a_multiple_of_64_and_goes_back(original, tmp_path):
    size = families.load(original).tokenizer.vocab_size - 1
    tensors = load_file(original / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:size].contiguous()
    save_file(tensors, original / "model.safetensors")
    edit(original, vocab_size=size)
    model = families.load(original)
    assert model.config.decoder.vocab_size == model.module.lm_head.weight.shape[0] == -(-(size + 1) // 64) * 64
    families.save(model, tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[k], tensors[k]) for k in tensors)
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == json.loads(
        (original / "config.json").read_text()
    )


def test_an_untouched_tower_is_named_again_and_a_trained_one_is_written(original, tmp_path):
    model = families.load(original)
    families.save(model, tmp_path / "same")
    assert not any("vision_tower" in name for name in load_file(tmp_path / "same" / "model.safetensors"))
    with torch.no_grad():
        model.module.vision_encoder.class_embedding += 1
    families.save(model, tmp_path / "trained")
    assert any("vision_tower" in name for name in load_file(tmp_path / "trained" / "model.safetensors"))
    assert equal(families.load(tmp_path / "trained").module, model.module)


def test_a_tower_inside_wins_over_the_named_one(original, tmp_path, tower):
    tensors = load_file(original / "model.safetensors")
    inside = {
        f"model.vision_tower.vision_tower.{k}": v + 1
        for k, v in load_file(tower / "model.safetensors").items()
        if k.startswith("vision_model.")
    }
    save_file(tensors | inside, original / "model.safetensors")
    model, other = families.load(original), families.load(tower)
    assert torch.equal(model.module.vision_encoder.class_embedding, other.module.vision_encoder.class_embedding + 1)


@pytest.mark.parametrize("name", [..., "", "/no/such/tower"])
def test_without_a_tower_the_remedy_is_named(original, name):
    edit(original, mm_vision_tower=name)
    with pytest.raises(EyespotError) as caught:
        families.load(original)
    assert caught.value.code == "checkpoint-missing"
    assert "vision_encoder" in caught.value.message
    assert "parts=" in caught.value.remedy


def test_a_tower_can_be_given(original, tower):
    edit(original, mm_vision_tower="/no/such/tower")
    assert families.load(original, parts={"vision_encoder": tower}).module.vision_encoder is not None


def test_an_adapter_alone_takes_its_decoder_from_elsewhere(original, tmp_path):
    tensors = load_file(original / "model.safetensors")
    adapter, decoder = tmp_path / "adapter", tmp_path / "decoder"
    adapter.mkdir()
    torch.save({k: v for k, v in tensors.items() if "mm_projector" in k}, adapter / "mm_projector.bin")
    (adapter / "config.json").write_text((original / "config.json").read_text())
    families.save(families.load(original), tmp_path / "whole", layout="hf")
    with pytest.raises(EyespotError, match="no decoder") as caught:
        families.load(adapter)
    assert "parts=" in caught.value.remedy
    model = families.load(adapter, parts={"decoder": tmp_path / "whole"})
    assert equal(model.module.connector, families.load(original).module.connector)
    assert equal(model.module.decoder, families.load(tmp_path / "whole").module.decoder)
    assert not decoder.exists()


def test_llava_10s_single_map_is_read_and_cannot_become_hugging_faces(original, tmp_path):
    tensors = load_file(original / "model.safetensors")
    single = {k.replace("mm_projector.0.", "mm_projector."): v for k, v in tensors.items() if "mm_projector.2" not in k}
    save_file(single, original / "model.safetensors")
    edit(original, mm_projector_type=..., mm_use_im_start_end=True)
    model = families.load(original)
    assert model.config.connector.kind == "linear"
    assert "<im_start><image><im_end>" in model.contract.text.template
    with pytest.raises(EyespotError, match="linear") as caught:
        families.save(model, tmp_path / "out", layout="hf")
    assert caught.value.code == "layout-unsupported"
    assert not (tmp_path / "out").exists()
    families.save(model, tmp_path / "own", layout="eyespot")
    assert equal(families.load(tmp_path / "own").module, model.module)


def test_it_becomes_hugging_faces_and_keeps_everything(original, tmp_path):
    model = families.load(original)
    families.save(model, tmp_path / "hf", layout="hf")
    again = families.load(tmp_path / "hf")
    assert again.layout == "hf"
    assert equal(again.module, model.module)
    assert again.contract == model.contract
    raw = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert raw["image_token_index"] == model.contract.text.image_token_id
    assert raw["architectures"] == ["LlavaForConditionalGeneration"]


def test_hugging_faces_becomes_the_authors_with_the_tower_inside(tmp_path):
    made = llava(tmp_path / "hf")
    families.save(families.load(tmp_path / "hf"), tmp_path / "original", layout="original")
    again = families.load(tmp_path / "original")
    assert again.layout == "original"
    assert equal(again.module, made.module)
    assert again.contract == made.contract


@pytest.mark.parametrize(("key", "value"), [("image_aspect_ratio", "anyres"), ("mm_patch_merge_type", "spatial_unpad")])
def test_llava_16_is_refused_by_name(original, key, value):
    edit(original, **{key: value})
    with pytest.raises(EyespotError, match=key) as caught:
        families.load(original)
    assert caught.value.code == "family-config"
