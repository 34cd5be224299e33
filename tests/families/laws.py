"""What holds for every family, as functions that fail where it does not.

`test_all` runs each law on each tiny configuration of each family; `test_planted` sees each law fail once. A new family
gets them all by its line in the table and its `tiny`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eyespot import families
from eyespot.contracts.batch import Batch, MediaBatch, Segments
from eyespot.contracts.contract import Contract, ImageRule, TextRule
from eyespot.contracts.encoded import Encoded
from eyespot.data.packing import media_batch, pack
from eyespot.engine import generate
from eyespot.engine.model import Model
from eyespot.errors import EyespotError
from eyespot.families.family import Context, Family
from eyespot.inputs.decode import decode_image
from eyespot.inputs.messages import read_messages
from eyespot.inputs.patches import prepare_image
from eyespot.inputs.processor import Processor
from eyespot.inputs.tokenizer import words
from eyespot.models.vlm import VisionLanguageModel
from eyespot.nn import adapters
from eyespot.nn.cache import KVCache
from tests.families.makers import SPECIALS, TEMPLATE, equal, family_named, layouts, loaded, random_module
from tests.laws.test_laws import BAR, SEEN, distance, learn

NEW = 3  # tokens that are generated
# Control tokens that a family looks up beside those that its contract names, in the order of their ids.
CONTROL = {"qwen": ["<img>", "</img>", "<imgpad>"]}


# ------------------------------------------------------------------------------------------------------ descriptions


def the_config_goes_there_and_back(family: Family, config: Any) -> None:
    ours = list(families.build(config, "meta").state_dict())
    for name in layouts(family, config):
        keymap = family.layouts[name].keymap(config)
        raw = json.loads(json.dumps(family.layouts[name].config_to_hf(config, Context())))
        assert raw["model_type"] in family.model_types
        parts = {"vision_encoder": getattr(config, "vision", None)}
        names = [keymap.their_name(n) for n in ours]
        assert family.config_from_hf(raw, names, parts) == config
        found = family.layout_of(raw, names, config)
        # Where two layouts write the same names, the first is recognised.
        assert [family.layouts[found].keymap(config).their_name(n) for n in ours] == names


def the_key_map_is_a_bijection(family: Family, config: Any) -> None:
    ours = random_module(config).state_dict()
    for name in layouts(family, config):
        keymap = family.layouts[name].keymap(config)
        theirs = keymap.to_theirs(ours)
        assert keymap.unknown(theirs) == []
        back = keymap.to_ours(theirs)
        assert back.keys() == ours.keys()
        assert all(torch.equal(back[k], ours[k]) for k in ours)


# ------------------------------------------------------------------------------------------------------------ on disk


def what_is_written_is_read_back(made: families.Loaded, layout: str, folder: Path) -> families.Loaded:
    families.save(made, folder, layout=layout)
    again = families.load(folder, verify=True)
    assert equal(again.module, made.module)
    assert again.config == made.config
    silent = family_named(again.family).layouts[layout].adds_image_token  # without a tokenizer nothing tells its text
    assert again.contract == (made.contract.replace(text=again.contract.text) if silent else made.contract)
    return again


def export_of_an_import_is_the_identity(made: families.Loaded, folder: Path) -> None:
    """Through their layout twice, the files are the same; through ours, they are again what they were."""
    layout = made.layout
    again = what_is_written_is_read_back(made, layout, folder / "first")
    families.save(again, folder / "second")
    own = what_is_written_is_read_back(again, "eyespot", folder / "own")
    assert (own.family, own.layout) == ("eyespot", "eyespot")
    assert what_is_written_is_read_back(own, layout, folder / "back").layout == layout
    first, second = (contents(folder / name) for name in ("first", "second"))
    assert first == second


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the seal, which holds times."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "eyespot.json"}


FAULTS = ("missing", "extra", "misshapen", "integer")


def a_fault_is_refused(folder: Path, fault: str) -> None:
    """`folder` holds a checkpoint; with one tensor out of order it must not load, and the tensor is named."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    name = sorted(tensors)[len(tensors) // 2]
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        tensors["stranger.weight"] = torch.zeros(2)
    elif fault == "misshapen":
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    else:
        tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, path)
    record = json.loads((folder / "eyespot.json").read_text())  # without the checksums, which would speak first
    kept = {"contract": record["contract"], "contract_id": record["contract_id"]}
    (folder / "eyespot.json").write_text(json.dumps(kept))
    with pytest.raises(EyespotError) as caught:
        families.load(folder)
    assert caught.value.code == ("checkpoint-dtype" if fault == "integer" else "checkpoint-keys")
    assert ("stranger.weight" if fault == "extra" else name) in str(caught.value)
    assert str(folder) in caught.value.where


