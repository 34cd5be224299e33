"""A checkpoint's small files: which are read, and what processor files say about pictures, templates and end tokens.

Reads the spellings of `transformers` 4 and 5 (`preprocessor_config.json`, or nested in `processor_config.json`;
templates in Jinja, JSON or the tokenizer's config) and writes those that both read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eyespot.contracts.contract import ImageRule, TextRule, Tiling
from eyespot.errors import EyespotError
from eyespot.families.family import MAX_SIDE, Files, unsupported
from eyespot.inputs.tokenizer import Tokenizer
from eyespot.runtime.small_files import read_text
from eyespot.weights.files import read_json

JSON_FILES = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "chat_template.json", "tokenizer_config.json", "eyespot.json",
    "open_clip_config.json",
)  # fmt: skip
# Files that are written from the contract and the config; the tokenizer writes its own.
OWN = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.json",
    "chat_template.jinja",
)  # fmt: skip
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # PIL's numbers
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# What else ends an answer under a `chat_format` of generation_config.json; the list stands in the authors' code.
CHAT_STOPS = {"chatml": ("<|im_end|>", "<|im_start|>")}

_CLIP = {
    "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
}  # fmt: skip
_SIGLIP = {
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3, "do_center_crop": False,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5),
}  # fmt: skip
# Of any-resolution tiles; its `do_pad` fills batches up with empty tiles, and pads no picture.
TILED = "LlavaNextImageProcessor"
_TILED = _CLIP | {
    "do_pad": True, "image_grid_pinpoints": ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)),
}  # fmt: skip
# The same for a picture that is alone; the tiles have the size that the file states, with no crop to it.
TILED_ALONE = "LlavaOnevisionImageProcessor"
_TILED_ALONE = _CLIP | {
    "size": {"height": 384, "width": 384}, "do_center_crop": None, "crop_size": None, "do_pad": True,
    "image_grid_pinpoints": tuple((384 * rows, 384 * columns) for rows in range(1, 7) for columns in range(1, 7)),
}  # fmt: skip
TILERS = (TILED, TILED_ALONE)
# Of pictures in their own aspect; it says how many patches they may have, not how large they are.
PATCHED = "Siglip2ImageProcessor"
_PATCHED = _SIGLIP | {"resample": 2, "patch_size": 16, "max_num_patches": 256}
# What each published processor class does with keys that its file leaves out.
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "CLIPImageProcessor": _CLIP, "LlavaImageProcessor": _CLIP | {"do_pad": False}, "SiglipImageProcessor": _SIGLIP,
    TILED: _TILED, TILED_ALONE: _TILED_ALONE, PATCHED: _PATCHED, "BitImageProcessor": _CLIP,
    "ViTImageProcessor": _SIGLIP | {"resample": 2},
}  # fmt: skip
_UNCUT = ("SiglipImageProcessor", "ViTImageProcessor")  # both sides to the size, and nothing to crop


def read(folder: Path) -> dict[str, Any]:
    """The small files of a checkpoint that are there, by name."""
    files: dict[str, Any] = {name: read_json(folder / name) for name in JSON_FILES if (folder / name).is_file()}
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        files[jinja.name] = read_text(jinja)
    return files


def template(files: Files, order: Sequence[str]) -> str | None:
    """The chat template that `transformers` would use, looked for in `order`."""
    for name in order:
        found = files.get(name)
        found = found.get("chat_template") if isinstance(found, Mapping) else found
        if isinstance(found, list):  # several named templates
            found = {t.get("name"): t.get("template") for t in found if isinstance(t, Mapping)}
        if isinstance(found, Mapping):
            found = found.get("default")
        if isinstance(found, str):
            return found
    return None


def template_files(text: str | None) -> dict[str, Any]:
    """The file that a template is written to."""
    return {} if text is None else {"chat_template.jinja": text}


def stop_tokens(files: Files, tokenizer: Tokenizer | None = None) -> tuple[int, ...]:
    """End tokens: of generation_config.json, else of the config, else of the tokenizer; and of a ``chat_format``."""
    own = _stated_stops(files, tokenizer)
    form = files.get("generation_config.json", {}).get("chat_format")
    more = [tokenizer.id_of(token) for token in CHAT_STOPS.get(str(form), ())] if tokenizer else []
    return tuple(dict.fromkeys([*own, *(token for token in more if token is not None)]))


def _stated_stops(files: Files, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    config = files.get("config.json", {})
    for source in (files.get("generation_config.json", {}), config.get("text_config") or {}, config):
        found = source.get("eos_token_id")
        if found is not None:
            found = tuple(found) if isinstance(found, (list, tuple)) else (found,)
            if not all(isinstance(token, int) for token in found):
                raise unsupported("eos_token_id", source["eos_token_id"], "an id or a list of ids")
            return found
    own = tokenizer.id_of(tokenizer.eos_token) if tokenizer and tokenizer.eos_token else None
    return () if own is None else (own,)


def one_or_many(ids: tuple[int, ...]) -> int | list[int] | None:
    """Ids as a config file writes them."""
    return list(ids) if len(ids) > 1 else ids[0] if ids else None


def text_rule(files: Files, tokenizer: Tokenizer | None, order: Sequence[str], **fields: Any) -> TextRule:
    """The rule of a conversation's text."""
    if tokenizer is not None:
        fields |= {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token}
    fields.setdefault("template", template(files, order))
    return TextRule(stop_tokens=stop_tokens(files, tokenizer), **fields)


