"""Checkpoints of `transformers`: we read the same tensors, they read what we write, no key is missing or left over."""

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

import eyespot
from eyespot import families
from tests.parity.grid_references import qwen2_5_vl, qwen2_vl
from tests.parity.references import (
    contrastive,
    llava,
    llava_next,
    llava_processor,
    text_config,
    tokenizer,
    vision_config,
)

pytestmark = pytest.mark.parity

TEXTS = ("llama", "mistral", "qwen2", "qwen3")
EXPORTS = {
    "llava": hf.LlavaForConditionalGeneration, "llava_next": hf.LlavaNextForConditionalGeneration,
    "clip": hf.CLIPModel, "siglip": hf.SiglipModel,
    "qwen2_vl": hf.Qwen2VLForConditionalGeneration, "qwen2_5_vl": hf.Qwen2_5_VLForConditionalGeneration,
    **dict.fromkeys(TEXTS, hf.AutoModelForCausalLM),
}  # fmt: skip


def text_model(kind: str, **changes):
    return hf.AutoModelForCausalLM.from_config(text_config(kind, **changes))


WINDOW = dict(use_sliding_window=True, sliding_window=5, max_window_layers=1)
SOURCES = {
    **{f"llava-{kind}": lambda kind=kind: llava(kind, "wide") for kind in TEXTS},
    "llava-siglip": lambda: llava("qwen2", "wide", "siglip"),
    "llava-tied": lambda: llava("qwen2", "wide", text_config=text_config("qwen2", tie_word_embeddings=True).to_dict()),
    "llava-taps": lambda: llava("llama", "wide", vision_feature_layer=[-2, -3], multimodal_projector_bias=False),
    **{f"llava_next-{kind}": lambda kind=kind: llava_next(kind, "wide") for kind in TEXTS},
    "llava_next-siglip": lambda: llava_next("qwen2", "wide", "siglip"),
    "llava_next-taps": lambda: llava_next("llama", "wide", vision_feature_layer=[-2, -3]),
    "llava_next-tied": lambda: llava_next(
        "llama", "wide", text_config=text_config("llama", tie_word_embeddings=True).to_dict(), tie_word_embeddings=True
    ),
    "clip": lambda: contrastive("clip", "wide"),
    "clip-legacy-eos": lambda: contrastive("clip", "wide", legacy_eos=True),
    "siglip": lambda: contrastive("siglip", "wide"),
    **{kind: lambda kind=kind: text_model(kind) for kind in TEXTS},
    "llama-biased": lambda: text_model("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama-rope": lambda: text_model("llama", rope_theta=None, rope_parameters={
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }),
    "mistral-no-window": lambda: text_model("mistral", sliding_window=None),
    "qwen2-window": lambda: text_model("qwen2", **WINDOW),
    "qwen2_vl": lambda: qwen2_vl("wide"),
    "qwen2_vl-tied": lambda: qwen2_vl("wide", tie_word_embeddings=True),
    "qwen2_vl-window": lambda: qwen2_vl("wide", text=WINDOW),
    "qwen2_5_vl": lambda: qwen2_5_vl("wide"),
    "qwen2_5_vl-tied": lambda: qwen2_5_vl("wide", tie_word_embeddings=True, vision={"window_size": 112}),
    "qwen3-tied": lambda: text_model("qwen3", tie_word_embeddings=True, attention_bias=True),
}  # fmt: skip


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    reference = SOURCES[request.param]()
    reference.save_pretrained(tmp_path / "theirs")
    return reference, tmp_path / "theirs", request.param


def check_export(folder, kind, reference):
    """They load it: nothing missing, nothing over, every bit the same."""
    again, info = EXPORTS[kind].from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs, ours = reference.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    return again


def test_what_they_save_is_read_and_saved_again_as_it_was(source, tmp_path):
    reference, folder, name = source
    model = families.load(folder)
    families.save(model, tmp_path / "ours")
    theirs, ours = load_file(folder / "model.safetensors"), load_file(tmp_path / "ours" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    configs = [json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "ours")]
    assert configs[0] == configs[1]
    check_export(tmp_path / "ours", name.split("-")[0], reference)


def test_a_config_written_anew_means_the_same_to_them(source, tmp_path):
    reference, folder, name = source
    model = families.load(folder)
    families.save(model, tmp_path / "own", layout="eyespot")
    families.save(families.load(tmp_path / "own"), tmp_path / "fresh", layout="hf")
    again = check_export(tmp_path / "fresh", name.split("-")[0], reference)
    for part in ("text_config", "vision_config", None):
        theirs, ours = (c if part is None else getattr(c, part, None) for c in (reference.config, again.config))
        if theirs is None:
            continue
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                    "rms_norm_eps", "layer_norm_eps", "hidden_act", "sliding_window", "layer_types", "attention_bias",
                    "mlp_bias", "tie_word_embeddings", "vision_use_head", "projection_dim", "vision_feature_layer",
                    "vision_feature_select_strategy", "image_token_index", "image_grid_pinpoints",
                    "max_position_embeddings"):  # fmt: skip
            if part == "vision_config" and key == "projection_dim":
                continue  # of the tower alone; a LLaVA has none
            if key == "sliding_window" and not getattr(theirs, "use_sliding_window", True):
                continue
            if hasattr(theirs, key) and hasattr(ours, key):
                assert getattr(ours, key) == getattr(theirs, key), (part, key)
        for key in ("depth", "embed_dim", "mlp_ratio", "num_heads", "spatial_merge_size", "temporal_patch_size",
                    "patch_size", "window_size", "fullatt_block_indexes", "out_hidden_size", "tokens_per_second",
                    "intermediate_size"):  # fmt: skip
            assert getattr(ours, key, None) == getattr(theirs, key, None), (part, key)
        rope = getattr(theirs, "rope_parameters", None)
        if rope:
            assert ours.rope_parameters == rope


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("wrapper", ["", "vision_model."])
def test_an_image_tower_alone_is_read_whatever_its_wrapper(tmp_path, kind, wrapper):
    from safetensors.torch import save_file

    classes = {"clip": hf.CLIPVisionModel, "siglip": hf.SiglipVisionModel}
    reference = classes[kind](vision_config(kind))
    reference.save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "model.safetensors"
    save_file({f"{wrapper}{k}": v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    families.save(families.load(tmp_path / "theirs"), tmp_path / "ours")
    again, info = classes[kind].from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in reference.state_dict().items())


def test_the_projected_image_tower_is_read(tmp_path):
    reference = hf.CLIPVisionModelWithProjection(vision_config("clip"))
    reference.save_pretrained(tmp_path / "theirs")
    families.save(families.load(tmp_path / "theirs"), tmp_path / "ours")
    again, info = hf.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in reference.state_dict().items())


