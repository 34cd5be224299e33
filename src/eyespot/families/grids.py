"""What families with a tower for pictures of any size share: configs, key rules, processor files, the family itself.

The tower stands under ``visual``, its mergers inside it; the decoder has M-RoPE. Hub files of the older forms are flat
(the decoder's keys beside ``vision_config``), `transformers` 5 and newer forms nest them in ``text_config``; both are
read, and what a form's hub files have is written, as every version reads it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from eyespot.contracts.contract import Contract, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.decoders import DecoderForm, canonical, decoder_rules
from eyespot.families.family import (
    MAX_SIDE,
    Context,
    Family,
    Files,
    Json,
    Layout,
    check_sizes,
    differences,
    section,
    unsupported,
)
from eyespot.families.framing import frame_keys, frame_rule
from eyespot.families.vocabulary import check_image_token
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.models.connectors import ConnectorConfig
from eyespot.models.decoder import DecoderConfig
from eyespot.models.encoders.grid_vit import GridVitConfig
from eyespot.models.vlm import VlmConfig
from eyespot.nn.rope import RopeConfig
from eyespot.weights.keymap import KeyMap, Reshape, Rule, Split, within

IMAGE_TOKEN, IMAGE_TOKEN_ID = "<|image_pad|>", 151655
ROPE_THETA = 10000.0  # of the tower
# config.json's other token ids: the token and its published id.
TOKENS = {
    "video_token_id": ("<|video_pad|>", 151656), "vision_start_token_id": ("<|vision_start|>", 151652),
    "vision_end_token_id": ("<|vision_end|>", 151653),
}  # fmt: skip
_TEMPLATES = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")
_PROCESSOR = {  # what the published class does with keys that its file leaves out
    "do_resize": True, "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}, "resample": 3,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": sidefiles.CLIP_MEAN,
    "image_std": sidefiles.CLIP_STD, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
}  # fmt: skip

_VIDEO_SIZE = {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}  # of each frame
_TIMED_SIZE = {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32}  # of all frames
RULES = (
    Rule("blocks.{}.mlp.{}.{}", "vision_encoder.blocks.{}.mlp.{}.{}"),
    Rule("merger.ln_q.{}", "connector.norm.{}"),
    Rule("merger.mlp.0.{}", "connector.layers.0.{}"),
    Rule("merger.mlp.2.{}", "connector.layers.1.{}"),
)


@dataclass(frozen=True)
class GridForm:
    """One published form.

    Attributes:
        model_type: in config.json.
        architecture: the class name that config.json states.
        processor: the processor class that its checkpoints name.
        text: the form of the decoder.
        defaults: of keys that a ``vision_config`` may leave out.
        widths: the keys of the tower's width and of what the merger gives.
        read_vision: a ``vision_config`` with its defaults to the tower.
        write_vision: the tower's keys beside the shared ones; the image rule holds what is no part of the model.
        coordinates: how its answers write places.
        read_rule: fields of the image rule that stand in ``vision_config``.
        nested: the decoder's keys are written in ``text_config``.
        taps: the key of the blocks whose features the decoder's first layers get too (DeepStack), if there is one.
        rules: names of what the forms call by different names, below the tower's prefix.
        layouts: of its checkpoints, each with the prefixes of the tower and of the decoder.
        image: what its image processor's file says, where there is no file.
        video: what its video processor's file says, where there is no file.
        timed: before each time of a video its seconds stand as text, and frames share their bounds.
    """

    model_type: str
    architecture: str
    processor: str
    text: DecoderForm
    defaults: Mapping[str, Any]
    widths: tuple[str, str]
    read_vision: Callable[[Json], dict[str, Any]]
    write_vision: Callable[[GridVitConfig, ImageRule | None], dict[str, Any]]
    coordinates: Literal["unit", "thousand", "abs"]
    read_rule: Callable[[Json], dict[str, Any]] | None = None
    nested: bool = False
    taps: str | None = None
    rules: tuple[Rule, ...] = RULES
    # Hub files, and what `transformers` writes; its names in memory since 4.52.
    layouts: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {"hf": ("visual.", "model."), "hf-nested": ("model.visual.", "model.language_model.")}
    )
    image: Mapping[str, Any] = field(default_factory=dict)
    video: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False

    def config_from_hf(self, raw: Json, names: Collection[str], parts: Mapping[str, Any]) -> VlmConfig:
        """Their config as ours, nested or flat."""
        text = section(raw, "text_config") or raw
        decoder = self.text.read(text)
        if "head_dim" not in self.text.defaults and decoder.channels * decoder.num_heads != decoder.hidden_size:
            raise unsupported("head_dim", decoder.channels, "hidden_size divided by num_attention_heads")
        if len(decoder.rope.sections) != 3 or 2 * sum(decoder.rope.sections) != decoder.channels:
            raise unsupported("mrope_section", decoder.rope.sections, f"three that sum to {decoder.channels // 2}")
        tie = bool(raw.get("tie_word_embeddings") or text.get("tie_word_embeddings"))
        if names:
            said = "tie_word_embeddings" in raw.keys() | text.keys()
            tie = "lm_head.weight" not in names and (tie or not said)
        vision = section(raw, "vision_config")
        tower, width = self._tower(vision)
        if width != decoder.hidden_size:
            raise unsupported(f"vision_config.{self.widths[1]}", width, f"the decoder's width, {decoder.hidden_size}")
        connector = ConnectorConfig(
            "patch_merger", tower.hidden_size, width, merge_size=tower.merge_size, norm=tower.norm,
            norm_eps=tower.norm_eps,
        )  # fmt: skip
        decoder = decoder.replace(tie_word_embeddings=tie)
        deep = self._deep_layers(vision, tower, decoder)
        tapped = connector.replace(norm_joined=True) if deep else None
        return VlmConfig(decoder, tower, connector, select_layers=(-1,), deep_layers=deep, deep_connector=tapped)

    def config_to_hf(self, config: VlmConfig, context: Context) -> dict[str, Any]:
        """Our config as theirs, as hub files have it.

        Raises:
            EyespotError: ``layout-unsupported`` naming the fields that this form cannot express.
        """
        if not isinstance(config.vision, GridVitConfig) or config.connector is None:
            raise EyespotError("layout-unsupported", f"{self.model_type} needs an encoder for pictures of any size")
        tower = config.vision
        text = self.text.write(config.decoder, context)
        raw = {"text_config": text, "tie_word_embeddings": text["tie_word_embeddings"]} if self.nested else text
        raw |= {
            "architectures": [self.architecture], "model_type": self.model_type,
            "image_token_id": IMAGE_TOKEN_ID if context.image_token_id is None else context.image_token_id,
            **{key: context.id_of(*token) for key, token in TOKENS.items()},
            **({} if context.video_token_id is None else {"video_token_id": context.video_token_id}),
            "vision_config": {
                "model_type": self.model_type, "depth": tower.num_layers, "num_heads": tower.num_heads,
                "in_channels": tower.channels, "patch_size": tower.patch_size,
                "spatial_merge_size": tower.merge_size, "temporal_patch_size": tower.temporal_patch_size,
                self.widths[0]: tower.hidden_size, self.widths[1]: config.connector.output_size,
                **self.write_vision(tower, context.image),
                **({self.taps: [layer - 1 for layer in config.deep_layers]} if self.taps else {}),
            },
        }  # fmt: skip
        if tower.rope_theta != ROPE_THETA:  # older versions have no key for it and know that one only
            raw["vision_config"]["rope_parameters"] = {"rope_type": "axial", "rope_theta": tower.rope_theta}
        again = self.config_from_hf(raw, (), {})
        lost = differences(config.replace(decoder=canonical(config.decoder)), again)
        if lost:
            raise EyespotError("layout-unsupported", f"{self.model_type} cannot express {'; '.join(lost)}")
        return raw

    def _tower(self, raw: Json) -> tuple[GridVitConfig, int]:
        """The tower, and the width that its merger gives."""
        raw = {**self.defaults, **raw}
        raw |= {key: _one(raw, key) for key in ("patch_size", "temporal_patch_size")}
        sizes = ("depth", "num_heads", "in_channels", "patch_size", "spatial_merge_size", "temporal_patch_size")
        check_sizes(raw, (*sizes, *self.widths), "vision_config.")
        width, heads, side = raw[self.widths[0]], raw["num_heads"], raw["patch_size"] * raw["spatial_merge_size"]
        if side > MAX_SIDE:
            raise unsupported("vision_config.patch_size", raw["patch_size"], f"blocks of up to {MAX_SIDE:,} pixels")
        if width % heads or width // heads % 4:
            raise unsupported("vision_config.num_heads", heads, "heads of a multiple of four channels")
        rope = section(raw, "rope_parameters")
        if rope.get("rope_type", "axial") not in ("axial", "default"):
            raise unsupported("vision_config.rope_parameters.rope_type", rope["rope_type"], "axial")
        own = {
            "hidden_size": width, "num_layers": raw["depth"], "num_heads": heads, "channels": raw["in_channels"],
            "patch_size": raw["patch_size"], "merge_size": raw["spatial_merge_size"],
            "temporal_patch_size": raw["temporal_patch_size"], "rope_theta": rope.get("rope_theta", ROPE_THETA),
            **self.read_vision(raw),
        }  # fmt: skip
        return GridVitConfig.from_dict(own, "vision_config"), raw[self.widths[1]]

    def _deep_layers(self, raw: Json, tower: GridVitConfig, decoder: DecoderConfig) -> tuple[int, ...]:
        """Hidden states behind the blocks that the config names; they rise, and none stands twice."""
        if self.taps is None:
            return ()
        blocks = {**self.defaults, **raw}[self.taps]
        rising = isinstance(blocks, (list, tuple)) and all(type(i) is int for i in blocks)
        if not rising or list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(tower.num_layers)):
            raise unsupported(f"vision_config.{self.taps}", blocks, f"rising numbers below {tower.num_layers}")
        if len(blocks) > decoder.num_layers:
            raise unsupported(f"vision_config.{self.taps}", blocks, f"up to {decoder.num_layers}, the decoder's layers")
        return tuple(block + 1 for block in blocks)

    def contract_from_hf(self, files: Files, config: VlmConfig, tokenizer: Tokenizer | None) -> Contract:
        """Image rule of the processor's files; sizes of patches and blocks must be the tower's."""
        token = files.get("tokenizer_config.json", {}).get("image_token") or IMAGE_TOKEN
        token_id = files.get("config.json", {}).get("image_token_id", IMAGE_TOKEN_ID)
        if not isinstance(token, str):
            raise unsupported("image_token", token, "text")
        if tokenizer is not None:
            check_image_token(token, token_id, tokenizer, config)
        video = _video_token(files, tokenizer, config)
        if video and self.timed:
            video |= _timed(video["video_token"])
        text = sidefiles.text_rule(files, tokenizer, _TEMPLATES, image_token=token, image_token_id=token_id, **video)
        image = image_rule(files, config.vision, self.image)
        if self.read_rule is not None:
            vision = section(files.get("config.json", {}), "vision_config")
            image = image.replace(**self.read_rule({**self.defaults, **vision}))
        contract = Contract(image=image, text=text, coordinates=self.coordinates)
        if not video:
            return contract
        raw = sidefiles.video_processor(files) or dict(self.video)
        least, most = _bounds({"size": _TIMED_SIZE if self.timed else _VIDEO_SIZE, **raw})
        video_rule = image.replace(min_pixels=least, max_pixels=most, apart=self.timed, shared_pixels=self.timed)
        return contract.replace(video=video_rule, frames=frame_rule(raw, video_rule))

    def contract_to_hf(self, contract: Contract, config: VlmConfig) -> dict[str, Any]:
        """Processor files that every version of `transformers` reads."""
        raw = {"preprocessor_config.json": image_file(contract.image) | {"processor_class": self.processor}}
        if contract.video is not None:
            kind = "Qwen3VLVideoProcessor" if self.timed else "Qwen2VLVideoProcessor"
            dropped = {"image_processor_type", *(("min_pixels", "max_pixels") if self.timed else ())}
            written = {key: value for key, value in image_file(contract.video).items() if key not in dropped}
            own = {"video_processor_type": kind, "processor_class": self.processor}
            raw["video_preprocessor_config.json"] = written | own | frame_keys(contract.frames, contract.video)
        return raw | sidefiles.template_files(contract.text.template)


def keymap(config: VlmConfig, visual: str, decoder: str, rules: tuple[Rule, ...] = RULES) -> KeyMap:
    """Tensor names below the prefixes of the tower and of the decoder; `rules` as of `GridForm`."""
    tower = config.vision
    kernel = (tower.channels, tower.temporal_patch_size, tower.patch_size, tower.patch_size)
    flat = tower.channels * tower.temporal_patch_size * tower.patch_size**2
    blocks = [
        # A kernel (E, c, frames, p, p) is a linear map of a raw patch (c, frame, row, column).
        Reshape("patch_embed.proj.weight", "stem.proj.weight", (-1, *kernel), (-1, flat)),
        Rule("blocks.{}.norm1.{}", "blocks.{}.norm1.{}"),
        Rule("blocks.{}.norm2.{}", "blocks.{}.norm2.{}"),
        Split("blocks.{}.attn.qkv.{}", "blocks.{}.attn.[].{}", ("q_proj", "k_proj", "v_proj")),
        Rule("blocks.{}.attn.proj.{}", "blocks.{}.attn.o_proj.{}"),
    ]
    return KeyMap([
        *within(blocks, visual, "vision_encoder."), *within(rules, visual),
        *decoder_rules(prefix=decoder), Rule("lm_head.weight", "lm_head.weight"),
    ])  # fmt: skip


_NAMES = ("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor")  # the second: the first's name in early files


def image_rule(files: Files, tower: GridVitConfig, published: Mapping[str, Any] = MappingProxyType({})) -> ImageRule:
    """What the image processor's file says, as our rule; without a file, what is `published`."""
    raw = sidefiles.image_processor(files) or dict(published)
    name = str(raw.get("image_processor_type") or raw.get("feature_extractor_type") or "Qwen2VLImageProcessor")
    if name.removesuffix("Fast").removesuffix("Pil") not in _NAMES:
        raise unsupported("image_processor_type", name, "Qwen2VLImageProcessor")
    own = {"patch_size": tower.patch_size, "merge_size": tower.merge_size}
    own |= {"temporal_patch_size": tower.temporal_patch_size}
    raw = {**_PROCESSOR, **own, **raw}
    for key, value in own.items():
        if raw[key] != value:
            raise unsupported(key, raw[key], f"the encoder's, {value}")
    if not raw["do_resize"]:
        raise unsupported("do_resize", False, "true")
    if raw["resample"] not in range(len(sidefiles.RESAMPLE)):
        raise unsupported("resample", raw["resample"], f"a number below {len(sidefiles.RESAMPLE)}")
    least, most = _bounds(raw)
    return ImageRule.from_dict({
        "resize": "dynamic", "crop": False, "min_pixels": least, "max_pixels": most, "positions": "grid",
        "resample": sidefiles.RESAMPLE[raw["resample"]], "normalize": bool(raw["do_normalize"]),
        "scale": raw["rescale_factor"] if raw["do_rescale"] else 1.0,
        "mean": raw["image_mean"], "std": raw["image_std"], **own,
    }, "image processor")  # fmt: skip