# ------------------------------------------------------------------------------------------------------- a live model


@dataclass
class Live:
    """A tiny model with everything that its family's processor needs, and inputs of several shapes."""

    loaded: families.Loaded

    @property
    def module(self) -> Any:
        return self.loaded.module

    @property
    def speaks(self) -> bool:
        return isinstance(self.module, VisionLanguageModel)

    @property
    def sees(self) -> bool:
        return not self.speaks or self.module.vision_encoder is not None

    def samples(self) -> list[Encoded]:
        """Conversations with nothing, one picture, two of unlike shape, and a video where the model takes one."""
        found = [self.encode("What is in it?"), self.encode("A star? What is red?")]
        if self.sees:
            found += [self.encode(picture(13, 9), "What is in it?")]
            found += [self.encode("A", picture(30, 11, 1), "star", picture(7, 40, 2), "What?")]
        if self.sees and self.loaded.contract.video is not None:
            frames = [picture(17, 9, seed) for seed in range(3)]
            found += [self.encode({"type": "video", "video": frames, "fps": 2.0}, "What?")]
        return found

    def encode(self, *parts: Any, answer: str | None = " red.") -> Encoded:
        """One turn; every token is learnt where there is an answer, so that every row takes part."""
        messages = [{"role": "user", "content": [part_of(p) for p in parts]}]
        messages += [{"role": "assistant", "content": answer}] if answer else []
        made = self.loaded.processor.encode(read_messages(messages), add_generation_prompt=not answer)
        return replace(made, loss_weight=np.full(len(made.input_ids), float(bool(answer)), np.float32))

    def pictures(self) -> list[MediaBatch]:
        """Three pictures, each alone."""
        rule = self.loaded.contract.image
        shapes = ((13, 9), (30, 11), (7, 40))
        return [media_batch([prepare_image(decode_image(picture(*s, i)), rule)]) for i, s in enumerate(shapes)]

    def together(self) -> MediaBatch:
        rule = self.loaded.contract.image
        shapes = ((13, 9), (30, 11), (7, 40))
        return media_batch([prepare_image(decode_image(picture(*s, i)), rule) for i, s in enumerate(shapes)])

    def texts(self) -> torch.Tensor:
        """Ids of three captions, as long as the tower takes; where it looks for an end token, that is their last."""
        ids = self.loaded.processor.encode_texts(["star " * 20, "red " * 20, "A red star? " * 9])
        if getattr(self.module.config.text, "pool", None) == "eos":
            ids[:, -1] = self.module.config.text.eos_token_id
        return ids


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def part_of(part: Any) -> dict[str, Any]:
    if isinstance(part, dict):
        return part
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}


def live(family: Family, case: str) -> Live:
    """A model of the family in its first layout, as if its published files had been read; made once."""
    return _live(family.name, case)


@cache
def _live(name: str, case: str) -> Live:
    family = family_named(name)
    config = with_rows(family.tiny()[case])
    silent = loaded(family, config)
    text = silent.contract.text
    named = CONTROL.get(name) or [t for t in (text.image_token, text.video_token) if t and t not in SPECIALS]
    tokens = words(["What is in it? A red star."], padded([*SPECIALS, *named], config))
    context = Context(
        tokens.id_of("<s>"), tokens.id_of("<pad>"), (2,), tokens.id_of(text.image_token), silent.contract.image, tokens,
        tokens.id_of(text.video_token),
    )  # fmt: skip
    layout = silent.layout
    files: dict[str, Any] = {"config.json": family.layouts[layout].config_to_hf(config, context)}
    files |= family.contract_to_hf(small(silent.contract), config)
    files |= {"chat_template.jinja": template(text)}
    files["eyespot.json"] = {"contract": own_contract(config, files["chat_template.jinja"])}
    contract = family.contract_from_hf(files, config, tokens)
    module = lively(random_module(config))
    return Live(families.Loaded(module, Processor(contract, tokens), contract, family.name, layout))


def small(contract: Contract) -> Contract:
    """Pictures of any size stay within a few blocks: the published least area is thousands of a tiny tower's."""

    def fewer(rule: ImageRule | None) -> ImageRule | None:
        if rule is None or rule.resize != "dynamic":
            return rule
        block = (rule.patch_size * rule.merge_size) ** 2
        return rule.replace(min_pixels=4 * block, max_pixels=24 * block)

    return contract.replace(image=fewer(contract.image), video=fewer(contract.video))


