"""One file for each model family, a description; and what reads and writes checkpoints of all of them."""

from eyespot.families.compose import compose
from eyespot.families.converting import convert
from eyespot.families.family import Family, Loaded, build
from eyespot.families.loading import load, open_part
from eyespot.families.saving import save, save_adapter
from eyespot.families.table import TABLE, all_families

__all__ = [
    "TABLE", "Family", "Loaded", "all_families", "build", "compose", "convert", "load", "open_part", "save",
    "save_adapter",
]  # fmt: skip