def image_file(rule: ImageRule | None) -> dict[str, Any]:
    """preprocessor_config.json for a rule, with the bounds in both spellings.

    Raises:
        EyespotError: ``layout-unsupported`` where the published class cannot do what the rule asks.
    """
    if rule is None or rule.resize != "dynamic":
        raise EyespotError(
            "layout-unsupported", "its image processor takes pictures of any size (contract.image.resize)"
        )
    return {
        "image_processor_type": "Qwen2VLImageProcessor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        "min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels,
        "resample": sidefiles.RESAMPLE.index(rule.resample), "do_rescale": rule.scale != 1.0,
        "rescale_factor": rule.scale, "do_normalize": rule.normalize, "image_mean": list(rule.mean),
        "image_std": list(rule.std), "patch_size": rule.patch_size, "merge_size": rule.merge_size,
        "temporal_patch_size": rule.temporal_patch_size,
    }  # fmt: skip


def tiny_grid(tower: GridVitConfig, **changes: Any) -> VlmConfig:
    """A tower of width 16 with its merger and a small decoder; `changes` are the decoder's."""
    decoder = DecoderConfig(
        vocab_size=200, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=64,
        max_position_embeddings=512, qkv_bias=True, rope=RopeConfig(1e6, sections=(1, 1, 2)),
    )  # fmt: skip
    merger = ConnectorConfig("patch_merger", 16, 32, merge_size=tower.merge_size, norm=tower.norm)
    return VlmConfig(decoder.replace(**changes), tower, merger, select_layers=(-1,))