def padded(specials: list[str], config: Any) -> list[str]:
    """Control tokens, with the one for padding where the text tower has it."""
    at = getattr(getattr(config, "text", None), "pad_token_id", None)
    if at is not None:
        specials.insert(at, specials.pop(specials.index("<pad>")))
    return specials


def with_rows(config: Any, rows: int = 320) -> Any:
    """The config with a table that is large enough for the tests' tokenizer."""
    if hasattr(getattr(config, "text", None), "decoder"):  # a text tower that is a language model
        return config.replace(text=with_rows(config.text, rows))
    changes = {
        part: getattr(config, part).replace(vocab_size=rows)
        for part in ("decoder", "text")
        if hasattr(getattr(config, part, None), "vocab_size")
    }
    return config.replace(**changes) if changes else config


def template(text: TextRule) -> str:
    """Media by the tokens that this family expands; text as it is."""
    written = TEMPLATE.replace("'<image>'", f"({text.video_token!r} if p.type == 'video' else {text.image_token!r})")
    return "{{ bos_token }}" + written


def own_contract(config: Any, written: str) -> dict[str, Any]:
    """What our own layout keeps beside its weights."""
    vision = getattr(config, "vision", None)
    if not hasattr(vision, "image_size"):
        return Contract().to_dict()
    rule = ImageRule(size=vision.image_size, patch_size=vision.patch_size, resize="exact", crop=False)
    named = {"image_token": "<image>", "image_token_id": SPECIALS.index("<image>")}
    return Contract(image=rule, text=TextRule(template=written, **named)).to_dict()


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Scales under which every part of a model shows in what it gives."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim == 1 and name.endswith("weight"):
                p.add_(1.0)
            if p.ndim == 2 and "embed" not in name and "lm_head" not in name:
                p.mul_(2.5)
    return module


# ------------------------------------------------------------------------------------------------------------ forward


def the_processor_counts_what_the_encoder_gives(model: Live, samples: list[Encoded] | None = None) -> None:
    """Places for pictures in the text are as many as the embeddings; a tower alone gives one row for each patch."""
    with torch.no_grad():
        if not model.speaks:
            media = model.together()
            tower = getattr(model.module, "vision_encoder", model.module)
            assert len(tower.features(media)) == len(media.patches)
            return
        for sample in samples or model.samples():
            batch = pack([sample])
            for name, embeddings in model.module.encode(batch.media).items():
                assert len(embeddings.main) == len(batch.media[name].slots)


def packed_equals_single(model: Live, merge: bool = False) -> None:
    """Together as alone: losses and gradients of conversations, vectors of pictures and texts."""
    if model.speaks:
        samples = model.samples()
        batch = pack(samples)
        batch = replace(batch, segments=Segments.of((batch.segments.tokens,))) if merge else batch
        assert distance(learn(model.module, batch), learn(model.module, *(pack([s]) for s in samples))) <= BAR
        return
    with torch.no_grad():
        media, alone = model.together(), model.pictures()
        media = replace(media, patches=media.patches.roll(1, 0)) if merge else media
        assert apart(vectors(model.module, media), torch.cat([vectors(model.module, m) for m in alone])) <= BAR
        if hasattr(model.module, "encode_texts"):
            ids = model.texts()
            single = torch.cat([model.module.encode_texts(row[None]) for row in ids])
            assert apart(model.module.encode_texts(ids), single) <= BAR


def vectors(module: Any, media: MediaBatch) -> torch.Tensor:
    """What a model without a decoder says of pictures: a vector each, or features where it has no pooling."""
    if hasattr(module, "encode_images"):
        return module.encode_images(media)
    return module.features(media) if module.config.pool == "none" else module.pooled(media)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


@contextmanager
def within_the_trained_length(module: Any) -> Iterator[None]:
    """Keep a rotation from growing with the length: as published, it does not reach back to cached keys."""
    decoder, config = module.decoder, module.decoder.config
    decoder.config = config.replace(rope=config.rope.replace(original_max_position_embeddings=4096))
    try:
        yield
    finally:
        decoder.config = config