def image_rule(
    files: Files, kind: str, *, patch_size: int, image_size: tuple[int, int], extra_tokens: int = 0
) -> ImageRule:
    """What the image processor's file says, as our rule.

    Args:
        files: the checkpoint's small files.
        kind: the processor class where no file names one.
        patch_size: of the encoder.
        image_size: of the encoder, where there is no file.
        extra_tokens: of the encoder beside the grid.
    """
    raw = image_processor(files)
    if not raw:
        raw = {"size": _written_size(kind, image_size), "crop_size": _sides(image_size), "patch_size": patch_size}
    name = raw.get("image_processor_type") or raw.get("feature_extractor_type") or kind
    name = str(name).removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    known = [kind] if kind in (*TILERS, PATCHED) else [n for n in PROCESSORS if n not in (*TILERS, PATCHED)]
    if name not in known:
        raise unsupported("image_processor_type", name, ", ".join(known))
    raw, own = {**PROCESSORS[name], **raw}, {}
    if name in TILERS:
        # A tile has its final size from the start: what resizes and crops it further does nothing.
        size = _tile(raw)
        own = {"tiling": Tiling(canvases(raw["image_grid_pinpoints"], size))}
        raw |= {"do_resize": True, "do_center_crop": False, "do_pad": False, "size": _sides(size)}
    if name == PATCHED:
        own = {"resize": "patches", "max_patches": _patches(raw, patch_size)}
        raw |= {"do_center_crop": False, "size": _sides(image_size)}
    resize, size, shortest_edge = _resize(raw)
    if raw["resample"] not in range(len(RESAMPLE)):
        raise unsupported("resample", raw["resample"], f"a number below {len(RESAMPLE)}")
    rule = ImageRule.from_dict({
        "size": size, "resize": resize, "shortest_edge": shortest_edge, "crop": bool(raw["do_center_crop"]),
        "resample": RESAMPLE[raw["resample"]], "scale": raw["rescale_factor"] if raw["do_rescale"] else 1.0,
        "normalize": bool(raw["do_normalize"]), "mean": raw["image_mean"], "std": raw["image_std"],
        "patch_size": patch_size, "extra_tokens": extra_tokens, **own,
    }, "image processor")  # fmt: skip
    return padded(rule) if resize == "pad" else rule


def imagenet_rule(files: Files, **sizes: Any) -> ImageRule:
    """As `image_rule` of CLIP's class, whose colours are ImageNet's where no file says others."""
    rule = image_rule(files, "CLIPImageProcessor", **sizes)
    return rule if image_processor(files) else rule.replace(mean=IMAGENET_MEAN, std=IMAGENET_STD)


def image_processor(files: Files) -> dict[str, Any]:
    """The image processor's settings, wherever the checkpoint keeps them."""
    nested = files.get("processor_config.json", {}).get("image_processor")
    return dict(nested if isinstance(nested, Mapping) else files.get("preprocessor_config.json", {}))


def video_processor(files: Files) -> dict[str, Any]:
    """The video processor's settings; where there are none of its own, the image processor's, as published."""
    nested = files.get("processor_config.json", {}).get("video_processor")
    if isinstance(nested, Mapping):
        return dict(nested)
    own = files.get("video_preprocessor_config.json")
    return dict(own) if own else image_processor(files)


def padded(rule: ImageRule) -> ImageRule:
    """The same rule on a canvas padded to a square with the mean colour."""
    colour = tuple(int(m * 255) for m in rule.mean)
    return rule.replace(resize="pad", shortest_edge=None, pad_color=colour, tiling=None)