def grid_family(form: GridForm, tiny: Callable[[], dict[str, Any]]) -> Family:
    """The family of one form."""
    return Family(
        name=form.model_type,
        model_types=(form.model_type,),
        config_from_hf=form.config_from_hf,
        layouts={
            name: Layout(lambda config, prefixes=prefixes: keymap(config, *prefixes, form.rules), form.config_to_hf)
            for name, prefixes in form.layouts.items()
        },
        contract_from_hf=form.contract_from_hf,
        contract_to_hf=form.contract_to_hf,
        tiny=tiny,
        holds=lambda config: isinstance(config, VlmConfig) and isinstance(config.vision, GridVitConfig),
        modules="hf-nested" if "hf-nested" in form.layouts else "",
    )


def _video_token(files: Files, tokenizer: Tokenizer | None, config: VlmConfig) -> dict[str, Any]:
    """Fields of the text rule for videos; none where the tokenizer does not know the config's video token."""
    token, published = TOKENS["video_token_id"]
    own = tokenizer.id_of(token) if tokenizer is not None else published
    token_id = files.get("config.json", {}).get("video_token_id", own)
    known = tokenizer is None or (own is not None and token_id == own and own < config.decoder.vocab_size)
    return {"video_token": token, "video_token_id": token_id} if known else {}


