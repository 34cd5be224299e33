"""The authors' own LLaVA layout: no tower inside, no image token, flat config."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.contracts.contract import Tiling
from eyespot.data.packing import pack
from eyespot.errors import EyespotError
from eyespot.families.family import Context
from eyespot.inputs.messages import read_messages
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


@pytest.mark.parametrize(("key", "value"), [
    ("image_aspect_ratio", "anyres"), ("image_aspect_ratio", "highres"), ("mm_patch_merge_type", "spatial"),
    ("mm_resampler_type", "spatial_pool"), ("mm_vision_select_layer", 99), ("mm_vision_select_layer", "-2"),
])  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(original, key, value):
    edit(original, **{key: value})
    with pytest.raises(EyespotError, match=key) as caught:
        families.load(original)
    assert caught.value.code == "family-config"


def test_a_head_that_the_config_asks_for_must_be_there(original):
    edit_tensors(original, **{"lm_head.weight": None})
    assert families.load(original).config.decoder.tie_word_embeddings
    edit(original, tie_word_embeddings=False)
    with pytest.raises(EyespotError, match="lm_head.weight") as caught:
        families.load(original)
    assert caught.value.code == "checkpoint-keys"


# -- LLaVA-NeXT and LLaVA-OneVision in the same layout -----------------------------------------------------------------

NEXT = {
    "image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad",
    "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]],
}  # fmt: skip


def edit_tensors(folder, **changes):
    """Tensors put in, or with None taken out."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "model.safetensors")


def made_next(folder, **changes):
    edit(folder, **{**NEXT, **changes})
    edit_tensors(folder, **{"model.image_newline": torch.randn(32)})
    return folder


def asked(*parts):
    made = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return read_messages([{"role": "user", "content": made}])


def test_next_is_read_with_tiles_whose_canvases_are_written_width_first(original):
    model = families.load(made_next(original))
    tiling = model.contract.image.tiling
    assert (model.family, model.layout, model.config.newline) == ("llava", "original", True)
    assert tiling == Tiling(tuple(map(tuple, NEXT["image_grid_pinpoints"])), "width_height")
    assert torch.equal(model.module.image_newline, load_file(original / "model.safetensors")["model.image_newline"])
    (medium,) = model.processor.encode(asked(np.zeros((20, 50, 3), np.uint8), "What?")).media
    assert (medium.plan.tile_rows, medium.plan.tile_cols) == (1, 2)
    # Equal for a wide and a tall canvas: theirs is the first, which is 28 wide.
    (small,) = model.processor.encode(asked(np.zeros((20, 20, 3), np.uint8), "What?")).media
    assert (small.plan.tile_rows, small.plan.tile_cols) == (2, 1)


@pytest.mark.parametrize("spelled", ["[(28, 56), (56, 28)]", "[[28,56],[56,28]]", "(1x2),(2x1)", "( 1x2 ) , (2x1)"])
def test_canvases_may_be_written_as_text(original, spelled):
    model = families.load(made_next(original, image_grid_pinpoints=spelled))
    assert model.contract.image.tiling.pinpoints == ((28, 56), (56, 28))


def test_a_range_of_tiles_is_every_pair_of_it(original, tmp_path):
    spelled = "(1x1),...,(2x3)"
    model = families.load(made_next(original, image_grid_pinpoints=spelled))
    assert model.contract.image.tiling.pinpoints == tuple((28 * a, 28 * b) for a in (1, 2) for b in (1, 2, 3))
    families.save(model, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["image_grid_pinpoints"] == spelled


@pytest.mark.parametrize("spelled", [None, "", "all", "(1x1),...,(99x99)", [[28, 30]], "[(28, 56, 3)]"])
def test_canvases_that_cannot_be_read_are_refused(original, spelled):
    made_next(original, image_grid_pinpoints=spelled)
    with pytest.raises(EyespotError, match="image_grid_pinpoints") as caught:
        families.load(original)
    assert caught.value.code == "family-config"


def test_next_becomes_hugging_faces_and_comes_back(original, tmp_path):
    model = families.load(made_next(original))
    families.save(model, tmp_path / "hf", layout="hf")
    again = families.load(tmp_path / "hf")
    assert (again.family, again.contract) == ("llava_next", model.contract)
    assert equal(again.module, model.module)
    raw = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert raw["image_grid_pinpoints"][:2] == [[56, 28], [28, 56]]
    families.save(again, tmp_path / "back", layout="original")
    back = families.load(tmp_path / "back")
    assert (back.layout, back.contract) == ("original", model.contract)
    assert equal(back.module, model.module)


def test_what_is_saved_in_the_layout_that_it_came_in_is_the_same_again(original, tmp_path):
    made_next(original)
    families.save(families.load(original), tmp_path / "again")
    first, second = (load_file(folder / "model.safetensors") for folder in (original, tmp_path / "again"))
    assert first.keys() == second.keys()
    tables = ("model.embed_tokens.weight", "lm_head.weight")  # whose spare rows the image token was given
    assert all(torch.equal(first[k], second[k]) for k in first if k not in tables)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (original, tmp_path / "again")]
    assert configs[0] == configs[1]


