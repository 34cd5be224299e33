"""Each law of `laws` is seen to fail on a planted fault, so that a law that has gone blind is found out."""

from dataclasses import replace

import pytest
import torch

from eyespot import families
from eyespot.data.packing import pack
from eyespot.engine import generate
from eyespot.families import loading, saving
from eyespot.families.family import Family
from eyespot.models.vlm import VisionLanguageModel
from eyespot.nn.cache import KVCache
from eyespot.weights.keymap import KeyMap
from tests.families import laws
from tests.families.makers import family_named, loaded

LLAVA, CLIP, QWEN = family_named("llava"), family_named("clip"), family_named("qwen2_vl")
CASE = "clip-llama"


def with_keymap(family: Family, change) -> Family:
    """The family with another key map in each layout."""
    changed = {
        name: replace(layout, keymap=lambda config, own=layout.keymap: change(own(config)))
        for name, layout in family.layouts.items()
    }
    return replace(family, layouts=changed)


def test_a_config_that_is_read_wrongly_is_seen():
    def read(*args):
        config = LLAVA.config_from_hf(*args)
        return config.replace(decoder=config.decoder.replace(rms_norm_eps=1e-2))

    with pytest.raises(AssertionError):
        laws.the_config_goes_there_and_back(replace(LLAVA, config_from_hf=read), LLAVA.tiny()[CASE])


def test_a_layout_that_is_taken_for_another_is_seen():
    last = tuple(LLAVA.layouts)[3:4]
    with pytest.raises(AssertionError):
        laws.the_config_goes_there_and_back(replace(LLAVA, recognise=lambda raw: last), LLAVA.tiny()[CASE])


def test_a_tensor_that_does_not_come_back_is_seen():
    lossy = with_keymap(LLAVA, lambda keymap: keymap | KeyMap([], ignore=[r".*\.q_proj\.weight"]))
    with pytest.raises(AssertionError):
        laws.the_key_map_is_a_bijection(lossy, LLAVA.tiny()[CASE])


def test_weights_that_are_written_wrongly_are_seen(monkeypatch, tmp_path):
    whole = KeyMap.to_theirs
    monkeypatch.setattr(KeyMap, "to_theirs", lambda own, tensors: {k: t + 1e-3 for k, t in whole(own, tensors).items()})
    with pytest.raises(AssertionError):
        laws.what_is_written_is_read_back(loaded(LLAVA, LLAVA.tiny()[CASE]), "hf", tmp_path)


def test_an_export_that_differs_from_its_import_is_seen(monkeypatch, tmp_path):
    write, times = saving.write_json, []

    def counting(path, data):
        times.append(path)
        return write(path, {**data, "written": len(times)})

    monkeypatch.setattr(saving, "write_json", counting)
    with pytest.raises(AssertionError):
        laws.export_of_an_import_is_the_identity(loaded(LLAVA, LLAVA.tiny()[CASE]), tmp_path)


@pytest.mark.parametrize("fault", laws.FAULTS)
def test_a_loader_that_takes_what_fits_is_seen(fault, monkeypatch, tmp_path):
    def lenient(module, tensors, *args, **options):
        fresh = {name: torch.zeros(t.shape) for name, t in module.state_dict().items()}
        fits = {k: t.float() for k, t in tensors.items() if k in fresh and t.shape == fresh[k].shape}
        module.load_state_dict(fresh | fits, assign=True)

    families.save(loaded(CLIP, CLIP.tiny()["plain"]), tmp_path)
    monkeypatch.setattr(loading, "load_into", lenient)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        laws.a_fault_is_refused(tmp_path, fault)


def test_a_processor_that_miscounts_is_seen():
    model = laws.live(LLAVA, CASE)
    sample = model.samples()[-1]
    short = replace(sample.media[0], slots=sample.media[0].slots[:-1])
    with pytest.raises(AssertionError):
        laws.the_processor_counts_what_the_encoder_gives(model, [replace(sample, media=(short, *sample.media[1:]))])


@pytest.mark.parametrize(("family", "case"), [(LLAVA, CASE), (QWEN, "plain"), (CLIP, "plain")])
def test_samples_that_see_each_other_are_seen(family, case):
    with pytest.raises(AssertionError):
        laws.packed_equals_single(laws.live(family, case), merge=True)


@pytest.mark.parametrize(("family", "case"), [(LLAVA, CASE), (QWEN, "plain")])
def test_a_place_that_is_off_by_one_is_seen(family, case):
    with pytest.raises(AssertionError):
        laws.cached_equals_uncached(laws.live(family, case), shift=1)


@pytest.mark.parametrize(("family", "case"), [(LLAVA, CASE), (QWEN, "plain")])
def test_a_loop_that_forgets_is_seen(family, case, monkeypatch):
    class Forgetful(KVCache):
        def append(self, layer, k, v):
            keys, values = super().append(layer, k, v)
            return keys.roll(1, 0), values

    monkeypatch.setattr(generate, "KVCache", Forgetful)
    with pytest.raises(AssertionError):
        laws.generation_runs(laws.live(family, case))


def test_a_part_that_learns_nothing_is_seen(monkeypatch):
    encode = VisionLanguageModel.encode

    def cut_off(own, media):
        return {k: replace(e, main=e.main.detach()) for k, e in encode(own, media).items()}

    monkeypatch.setattr(VisionLanguageModel, "encode", cut_off)
    with pytest.raises(AssertionError, match="connector"):
        laws.gradient_reaches_all_but_the_unused(laws.live(LLAVA, CASE))


def test_a_parameter_wrongly_listed_as_unused_is_seen(monkeypatch):
    monkeypatch.setattr(VisionLanguageModel, "unused", lambda own: ["connector.layers.0.weight"])
    with pytest.raises(AssertionError, match="connector"):
        laws.gradient_reaches_all_but_the_unused(laws.live(QWEN, "plain"))


def test_a_merge_of_other_size_is_seen():
    with pytest.raises(AssertionError):
        laws.adapters_attach_and_merge(laws.live(LLAVA, CASE), scale=1.5)


def test_the_tests_model_is_read_as_its_files_say():
    """The walk's own inputs: every kind of medium that a family takes is among its samples."""
    kinds = {m.kind for s in laws.live(QWEN, "plain").samples() for m in s.media}
    assert kinds == {"image", "video"}
    assert len(pack(laws.live(LLAVA, CASE).samples()).segments.q_lens) == 4
