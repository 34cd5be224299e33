"""The table of families: the file that describes each ``model_type``. A new family is a line here and that file."""

import importlib
from importlib.metadata import entry_points

from eyespot.errors import EyespotError, nearest
from eyespot.families.family import Family, Json

# config.json's model_type: the module that describes it, imported when it is asked for.
TABLE = {
    "internvl": "eyespot.families.internvl",
    "internvl_chat": "eyespot.families.internvl",
    "internvl_c": "eyespot.families.internvl_c",
    "intern_vit_6b": "eyespot.families.intern_vit",
    "llava": "eyespot.families.llava",
    "llava_llama": "eyespot.families.llava",
    "llava_mistral": "eyespot.families.llava",
    "llava_qwen": "eyespot.families.llava",
    "llava_next": "eyespot.families.llava_next",
    "llava_onevision": "eyespot.families.llava_onevision",
    "clip": "eyespot.families.clip",
    "clip_vision_model": "eyespot.families.clip",
    "siglip": "eyespot.families.siglip",
    "siglip_vision_model": "eyespot.families.siglip",
    "siglip2": "eyespot.families.siglip2",
    "siglip2_vision_model": "eyespot.families.siglip2",
    "vit": "eyespot.families.vit",
    "dinov2": "eyespot.families.dinov2",
    "dinov2_with_registers": "eyespot.families.dinov2",
    "vision-text-dual-encoder": "eyespot.families.vision_text_dual_encoder",
    "open_clip": "eyespot.families.open_clip",
    "llama": "eyespot.families.llama",
    "qwen": "eyespot.families.qwen",
    "qwen2": "eyespot.families.qwen2",
    "qwen3": "eyespot.families.qwen3",
    "mistral": "eyespot.families.mistral",
    "qwen2_vl": "eyespot.families.qwen2_vl",
    "qwen2_5_vl": "eyespot.families.qwen2_5_vl",
    "qwen3_vl": "eyespot.families.qwen3_vl",
    "eyespot": "eyespot.families.eyespot_native",
}
# A type that two families are published under: the key of config.json that tells, and the type it then stands for.
SHARED = {"internvl": ("qllama_config", "internvl_c")}
# Known by name and not read; without this the nearest name would be proposed.
UNREAD = {"qwen3_vl_moe": "has a mixture of experts in its decoder; of Qwen3-VL the dense form is read, qwen3_vl"}
GROUP = "eyespot.families"  # of entry points, by which another package brings a family under a ``model_type``
DESCRIBED = ("open_clip", "internvl_c")  # of these, what may come without a readable config.json


def family_of(raw: Json, where: str = "") -> Family:
    """The family of a config.json.

    Raises:
        EyespotError: ``unknown-family`` naming the nearest ``model_type``; ``not-supported`` for one that is known.
    """
    model_type = raw.get("model_type")
    key, other = SHARED.get(model_type, (None, None)) if isinstance(model_type, str) else (None, None)
    model_type = other if key in raw else model_type
    if isinstance(model_type, str) and model_type in TABLE:
        return importlib.import_module(TABLE[model_type]).FAMILY
    for found in entry_points(group=GROUP, name=str(model_type)):  # of other packages
        return found.load().FAMILY
    if isinstance(model_type, str) and model_type in UNREAD:
        raise EyespotError("not-supported", f"model_type {model_type!r} {UNREAD[model_type]}", where=where)
    message = f"model_type {model_type!r} is not known{nearest(str(model_type), TABLE)}"
    raise EyespotError("unknown-family", message, where=where)


def all_families() -> list[Family]:
    """All families, in the order of the table, then those of other packages."""
    own = [importlib.import_module(name).FAMILY for name in dict.fromkeys(TABLE.values())]
    return own + [found.load().FAMILY for found in entry_points(group=GROUP)]
