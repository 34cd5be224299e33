"""Recognition from files, parts, and what goes wrong."""

import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.errors import EyespotError
from eyespot.families import loading, sidefiles, table
from eyespot.inputs.messages import read_messages
from eyespot.inputs.tokenizer import words
from eyespot.runtime.limits import LIMITS
from tests.families.makers import SPECIALS, equal, family_named, llava, loaded, text_model, tokenizer


@pytest.fixture
def folder(tmp_path):
    llava(tmp_path / "model")
    return tmp_path / "model"


def code(action) -> str:
    with pytest.raises(EyespotError) as caught:
        action()
    return caught.value.code


def rewrite(folder, **changes):
    """Change config.json and forget the seal."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    (folder / "eyespot.json").unlink(missing_ok=True)


@pytest.mark.parametrize("layout", ["hf", "hf-a2", "hf-b", "hf-c"])
def test_all_four_layouts_are_recognised_by_their_keys_and_kept(tmp_path, layout):
    made = llava(tmp_path / "one", layout=layout)
    model = families.load(tmp_path / "one")
    assert model.layout == layout
    assert equal(model.module, made.module)
    families.save(model, tmp_path / "two", layout="hf")
    names = set(load_file(tmp_path / "one" / "model.safetensors"))
    assert set(load_file(tmp_path / "two" / "model.safetensors")) == names


def test_the_name_of_a_folder_says_nothing(folder, tmp_path):
    shutil.move(folder, tmp_path / "qwen2-mistral-clip")
    assert families.load(tmp_path / "qwen2-mistral-clip").family == "llava"


def test_an_unknown_family_names_the_nearest(folder):
    rewrite(folder, model_type="lava")
    with pytest.raises(EyespotError, match="'llava'") as caught:
        families.load(folder)
    assert caught.value.code == "unknown-family"


@pytest.mark.parametrize("raw", ["{}", '{"model_type": null}', '{"model_type": 3}', '{"model_type": ["llava"]}'])
def test_a_config_without_a_usable_model_type_is_an_unknown_family(folder, raw):
    (folder / "config.json").write_text(raw)
    (folder / "eyespot.json").unlink()
    assert code(lambda: families.load(folder)) == "unknown-family"


def test_another_package_can_bring_a_family(folder, tmp_path, monkeypatch):
    theirs = replace(family_named("llava"), name="mine", model_types=("mine",))

    class Found:
        def load(self):
            return type("module", (), {"FAMILY": theirs})

    monkeypatch.setattr(table, "entry_points", lambda group, name="mine": [Found()] if name == "mine" else [])
    rewrite(folder, model_type="mine")
    made = families.load(folder)
    assert made.family == "mine"
    families.save(made, tmp_path / "out")
    assert equal(families.load(tmp_path / "out").module, made.module)


def test_a_folder_without_config_or_weights_is_said(folder, tmp_path):
    (folder / "eyespot.json").unlink()
    (folder / "model.safetensors").unlink()
    assert code(lambda: families.load(folder)) == "checkpoint-missing"
    (tmp_path / "empty").mkdir()
    assert code(lambda: families.load(tmp_path / "empty")) == "checkpoint-missing"


def test_an_edited_file_is_found_by_the_seal(folder):
    families.load(folder)
    path = folder / "config.json"
    path.write_text(path.read_text().replace("0.0", "0.1"))
    assert code(lambda: families.load(folder)) == "checkpoint-seal"


def test_code_in_the_folder_is_never_imported(folder, tmp_path):
    touched = tmp_path / "touched"
    (folder / "modeling_evil.py").write_text(f"open({str(touched)!r}, 'w')")
    rewrite(
        folder, auto_map={"AutoConfig": "modeling_evil.X", "AutoModel": "modeling_evil.X"}, _target_="modeling_evil.X"
    )
    families.load(folder)
    assert not touched.exists()


def test_a_read_only_folder_loads(folder):
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert families.load(folder, verify=True).family == "llava"
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("dtype", ["float32", torch.float32])
def test_the_stored_type_is_kept_unless_another_is_asked_for(folder, dtype):
    path = folder / "model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path)
    rewrite(folder)
    assert {p.dtype for p in families.load(folder).module.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in families.load(folder, dtype=dtype).module.parameters()} == {torch.float32}


def test_an_unknown_type_or_layout_is_an_error(folder):
    assert code(lambda: families.load(folder, dtype="float3")) == "argument"
    assert code(lambda: families.load(folder, layout="hf-z")) == "argument"


def test_weights_that_are_not_finite_are_named_when_verifying(folder, caplog):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["multi_modal_projector.linear_1.bias"][3] = float("nan")
    save_file(tensors, path)
    rewrite(folder)
    families.load(folder)
    assert not caplog.records
    families.load(folder, verify=True)
    assert "connector.layers.0.bias" in caplog.text


def test_the_image_token_must_be_the_tokenizers(folder):
    rewrite(folder, image_token_index=5)
    assert code(lambda: families.load(folder)) == "tokenizer-token"


def test_a_model_is_in_evaluation_mode_and_on_real_memory(folder):
    module = families.load(folder).module
    assert not module.training
    assert not any(p.is_meta for p in module.parameters())


SMALL_FILES = (
    *sidefiles.JSON_FILES, "chat_template.jinja", "model.safetensors.index.json", "tokenizer.json",
    "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
)  # fmt: skip

INSTEAD_OF = {"model.safetensors.index.json": "model.safetensors", "tokenizer.model": "tokenizer.json"}


@pytest.mark.parametrize("name", SMALL_FILES)
def test_a_small_file_that_is_too_large_is_refused_unread(folder, name):
    (folder / "eyespot.json").unlink()
    if name in INSTEAD_OF:
        (folder / INSTEAD_OF[name]).unlink()
    with (folder / name).open("wb") as file:
        file.truncate(LIMITS.max_config_bytes + 1)  # no byte of it takes place on the disk
    with pytest.raises(EyespotError, match=r"limits\.max_config_bytes") as caught:
        families.load(folder)
    assert caught.value.code == "checkpoint-too-large"
    assert str(folder / name) in caught.value.where


# ------------------------------------------------------------------------------------------------ tokenizer and table

MANY = words([" ".join(chr(97 + i) * 3 + chr(97 + j) for i in range(10) for j in range(10))], SPECIALS)


def extended(folder, count: int = 60, special: bool = True):
    """Tokens added to the checkpoint's tokenizer after its table was made; `<extra_59>` is beyond 320 rows."""
    more = tokenizer()
    more.add_tokens([f"<extra_{i}>" for i in range(count)], special=special)
    more.save(folder)
    (folder / "eyespot.json").unlink()
    return more


