"""The scenes world: drawn objects on grounds, questions in English and Korean, exact truth, splits that are apart."""

from eyespot.worlds.scenes.config import SMALL, ScenesConfig
from eyespot.worlds.scenes.notes import Notes
from eyespot.worlds.scenes.splits import HELD_OUT_COUNTS, HELD_OUT_PAIRS, HELD_OUT_PLACES, SPLITS
from eyespot.worlds.scenes.world import Scenes

__all__ = ["HELD_OUT_COUNTS", "HELD_OUT_PAIRS", "HELD_OUT_PLACES", "Notes", "SMALL", "SPLITS", "Scenes", "ScenesConfig"]
