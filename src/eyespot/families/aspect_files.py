"""Processor files of models that cut tiles by aspect ratio (InternVL in Hugging Face's layout), both ways.

The processor of `transformers` always cuts, whatever ``crop_to_patches`` says, and never without the whole picture
behind several tiles; ``max_patches: 1`` is how a checkpoint says that it does not cut. Frames of a video are not cut.
"""

from typing import Any

from eyespot.contracts.contract import AspectTiling, FrameRule, ImageRule
from eyespot.errors import EyespotError
from eyespot.families import sidefiles
from eyespot.families.family import Files, Json, section, unsupported
from eyespot.families.framing import counted_keys, counted_rule
from eyespot.models.vlm import VlmConfig

_IMAGE = "GotOcr2ImageProcessor"
FRAMES = 8  # of a film, as the model cards have it
_CLASS = {  # what the published class does with keys that its file leaves out
    "do_resize": True, "size": {"height": 384, "width": 384}, "resample": 3, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": sidefiles.CLIP_MEAN,
    "image_std": sidefiles.CLIP_STD, "min_patches": 1, "max_patches": 12,
}  # fmt: skip


def image_rule(files: Files, config: VlmConfig) -> ImageRule:
    """What the image processor's file says; where there is none, as published with the tower's size."""
    raw = sidefiles.image_processor(files) or _published(config)
    name = str(raw.get("image_processor_type") or raw.get("feature_extractor_type") or _IMAGE)
    if name.removesuffix("Fast").removesuffix("Pil") != _IMAGE:
        raise unsupported("image_processor_type", name, _IMAGE)
    raw = {**_CLASS, **raw}
    least, most = raw["min_patches"], raw["max_patches"]
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in (least, most)):
        raise unsupported("max_patches", most, "whole numbers of tiles")
    rule = _rule(raw, config)
    return rule.replace(aspect_tiling=AspectTiling(least, most)) if most > 1 else rule


def video_rule(files: Files, config: VlmConfig) -> ImageRule:
    """What the video processor's file says of each frame; where there is none, as for pictures."""
    return _rule({**_CLASS, **(sidefiles.video_processor(files) or _published(config))}, config)


def frame_rule(files: Files) -> FrameRule:
    """Which frames of a film are taken."""
    return counted_rule(sidefiles.video_processor(files), FRAMES, "segments", "middles")


def files_of(image: ImageRule, video: ImageRule | None, frames: FrameRule | None = None) -> dict[str, Any]:
    """preprocessor_config.json and its like for the rules.

    Raises:
        EyespotError: ``layout-unsupported`` where the published classes cannot do what a rule asks.
    """
    tiling = image.aspect_tiling
    if tiling is not None and not tiling.thumbnail:
        raise EyespotError("layout-unsupported", f"{_IMAGE} always puts the whole picture behind several tiles")
    bounds = (tiling.least, tiling.most) if tiling is not None else (1, 1)
    raw = _file(image) | {"min_patches": bounds[0], "max_patches": bounds[1], "crop_to_patches": tiling is not None}
    files = {"preprocessor_config.json": {"image_processor_type": _IMAGE, "processor_class": "InternVLProcessor"} | raw}
    if video is not None:
        kind = {"video_processor_type": "InternVLVideoProcessor", "processor_class": "InternVLProcessor"}
        files["video_preprocessor_config.json"] = kind | _file(video) | counted_keys(frames)
    side = image.size[0] // image.patch_size // image.merge_size
    files["processor_config.json"] = {"processor_class": "InternVLProcessor", "image_seq_length": side**2}
    return files


def check_sequence(files: Files, rule: ImageRule) -> None:
    """Refuse a processor that counts other tokens for a tile than the model makes."""
    count = (rule.size[0] // rule.patch_size // rule.merge_size) ** 2
    for name in ("processor_config.json", "config.json"):
        said = files.get(name, {}).get("image_seq_length", count)
        if said != count:
            raise unsupported(f"{name}: image_seq_length", said, f"{count}, for tiles of {rule.size[0]} pixels")


def _published(config: VlmConfig) -> dict[str, Any]:
    height, width = config.vision.image_size
    size = {"height": height, "width": width}
    return {"size": size, "image_mean": sidefiles.IMAGENET_MEAN, "image_std": sidefiles.IMAGENET_STD}


def _rule(raw: Json, config: VlmConfig) -> ImageRule:
    tower, merge = config.vision, config.connector.merge_size
    size, block = section(raw, "size"), tower.patch_size * merge
    side = size.get("height")
    if not isinstance(side, int) or size.get("width") != side or side < 1 or side % block or side > 64 * block:
        raise unsupported("size", raw["size"], f"a square in multiples of {block}, up to {64 * block}")
    if not raw["do_resize"] or raw.get("do_center_crop"):
        raise unsupported("do_resize", raw["do_resize"], "true, and do_center_crop false")
    if raw["resample"] not in range(len(sidefiles.RESAMPLE)):
        raise unsupported("resample", raw["resample"], f"a number below {len(sidefiles.RESAMPLE)}")
    return ImageRule.from_dict({
        "size": (side, side), "resize": "exact", "crop": False, "resample": sidefiles.RESAMPLE[raw["resample"]],
        "scale": raw["rescale_factor"] if raw["do_rescale"] else 1.0, "normalize": bool(raw["do_normalize"]),
        "mean": raw["image_mean"], "std": raw["image_std"], "patch_size": tower.patch_size, "merge_size": merge,
    }, "image processor")  # fmt: skip


def _file(rule: ImageRule) -> dict[str, Any]:
    if rule.block_order != "rows":
        raise EyespotError(
            "layout-unsupported", "Hugging Face's pixel shuffle goes row by row (contract.image.block_order)"
        )
    if rule.resize != "exact" or rule.tiling is not None or rule.size[0] != rule.size[1]:
        raise EyespotError("layout-unsupported", f"{_IMAGE} squeezes pictures to square tiles (contract.image)")
    return {
        "do_convert_rgb": True, "do_resize": True, "size": {"height": rule.size[0], "width": rule.size[1]},
        "resample": sidefiles.RESAMPLE.index(rule.resample), "do_rescale": rule.scale != 1.0,
        "rescale_factor": rule.scale, "do_normalize": rule.normalize, "image_mean": list(rule.mean),
        "image_std": list(rule.std),
    }  # fmt: skip