def test_a_tokenizer_of_more_ids_than_the_table_has_rows_is_refused_before_the_weights_are_read(folder, monkeypatch):
    MANY.save(folder)
    (folder / "eyespot.json").unlink()
    monkeypatch.setattr(loading, "load_into", lambda *_, **__: pytest.fail("the weights were read"))
    with pytest.raises(EyespotError, match=f"up to {MANY.vocab_size - 1} .* 320 rows") as caught:
        families.load(folder)
    assert (caught.value.code, caught.value.where) == ("tokenizer-mismatch", str(folder))


def test_ordinary_tokens_added_later_without_rows_are_refused(folder):
    extended(folder, special=False)
    assert code(lambda: families.load(folder)) == "tokenizer-mismatch"


def test_an_end_token_without_a_row_is_refused(folder):
    more = extended(folder)
    more.set_named(eos_token="<extra_59>")
    more.save(folder)
    assert code(lambda: families.load(folder)) == "tokenizer-mismatch"


def test_special_tokens_added_later_without_rows_are_text_when_typed(folder):
    assert extended(folder).vocab_size > 320
    encoded = families.load(folder).processor.encode(read_messages("What is <extra_59>?"))
    assert encoded.input_ids.max() < 320


def test_a_template_that_writes_a_token_without_a_row_is_refused(folder):
    extended(folder)
    processor = pickle.loads(pickle.dumps(families.load(folder).processor))
    with pytest.raises(EyespotError, match=r"'<extra_59>' is token \d+, the model's table has 320 rows") as caught:
        processor.encode(read_messages("What?"), template="<extra_59>{{ messages[0].content }}")
    assert caught.value.code == "tokenizer-mismatch"