def test_unpadding_without_tiles_ends_each_picture_with_the_newline(original, tmp_path):
    model = families.load(made_next(original, image_aspect_ratio="pad"))
    assert model.contract.image.tiling is None and model.contract.image.newline == "once"
    media = model.processor.encode(asked(np.zeros((20, 50, 3), np.uint8), np.zeros((9, 9, 3), np.uint8), "What?")).media
    assert [len(m.slots) for m in media] == [5, 5]
    families.save(model, tmp_path / "again")
    assert families.load(tmp_path / "again").contract == model.contract
    with pytest.raises(EyespotError) as caught:
        families.save(model, tmp_path / "hf", layout="hf")
    assert caught.value.code == "layout-unsupported"


def test_a_newline_that_the_config_does_not_speak_of_is_a_stranger(original):
    made_next(original, image_aspect_ratio="pad", mm_patch_merge_type="flat")
    with pytest.raises(EyespotError, match="unexpected  image_newline") as caught:
        families.load(original)
    assert caught.value.code == "checkpoint-keys"


@pytest.fixture
def siglip(tmp_path):
    made = loaded(family_named("siglip"), family_named("siglip").tiny()["plain"])
    families.save(made, tmp_path / "siglip")
    return tmp_path / "siglip"


@pytest.fixture
def onevision(tmp_path, siglip):
    """As published: Qwen2 behind a SigLIP without last block and head, which the config does not describe."""
    folder, tower = tmp_path / "onevision", families.load(siglip).module.vision_encoder.config
    family, config = family_named("llava"), family_named("llava").tiny()["clip-qwen2"]
    cut = tower.replace(num_layers=tower.num_layers - 1, pool="none")
    connector = config.connector.replace(input_size=cut.hidden_size)
    decoder = config.decoder.replace(vocab_size=320)
    config = config.replace(decoder=decoder, vision=cut, connector=connector, select_layers=(-1,), newline=True)
    made = loaded(family, config, "original")
    tensors = family.layouts["original"].keymap(config).to_theirs(made.module.state_dict())
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    side = tower.image_size[0]
    raw = family.layouts["original"].config_to_hf(config, Context())
    raw |= {
        "model_type": "llava", "architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": str(siglip),
        "mm_vision_select_layer": -2, "image_aspect_ratio": "anyres_max_4", "mm_patch_merge_type": "spatial_unpad",
        "image_grid_pinpoints": [[side * a, side * b] for a in (1, 2, 3) for b in (1, 2, 3)],
        "mm_spatial_pool_mode": "bilinear", "mm_newline_position": "one_token", "eos_token_id": 2,
    }  # fmt: skip
    del raw["vision_config"]
    (folder / "config.json").write_text(json.dumps(raw))
    tokenizer(image=False).save(folder)
    return folder


def test_onevision_has_the_tower_that_it_holds_and_reads_its_last_block(onevision, siglip):
    model, whole = families.load(onevision), families.load(siglip).module.vision_encoder.config
    assert model.config.vision.num_layers == whole.num_layers - 1 and model.config.vision.pool == "none"
    assert model.config.select_layers == (-1,)
    assert model.config.decoder.qkv_bias
    contract = model.contract
    assert contract.image.tiling.shrink_to == 4 and contract.several.resize == "pad" and contract.video.pool == 2
    assert contract.text.image_token_id != contract.text.video_token_id


def test_onevision_without_its_tower_reads_before_the_last_block_of_the_whole_one(onevision, siglip):
    edit_tensors(onevision, **{k: None for k in load_file(onevision / "model.safetensors") if "vision_tower" in k})
    model = families.load(onevision)
    assert model.config.vision == families.load(siglip).module.vision_encoder.config.replace(projection_size=None)
    assert model.config.select_layers == (-2,)


def test_onevision_answers_about_pictures_and_videos_whatever_its_text_template(onevision):
    model = families.load(onevision)
    text = model.contract.text
    clip = {"type": "video", "video": np.zeros((3, 20, 30, 3), np.uint8), "fps": 2}
    content = [{"type": "image", "image": np.zeros((20, 50, 3), np.uint8)}, clip, {"type": "text", "text": "What?"}]
    encoded = model.processor.encode(read_messages([{"role": "user", "content": content}]))
    still, moving = encoded.media
    assert (encoded.input_ids[still.slots] == text.image_token_id).all()
    assert (encoded.input_ids[moving.slots] == text.video_token_id).all()
    batch = pack([encoded])
    assert model.module(batch).last.shape[0] == len(encoded.input_ids)


def test_onevision_becomes_hugging_faces_and_comes_back(onevision, tmp_path):
    model = families.load(onevision)
    families.save(model, tmp_path / "hf", layout="hf")
    again = families.load(tmp_path / "hf")
    assert (again.family, again.contract) == ("llava_onevision", model.contract)
    assert equal(again.module, model.module)
    families.save(again, tmp_path / "back", layout="original")
    back = families.load(tmp_path / "back")
    assert (back.layout, back.contract) == ("original", model.contract)
    assert equal(back.module, model.module)


def test_a_video_that_is_pooled_otherwise_is_not_taken(onevision):
    edit(onevision, mm_spatial_pool_mode="average")
    assert families.load(onevision).contract.video is None
