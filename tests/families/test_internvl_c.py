"""InternVL-C and -G against what the authors' two codes gave: vectors of pictures and texts, logits; their files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import eyespot
from eyespot import families
from eyespot.errors import EyespotError
from eyespot.inputs.contrastive import text_ids
from eyespot.inputs.tokenizer import words
from eyespot.models.encoders.decoder_text import QueriesConfig
from tests.families.makers import SPECIALS, equal, family_named
from tests.goldens.authors import BAR, distance, drawn, picture

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "internvl_c.json").read_text("utf-8"))
CASES, IDS = GOLDEN["cases"], torch.tensor(GOLDEN["ids"])
WHOLE = [name for name in CASES if name.startswith("hf")]
UNMOVED = ("embed", "query_tokens", "qkv", "q_proj", "k_proj", "attn.q.", "attn.k.")  # by the draws' gain


def pictures() -> list[np.ndarray]:
    return [picture(*size) for size in GOLDEN["sizes"]]


def checkpoint(folder: Path, name: str) -> Path:
    """A case's folder as it is published: with a config, or a lone .pth."""
    case = CASES[name]
    folder.mkdir()
    if name in WHOLE:
        config = family_named("internvl_c").config_from_hf(case["config"], (), {})
        keymap = family_named("internvl_c").layouts["hf"].keymap(config)
        meta = families.build(config, "meta").state_dict()
        shapes = keymap.to_theirs({k: torch.empty(v.shape) for k, v in meta.items()})
        assert len(shapes) == case["tensors"]
        (folder / "config.json").write_text(json.dumps(case["config"]))
        save_file(drawn({k: list(v.shape) for k, v in shapes.items()}, case, UNMOVED), folder / "model.safetensors")
    else:
        torch.save(drawn(case["shapes"], case, UNMOVED), folder / "internvl_c_13b_224px.pth")
    return folder


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_vectors_and_logits_are_those_of_the_authors_code(name, tmp_path):
    model, case = eyespot.load(checkpoint(tmp_path / "theirs", name)), CASES[name]
    draw = name.rpartition("-")[2]
    images, texts = model.encode_images(pictures()), model.module.encode_texts(IDS)
    assert distance(images, case["images"], "internvl_c", draw) <= BAR[draw]
    assert distance(texts, case["texts"], "internvl_c", draw) <= BAR[draw]
    assert distance(model.module.similarity(images, texts), case["logits"], "internvl_c", draw) <= BAR[draw]
    if name in WHOLE:
        queried = model.encode_images(pictures(), queried=True)
        assert distance(queried, case["queried"], "internvl_c", draw) <= BAR[draw]
        assert (
            distance(model.module.similarity(queried, texts), case["queried_logits"], "internvl_c", draw) <= BAR[draw]
        )
        assert distance(images, case["queried"]) > 1e-2, "the golden does not tell the two apart"


@pytest.mark.parametrize("plant", ["mean of places without the first", "padding is read", "queries see no picture"])
@torch.no_grad()
def test_the_golden_sees_a_planted_fault(plant, tmp_path, monkeypatch):
    model, case = eyespot.load(checkpoint(tmp_path / "theirs", "hf-plain")), CASES["hf-plain"]
    if plant.startswith("mean"):
        pool = model.module.vision_encoder.pool
        own = pool.forward

        def cut(x, lengths):
            parts = [part[1:] for part in x.split(lengths)]
            return own(torch.cat(parts), tuple(map(len, parts)))

        monkeypatch.setattr(pool, "forward", cut)
        assert distance(model.encode_images(pictures()), case["images"]) > 10 * BAR["plain"]
    elif plant.startswith("padding"):
        text = model.module.text_encoder
        monkeypatch.setattr(text, "config", text.config.replace(pad_token_id=-1))
        assert distance(model.module.encode_texts(IDS), case["texts"]) > 10 * BAR["plain"]
    else:
        for look in model.module.queries.looks.values():
            look.o_proj.weight.zero_()
        assert distance(model.encode_images(pictures(), queried=True), case["queried"]) > 10 * BAR["plain"]


@pytest.mark.parametrize("name", ["hf-plain", "first-plain"])
def test_what_is_saved_again_holds_the_same_tensors(name, tmp_path):
    model = families.load(checkpoint(tmp_path / "theirs", name))
    families.save(model, tmp_path / "ours")
    again = families.load(tmp_path / "ours", verify=True)
    assert equal(again.module, model.module) and again.config == model.config
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    theirs = next((tmp_path / "theirs").glob("*.[sp]*t*"))
    original = load_file(theirs) if theirs.suffix == ".safetensors" else torch.load(theirs, weights_only=True)
    assert stored.keys() == original.keys()
    assert all(torch.equal(stored[key], original[key]) for key in stored)


def test_each_layout_refuses_the_other_form(tmp_path):
    for name, layout in (("hf-plain", "first"), ("first-plain", "hf")):
        model = families.load(checkpoint(tmp_path / name, name))
        with pytest.raises(EyespotError, match=r"layout-unsupported.*queries"):
            families.save(model, tmp_path / "out", layout=layout)