def _timed(token: str) -> dict[str, Any]:
    """Fields of the text rule for a video whose times are written out, as the models were trained.

    `transformers` wrote it so when they came out; from 5 on it leaves the template's start and end around all times.
    """
    start, end = (TOKENS[f"vision_{side}_token_id"][0] for side in ("start", "end"))
    place = start + token + end
    return {"frame_form": "<{seconds} seconds>" + place, "frame_join": "", "frame_place": place}


def _bounds(raw: Json) -> tuple[int, int]:
    """Least and most pixels: the older keys, where they are there, come before those in `size`."""
    size = section(raw, "size")
    found = []
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        values = (raw.get(old), size.get(old), size.get(new))
        found.append(next((value for value in values if value is not None), None))
    for value, key in zip(found, ("min_pixels", "max_pixels"), strict=True):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise unsupported(key, value, "a positive whole number")
    if found[0] > min(found[1], MAX_SIDE**2):  # a small picture is made that large
        raise unsupported("min_pixels", found[0], f"up to max_pixels and {MAX_SIDE**2:,}")
    return found[0], found[1]


def _one(raw: Json, key: str) -> Any:
    """A size that may be written once for each axis."""
    value = raw[key]
    sides = value if isinstance(value, (list, tuple)) else [value]
    if not sides or any(side != sides[0] for side in sides):
        raise unsupported(f"vision_config.{key}", value, "the same on every axis")
    return sides[0]
