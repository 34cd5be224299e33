"""What holds for every family and each of its tiny configurations: the laws of `laws`, which `test_planted` breaks."""

import pytest

from eyespot import families
from tests.families import laws
from tests.families.makers import CASES, IDS, layouts, loaded

cases = pytest.mark.parametrize(("family", "case"), CASES, ids=IDS)
FIRST = list({f.name: (f, name) for f, name in reversed(CASES)}.values())  # one case of each family
firsts = pytest.mark.parametrize(("family", "case"), FIRST, ids=[f.name for f, _ in FIRST])
SEEING = [(f, name) for f, name in FIRST if getattr(f.tiny()[name], "vision", True) is not None]
SPEAKING = [(f, name) for f, name in CASES if hasattr(f.tiny()[name], "decoder")]
speaking = pytest.mark.parametrize(("family", "case"), SPEAKING, ids=[f"{f.name}-{name}" for f, name in SPEAKING])


@cases
def test_the_config_goes_there_and_back_in_every_layout(family, case):
    laws.the_config_goes_there_and_back(family, family.tiny()[case])


@cases
def test_the_key_map_is_a_bijection_onto_the_models_tensors(family, case):
    laws.the_key_map_is_a_bijection(family, family.tiny()[case])


@firsts
def test_a_fresh_model_is_written_and_read_back_in_every_layout(family, case, tmp_path):
    config = family.tiny()[case]
    for name in layouts(family, config):
        made = loaded(family, config, name)
        assert laws.what_is_written_is_read_back(made, name, tmp_path / name).family == family.name


@cases
def test_export_of_an_import_is_the_identity(family, case, tmp_path):
    laws.export_of_an_import_is_the_identity(loaded(family, family.tiny()[case]), tmp_path)


@firsts
@pytest.mark.parametrize("fault", laws.FAULTS)
def test_loading_is_strict(family, case, fault, tmp_path):
    families.save(loaded(family, family.tiny()[case]), tmp_path)
    laws.a_fault_is_refused(tmp_path, fault)


@cases
def test_the_processor_counts_what_the_encoder_gives(family, case):
    laws.the_processor_counts_what_the_encoder_gives(laws.live(family, case))


@cases
def test_packed_equals_single(family, case):
    laws.packed_equals_single(laws.live(family, case))


@cases
def test_gradient_reaches_every_parameter_that_is_not_listed_as_unused(family, case):
    laws.gradient_reaches_all_but_the_unused(laws.live(family, case))


@speaking
def test_cached_equals_uncached(family, case):
    model = laws.live(family, case)
    with laws.within_the_trained_length(model.module):
        laws.cached_equals_uncached(model)


@speaking
def test_generation_runs(family, case):
    model = laws.live(family, case)
    with laws.within_the_trained_length(model.module):
        laws.generation_runs(model)


@cases
def test_adapters_attach_and_merge(family, case):
    laws.adapters_attach_and_merge(laws.live(family, case))


@pytest.mark.parametrize(("family", "case"), SEEING, ids=[f.name for f, _ in SEEING])
def test_extreme_pictures_are_taken_or_refused(family, case):
    laws.extreme_pictures_are_taken_or_refused(laws.live(family, case))


def test_every_model_type_of_the_table_belongs_to_its_family():
    listed = {t for f in families.all_families() for t in f.model_types}
    assert listed == set(families.TABLE)