@pytest.mark.parametrize("pad", [False, True])
def test_processor_files_written_anew_mean_the_same_to_them(tmp_path, pad):
    llava("llama", "wide").save_pretrained(tmp_path / "theirs")
    theirs = llava_processor(tmp_path / "theirs", pad=pad)
    model = families.load(tmp_path / "theirs")
    families.save(model, tmp_path / "own", layout="eyespot")
    families.save(families.load(tmp_path / "own"), tmp_path / "ours", layout="hf")
    ours = hf.AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert type(ours.image_processor) is type(theirs.image_processor)
    old, new = theirs.image_processor.to_dict(), ours.image_processor.to_dict()
    keys = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_resize", "do_center_crop",
            "do_rescale", "do_normalize", "do_pad", "do_convert_rgb")  # fmt: skip
    assert {k: new.get(k) for k in keys if k in old} == {k: old[k] for k in keys if k in old}
    for name in (
        "patch_size",
        "vision_feature_select_strategy",
        "num_additional_image_tokens",
        "chat_template",
        "image_token",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    text = "What is in the picture? <image>"
    assert ours.tokenizer(text).input_ids == theirs.tokenizer(text).input_ids


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_a_model_composed_from_their_parts_is_a_llava_to_them(tmp_path, kind, vision):
    contrastive(vision, "wide").save_pretrained(tmp_path / "vision")
    text_model(kind).save_pretrained(tmp_path / "text")
    tokenizer(tmp_path / "text", bos=False, template=None)
    model = families.compose(tmp_path / "vision", tmp_path / "text")
    families.save(model, tmp_path / "out")
    again, info = hf.LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.image_token_index == model.contract.text.image_token_id
    assert torch.equal(
        again.state_dict()["model.multi_modal_projector.linear_2.weight"], model.module.connector.layers[1].weight
    )
    assert eyespot.load(tmp_path / "out").contract == model.contract