def test_a_model_built_from_parts_that_do_not_fit_is_refused():
    family = family_named("qwen2")
    config = family.tiny()["tied"]
    with pytest.raises(EyespotError, match=f"{config.decoder.vocab_size} rows") as caught:
        loaded(family, config, tokens=tokenizer())
    assert caught.value.code == "tokenizer-mismatch"


def test_a_caption_can_spell_every_token_so_each_needs_a_row():
    family = family_named("clip")
    config = family.tiny()["plain"]
    config = config.replace(text=config.text.replace(vocab_size=tokenizer().vocab_size))
    assert loaded(family, config, tokens=tokenizer()).config == config
    more = tokenizer()
    more.add_tokens(["<extra>"])
    assert code(lambda: loaded(family, config, tokens=more)) == "tokenizer-mismatch"


# ---------------------------------------------------------------------------------------------------------------- parts


@pytest.fixture
def clip(tmp_path):
    family = family_named("clip")
    config = family.tiny()["plain"]
    files = {
        "preprocessor_config.json": {"size": {"shortest_edge": 28}, "crop_size": 28, "image_mean": [0.1, 0.2, 0.3]}
    }
    made = loaded(family, config, **files)
    with torch.no_grad():
        made.module.vision_encoder.class_embedding += 1
    families.save(made, tmp_path / "clip")
    return tmp_path / "clip"


def test_a_given_tower_takes_the_place_of_the_checkpoints_with_its_image_rule(folder, clip):
    model, other = families.load(folder, parts={"vision_encoder": clip}), families.load(clip)
    assert torch.equal(model.module.vision_encoder.class_embedding, other.module.vision_encoder.class_embedding)
    assert model.contract.image.mean == (0.1, 0.2, 0.3)
    assert equal(model.module.decoder, families.load(folder).module.decoder)


def test_a_given_part_survives_the_round_trip(folder, clip, tmp_path):
    model = families.load(folder, parts={"vision_encoder": clip})
    families.save(model, tmp_path / "joined")
    again = families.load(tmp_path / "joined")
    assert equal(again.module, model.module)
    assert again.contract == model.contract


def test_a_given_connector_and_decoder_come_from_a_whole_model(folder, tmp_path):
    other = llava(tmp_path / "other")
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter += 1
    families.save(other, tmp_path / "other")
    model = families.load(folder, parts={"connector": tmp_path / "other", "decoder": tmp_path / "other"})
    assert equal(model.module.connector, other.module.connector)
    assert equal(model.module.decoder, other.module.decoder)
    assert torch.equal(model.module.lm_head.weight, other.module.lm_head.weight)
    assert not equal(model.module.vision_encoder, other.module.vision_encoder)


def test_parts_that_do_not_fit_name_the_widths(folder, tmp_path):
    family = family_named("clip")
    wide = family.tiny()["vision-only"].replace(hidden_size=32, intermediate_size=64)
    families.save(loaded(family, wide), tmp_path / "wide")
    with pytest.raises(EyespotError, match="16.*32") as caught:
        families.load(folder, parts={"vision_encoder": tmp_path / "wide"})
    assert caught.value.code == "compose-mismatch"


def test_a_part_that_does_not_exist_is_an_error(folder, clip, tmp_path):
    text_model(tmp_path / "text")
    assert code(lambda: families.load(folder, parts={"vision": clip})) == "argument"
    assert code(lambda: families.load(folder, parts={"decoder": clip})) == "compose-mismatch"
    assert code(lambda: families.load(folder, parts={"vision_encoder": tmp_path / "text"})) == "compose-mismatch"
    assert code(lambda: families.load(clip, parts={"vision_encoder": clip})) == "compose-mismatch"


def test_a_checkpoint_without_a_tokenizer_loads_for_all_but_text(tmp_path):
    family = family_named("llava")
    families.save(loaded(family, family.tiny()["clip-llama"]), tmp_path / "bare")
    model = families.load(tmp_path / "bare")
    assert model.tokenizer is None
    assert tokenizer().id_of("<image>") == 4
