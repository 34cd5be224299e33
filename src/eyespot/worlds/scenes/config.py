"""`ScenesConfig`: which part of the scenes world is drawn and asked about. The default is the whole world."""

from dataclasses import dataclass

from eyespot.contracts.config import Config
from eyespot.errors import EyespotError, nearest
from eyespot.worlds.scenes import words

TEXTURES = ("plain", "striped", "dotted", "gradient", "outlined")
STYLES = ("clean", "freehand", "hollow")
GROUNDS = ("plain", "gradient", "noise", "lines", "blobs", "busy", "photo")
# name → (kept for held-out splits, comes with matplotlib rather than Pillow)
FONTS = {
    "aileron": (False, False),
    "bold": (False, False),
    "bitmap": (True, False),
    "sans": (False, True),
    "mono": (False, True),
    "serif": (True, True),
}
REFERENCES = ("shape", "colour", "pair", "sized")
HELD_OUT = ("pairs", "counts", "places")


@dataclass(frozen=True)
class ScenesConfig(Config):
    """What is drawn, what is asked, and what is kept out of training.

    Attributes:
        shapes, colours, sizes, textures, styles, grounds: what pictures are made of. ``photo`` grounds need
            scikit-learn's two sample pictures.
        fonts: for words in pictures; Pillow's own, or matplotlib's where installed (``sans``, ``mono``, ``serif``).
        objects: fewest and most objects.
        sides: least and greatest length of a picture's shorter side, in pixels.
        aspect: least and greatest width ÷ height.
        types: what is asked, see `words.TYPES`; a type named twice is asked twice as often.
        questions: most questions of a training picture.
        references: how an object may be named: by shape, colour, both, or size and shape.
        phrasings: how many phrasings of each type are used, from the first; 0 for all.
        languages: ``en``, ``ko``.
        held_out: what training never draws: colour–shape ``pairs``, ``counts`` of a shape, ``places`` of a shape.
        one_question: one question for each example, with its truth as target and no answer in the messages; None
            for "in every split but train".
    """

    shapes: tuple[str, ...] = tuple(words.SHAPES)
    colours: tuple[str, ...] = tuple(words.COLOURS)
    sizes: tuple[str, ...] = tuple(words.SIZES)
    textures: tuple[str, ...] = TEXTURES
    styles: tuple[str, ...] = STYLES
    grounds: tuple[str, ...] = GROUNDS
    fonts: tuple[str, ...] = ("aileron", "bold", "bitmap")
    objects: tuple[int, int] = (1, 4)
    sides: tuple[int, int] = (64, 192)
    aspect: tuple[float, float] = (0.6, 1.7)
    types: tuple[str, ...] = words.TYPES
    questions: int = 8
    references: tuple[str, ...] = REFERENCES
    phrasings: int = 0
    languages: tuple[str, ...] = ("en",)
    held_out: tuple[str, ...] = HELD_OUT
    one_question: bool | None = None

    def __post_init__(self) -> None:
        """Refuse names that the world does not know, before anything is drawn."""
        known = {
            "shapes": words.SHAPES,
            "colours": words.COLOURS,
            "sizes": words.SIZES,
            "textures": TEXTURES,
            "styles": STYLES,
            "grounds": GROUNDS,
            "fonts": FONTS,
            "types": words.TYPES,
            "references": REFERENCES,
            "languages": ("en", "ko"),
            "held_out": HELD_OUT,
        }
        for key, names in known.items():
            values = getattr(self, key)
            for value in values:
                if value not in names:
                    raise EyespotError("config-value", f"unknown {key} {value!r}{nearest(value, names)}", where=key)
            if not values and key != "held_out":
                raise EyespotError("config-value", f"{key} is empty", where=key)
        for key, least in (("objects", 1), ("sides", 16), ("aspect", 0.2)):
            low, high = getattr(self, key)
            if not least <= low <= high:
                raise EyespotError("config-value", f"expected {least} ≤ low ≤ high, got {low}, {high}", where=key)


# Six kinds of question over four shapes in six colours: what a tiny model learns in minutes. No optional packages.
SMALL = ScenesConfig(
    shapes=("circle", "square", "triangle", "star"),
    colours=("red", "green", "blue", "yellow", "purple", "orange"),
    sizes=("small", "large"),
    textures=("plain", "gradient", "outlined"),
    styles=("clean", "freehand"),
    grounds=("plain", "gradient", "noise", "lines", "blobs", "busy"),
    sides=(64, 96),
    types=("colour", "shape", "count", "existence", "side", "height"),
    references=("shape", "colour", "pair"),
    held_out=("pairs",),
)