def test_its_tower_goes_into_a_chat_model_without_the_pool(tmp_path):
    part = families.open_part("vision_encoder", checkpoint(tmp_path / "theirs", "hf-plain"))
    assert (part.config.pool, part.config.projection_size) == ("none", None)
    assert not any("pool" in name for name in part.tensors)
    assert len(part.tensors) == len(families.build(part.config, "meta").state_dict())


def test_a_caption_has_its_prefix_and_its_end_within_the_length(tmp_path):
    theirs = checkpoint(tmp_path / "theirs", "hf-plain")
    config = json.loads((theirs / "config.json").read_text())
    tokens = words(["summarize:A red star."], SPECIALS)
    family = family_named("internvl_c")
    rule = family.contract_from_hf({"config.json": config}, family.config_from_hf(config, (), {}), tokens).text
    assert (rule.prefix, rule.max_length, rule.pad_token) == ("summarize:", 80, "<unk>")
    short, long = text_ids(["red", "red " * 200], tokens, rule)
    end = tokens.id_of("</s>")
    assert len(long) == 80 and long[-1] == end
    assert tokens.decode(short[short != 0]).replace(" ", "").startswith("summarize:red")
    assert short[(short != 0).sum() - 1] == end and not short[(short != 0).sum() :].any()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"use_qllama_lora": 8}, "family-config", "use_qllama_lora"),
        ({"attn_pool_num_heads": 5}, "family-config", "attn_pool_num_heads"),
        ({"num_query_token": 95}, "checkpoint-keys", "query_tokens"),
        ({"clip_embed_dim": 0}, "family-config", "clip_embed_dim"),
    ],
)
def test_a_config_that_cannot_be_followed_is_refused(change, code, said, tmp_path):
    folder = checkpoint(tmp_path / "theirs", "hf-plain")
    (folder / "config.json").write_text(json.dumps(CASES["hf-plain"]["config"] | change))
    with pytest.raises(EyespotError, match=said) as caught:
        families.load(folder)
    assert caught.value.code == code


def test_a_model_without_queries_says_so(tmp_path):
    model = eyespot.load(checkpoint(tmp_path / "theirs", "first-plain"))
    with pytest.raises(EyespotError, match="not-supported.*queries"):
        model.encode_images(pictures(), queried=True)


def test_the_published_sizes_follow_from_the_first_files_shapes():
    """The classes' own defaults and the Llama beside them: InternViT-6B of 48 blocks, Chinese-Alpaca 7B."""
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    raw = {"model_type": "internvl_c", "vision_config": {}, "qllama_config": text | {"vocab_size": 49954}}
    family = family_named("internvl_c")
    config = family.config_from_hf(raw, (), {})
    module = families.build(config, "meta")
    assert round(sum(p.numel() for p in module.vision_encoder.parameters()) / 1e9, 2) == 5.94  # 5.91 and the pool
    assert round(sum(p.numel() for p in module.parameters()) / 1e9, 1) == 12.6  # "InternVL-C 13B"
    stored = family.layouts["first"].keymap(config).to_theirs(dict(module.state_dict()))
    assert {
        "blocks.47.ls2.gamma",
        "transformer.layers.31.mlp.up_proj.weight",
        "clip_projector.cross_attn.q_bias",
    } <= set(stored)
    assert family.config_from_hf(family.describe({}, stored), tuple(stored), {}) == config
    whole = families.build(family.config_from_hf(raw | {"model_type": "internvl"}, (), {}), "meta")
    assert round(sum(p.numel() for p in whole.parameters()) / 1e9, 1) == 13.8  # "InternVL 14B"
    assert [name for name, _ in whole.queries.looks.named_children()] == [str(i) for i in range(0, 32, 2)]


@pytest.mark.parametrize("lost", ["pos_embed", "text_projection", "blocks.0.mlp.fc1.bias", "blocks.0.norm1.weight"])
def test_a_first_file_that_is_not_whole_is_refused(tmp_path, lost):
    folder = checkpoint(tmp_path / "theirs", "first-plain")
    (path,) = folder.iterdir()
    tensors = torch.load(path, weights_only=True)
    del tensors[lost]
    torch.save(tensors, path)
    with pytest.raises(EyespotError) as caught:
        families.load(folder)
    assert caught.value.code in ("checkpoint-keys", "family-config")


@pytest.mark.parametrize("change", [{"every": 0}, {"count": 0}, {"heads": 0}])
def test_queries_that_nothing_could_be_built_from_are_refused(change):
    with pytest.raises(EyespotError, match="config-value"):
        QueriesConfig(**change)


def test_a_text_tower_has_a_bound_on_its_layers():
    config = family_named("internvl_c").tiny()["first"]
    deep = config.text.replace(decoder=config.text.decoder.replace(num_layers=10**6))
    with pytest.raises(EyespotError, match="text.decoder.num_layers"):
        families.build(config.replace(text=deep), "meta")