def with_image_processor(files: Files, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The files with another image processor, and no trace of the old one."""
    files = dict(files)
    if "processor_config.json" in files:
        kept = {key: value for key, value in files["processor_config.json"].items() if key != "image_processor"}
        files["processor_config.json"] = kept
    return files | {"preprocessor_config.json": dict(settings)}


def image_files(rule: ImageRule, kind: str) -> dict[str, Any]:
    """preprocessor_config.json for a rule.

    Raises:
        EyespotError: ``layout-unsupported`` where the published class cannot do what the rule asks.
    """
    if (rule.tiling is None) == (kind in TILERS):
        raise EyespotError(
            "layout-unsupported", f"{kind} cuts {'' if kind in TILERS else 'no '}tiles (contract.image.tiling)"
        )
    if (rule.max_patches is None) == (kind == PATCHED):
        raise EyespotError("layout-unsupported", f"{kind} cannot resize by {rule.resize!r} (contract.image.resize)")
    name = "LlavaImageProcessor" if rule.resize == "pad" else kind
    if rule.resize in ("pad", "shortest_edge") and kind in _UNCUT:
        raise EyespotError("layout-unsupported", f"{kind} can neither pad nor crop (contract.image.resize)")
    edge = rule.shortest_edge or min(rule.size)
    raw: dict[str, Any] = {
        "image_processor_type": name, "do_convert_rgb": True, "do_resize": rule.resize != "none",
        "size": {"shortest_edge": edge} if rule.resize in ("shortest_edge", "pad") else _sides(rule.size),
        "resample": RESAMPLE.index(rule.resample), "do_rescale": rule.scale != 1.0, "rescale_factor": rule.scale,
        "do_normalize": rule.normalize, "image_mean": list(rule.mean), "image_std": list(rule.std),
    }  # fmt: skip
    if kind not in _UNCUT:
        raw |= {"do_center_crop": rule.crop, "crop_size": _sides(rule.size)}
    if name == "LlavaImageProcessor":
        raw["do_pad"] = rule.resize == "pad"
    if rule.max_patches is not None:
        raw = {key: value for key, value in raw.items() if key not in ("size", "do_center_crop", "crop_size")}
        raw |= {"patch_size": rule.patch_size, "max_num_patches": rule.max_patches}
    if kind == TILED:
        raw |= {"size": {"shortest_edge": edge}, "do_center_crop": True}
    if rule.tiling is not None:
        raw["do_pad"] = True
        raw["image_grid_pinpoints"] = [list(canvas) for canvas in rule.tiling.canvases]
    return {"preprocessor_config.json": raw}


def _resize(raw: Mapping[str, Any]) -> tuple[str, tuple[int, int], int | None]:
    size, crop = raw["size"], raw.get("crop_size")
    edge = size if isinstance(size, int) and raw["do_center_crop"] else None
    if isinstance(size, Mapping) and "shortest_edge" in size:
        edge = _side(size["shortest_edge"], "size.shortest_edge")
    sides = None if edge is not None else _pair(size, "size")
    target = _pair(crop, "crop_size") if raw["do_center_crop"] else sides
    if target is None:
        raise unsupported("do_center_crop", False, "true where size names the shortest edge")
    if not raw["do_resize"]:
        return "none", target, None
    if raw.get("do_pad"):
        if set(target) != {edge if edge is not None else sides}:
            raise unsupported("do_pad", True, "with size equal to crop_size")
        return "pad", target, None
    if edge is not None:
        return "shortest_edge", target, None if edge == min(target) else edge
    if sides != target:
        raise unsupported("crop_size", crop, "the same as size")
    return "exact", target, None


def _tile(raw: Mapping[str, Any]) -> tuple[int, int]:
    """The square that tiles are cut to and the whole picture is squeezed to."""
    size, crop = raw["size"], raw["crop_size"]
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
    tile = _pair(size if edge is None else edge, "size")
    if len({*tile, *(_pair(crop, "crop_size") if crop else tile)}) != 1:
        raise unsupported("crop_size", crop, f"a square equal to size ({size})")
    return tile


def _patches(raw: Mapping[str, Any], patch_size: int) -> int:
    """How many patches a picture may have, where the file's other settings can be followed."""
    most = raw["max_num_patches"]
    if raw["patch_size"] != patch_size:
        raise unsupported("patch_size", raw["patch_size"], f"the tower's ({patch_size})")
    if not raw["do_resize"]:
        raise unsupported("do_resize", False, "true")
    if not isinstance(most, int) or not 1 <= most <= MAX_SIDE:
        raise unsupported("max_num_patches", most, f"from 1 to {MAX_SIDE:,}")
    return most


def canvases(pinpoints: Any, tile: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """``image_grid_pinpoints`` as (height, width) in whole tiles."""
    key, known = "image_grid_pinpoints", f"a list of (height, width) in multiples of {tile[0]}"
    if not isinstance(pinpoints, (list, tuple)) or not pinpoints:
        raise unsupported(key, pinpoints, known)
    for pair in pinpoints:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or any(_side(side, key) % tile[0] for side in pair):
            raise unsupported(key, pair, known)
    return tuple((height, width) for height, width in pinpoints)


def _pair(size: Any, key: str) -> tuple[int, int]:
    if isinstance(size, int):
        return _side(size, key), size
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        return _side(size["height"], f"{key}.height"), _side(size["width"], f"{key}.width")
    raise unsupported(key, size, "a number, or height and width")


def _side(value: Any, key: str) -> int:
    if not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise unsupported(key, value, f"pixels from 1 to {MAX_SIDE:,}")
    return value


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}


def _written_size(kind: str, size: tuple[int, int]) -> dict[str, int]:
    return _sides(size) if kind in _UNCUT else {"shortest_edge": min(size)}