@torch.no_grad()
def cached_equals_uncached(model: Live, shift: int = 0) -> None:
    """Logits of a prefill that holds all media and then one token at a time."""
    module = model.module
    for sample in model.samples():
        batch = pack([sample])
        whole = module.logits(module(batch).last)
        first = max((int(m.slots.max()) for m in sample.media if len(m.slots)), default=0) + 1
        cache, ids, places = KVCache(module.config.decoder.num_layers, capacity=1), batch.input_ids, batch.position_ids
        prefill = Batch(ids[:first], places[:, :first], Segments.of((first,)), batch.media)
        hidden = [module(prefill, cache).last]
        for t in range(first, len(ids)):
            step = Batch(ids[t : t + 1], places[:, t : t + 1] + shift, Segments((1,), (t + 1,), (-1,)))
            hidden.append(module(step, cache).last)
        assert apart(module.logits(torch.cat(hidden)), whole) <= BAR


def generation_runs(model: Live) -> None:
    """The cached loop, the packed loop and the whole row again say the same."""
    prompts = [("What is red?",), *([(picture(13, 9), "What?")] if model.sees else [])]
    for sample in (model.encode(*parts, answer=None) for parts in prompts):
        made = list(generate.decode(model.module, pack([sample]), frozenset(), NEW, generate.Sampling()))
        again, ids = [], sample.input_ids
        with torch.no_grad():
            for _ in range(NEW):
                row = replace(sample, input_ids=ids, loss_weight=np.zeros(len(ids), np.float32), lengths=(len(ids),))
                again.append(int(model.module.logits(model.module(pack([row])).last[-1:])[0].argmax()))
                ids = np.append(ids, again[-1])
        assert made == again
        assert generate.answer_packed(model.module, [sample], frozenset(), NEW) == [(again, False)]
    reply = Model(model.loaded).chat("What is red?", max_new_tokens=NEW)
    assert reply.finish_reason in ("length", "stop")


def gradient_reaches_all_but_the_unused(model: Live) -> None:
    """Nothing is cut off, and what is said to be unused is."""
    module = model.module
    module.zero_grad()
    if model.speaks:
        learn(module, pack(model.samples()))
        unused = set(module.unused())
    else:
        media = model.together()
        out = vectors(module, media)
        out = module.similarity(out, module.encode_texts(model.texts())) if hasattr(module, "similarity") else out
        (out * torch.linspace(1, 2, out.numel()).view(out.shape)).sum().backward()
        headless = getattr(module.config, "pool", None) == "none"
        unused = set(module.unused(*[(-1,)] * headless)) if hasattr(module, "unused") else set()
    reached = {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}
    wanted = {name for name, _ in module.named_parameters()} - unused
    assert reached == wanted, f"not reached: {sorted(wanted - reached)}; though unused: {sorted(reached - wanted)}"


def adapters_attach_and_merge(model: Live, scale: float = 1.0) -> None:
    """On every linear layer of a model: fresh ones change nothing, merged ones what unmerged ones do."""
    module = deepcopy(model.module)
    plain = answer(model, module)
    layers = adapters.attach(module, adapters.LoraConfig(rank=2, modules=""))
    assert torch.equal(answer(model, module), plain)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_A.copy_(0.2 * torch.randn(layer.lora_A.shape, generator=generator))
            layer.lora_B.copy_(0.03 * torch.randn(layer.lora_B.shape, generator=generator))
        adapted = answer(model, module)
        for layer in layers.values():  # a planted fault scales what is merged
            layer.lora_B.mul_(scale)
    assert apart(plain, adapted) >= SEEN
    assert len(adapters.merge(module)) == len(layers)
    assert apart(answer(model, module), adapted) <= BAR


@torch.no_grad()
def answer(model: Live, module: Any) -> torch.Tensor:
    """Logits of a conversation with a picture where the model takes one; else vectors of pictures."""
    if not model.speaks:
        return vectors(module, model.together())
    batch = pack([model.samples()[2 if model.sees else 0]])
    return module.logits(module(batch).last)


def extreme_pictures_are_taken_or_refused(model: Live) -> None:
    """Lines and a point go through, or are refused by what they are; a picture without pixels is refused."""
    for shape in ((1, 10_000, 3), (10_000, 1, 3), (1, 1, 3), (0, 7, 3)):
        try:
            media = media_batch([prepare_image(decode_image(np.zeros(shape, np.uint8)), model.loaded.contract.image)])
        except EyespotError as error:
            assert error.code.startswith("media-"), error
            assert shape != (1, 1, 3)
        else:
            assert shape[0] and torch.isfinite(media.patches).all()
