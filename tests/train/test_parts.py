"""An encoder comes out of any checkpoint that holds one, strictly."""

from types import SimpleNamespace

import pytest
import torch

from eyespot import families
from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import clip
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.vlm import VisionLanguageModel, VlmConfig
from eyespot.train.folder import RunFolder
from eyespot.train.models import fill_parts
from eyespot.train.run import Stage


@pytest.fixture
def two_towers(tmp_path):
    """A CLIP checkpoint, and a fresh LLaVA-like model with the same tower."""
    config = next(iter(clip.FAMILY.tiny().values()))
    config = config.replace(text=config.text.replace(vocab_size=300))
    rule = ImageRule(size=config.vision.image_size, patch_size=config.vision.patch_size)
    contract = Contract(image=rule)
    processor = Processor(contract, words(["red star"], ["<pad>"]))
    source = families.Loaded(families.build(config), processor, contract, "clip", "hf")
    families.save(source, tmp_path / "clip", layout="eyespot")
    tower = source.module.config.vision.replace(projection_size=None)
    decoder = DecoderConfig(
        vocab_size=40, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=2, intermediate_size=32
    )
    config = VlmConfig(decoder, tower, ConnectorConfig("linear", tower.hidden_size, 16))
    return source, tmp_path / "clip", VisionLanguageModel(config)


@pytest.fixture
def no_run():
    """A folder that is never looked into: the part comes from a checkpoint, not from an earlier stage."""
    return RunFolder.__new__(RunFolder)


def test_the_tower_of_a_clip_checkpoint_goes_into_a_llava(two_towers, no_run):
    source, path, module = two_towers
    stage = Stage(init_from={"vision_encoder": str(path)})
    fill_parts(SimpleNamespace(module=module, tokenizer=None), stage, no_run)
    theirs = source.module.vision_encoder.state_dict()
    for name, tensor in module.vision_encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_tower_of_another_size_is_refused_with_a_table(two_towers, no_run):
    _, path, module = two_towers
    wider = module.config.vision.replace(hidden_size=2 * module.config.vision.hidden_size)
    config = module.config.replace(vision=wider, connector=ConnectorConfig("linear", wider.hidden_size, 16))
    stage = Stage(init_from={"vision_encoder": str(path)})
    with pytest.raises(EyespotError, match="in the source") as caught:
        fill_parts(SimpleNamespace(module=VisionLanguageModel(config), tokenizer=None), stage, no_run)
    assert caught.value.code == "checkpoint-keys"
