"""`Contract`: everything about a model's input that is not a weight. Versioned, hashed, stored in the checkpoint.

The same object is used by training, command line, evaluation, serving and export, so that what a model sees when
it answers is what it saw when it learnt. Changing any field changes `Contract.id`.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from eyespot.contracts.config import Config
from eyespot.errors import EyespotError

VERSION = 1


def later(default: Any) -> Any:
    """A field that came after checkpoints were sealed: at its default it leaves their `Contract.id` as it was."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Tiling(Config):
    """Any-resolution tiles (LLaVA-NeXT).

    A picture is fitted onto one of several canvases, aspect kept, black around it, and the canvas is cut into tiles of
    the model's input size; the whole picture, squeezed to one such tile, goes before them.

    Attributes:
        pinpoints: sides of the canvases in pixels; among canvases that serve a picture equally the first is taken.
        order: how a pair is read. Hugging Face reads height first, the authors' code width first. The published lists
            hold every canvas both ways round, so the readings differ only where a wide and a tall canvas serve a
            picture equally: pictures no larger than a tile, and lines of which nothing is left. Hugging Face then
            takes the wide one, the authors the tall one.
        shrink_to: tiles whose features the map of a picture may be as many as; a larger map is scaled down to about
            that many (LLaVA-OneVision's ``anyres_max_9``). None: never.
    """

    pinpoints: tuple[tuple[int, int], ...]
    order: Literal["height_width", "width_height"] = "height_width"
    shrink_to: int | None = later(None)

    def __post_init__(self) -> None:
        """Refuse an empty list, and sides and numbers of tiles below 1."""
        if not self.pinpoints or min(map(min, self.pinpoints)) < 1:
            message = f"expected canvases with sides from 1 up, got {self.pinpoints}"
            raise EyespotError("config-value", message, where="contract.image.tiling")
        if self.shrink_to is not None and self.shrink_to < 1:
            message = f"expected shrink_to from 1 up, got {self.shrink_to}"
            raise EyespotError("config-value", message, where="contract.image.tiling")

    @property
    def canvases(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each canvas."""
        return self.pinpoints if self.order == "height_width" else tuple((b, a) for a, b in self.pinpoints)

    def ordered(self, order: Literal["height_width", "width_height"]) -> "Tiling":
        """The same canvases, written in another order."""
        pairs = self.canvases if order == "height_width" else tuple((b, a) for a, b in self.canvases)
        return self.replace(pinpoints=pairs, order=order)


@dataclass(frozen=True)
class AspectTiling(Config):
    """Tiles in the grid whose aspect is nearest to the picture's (InternVL).

    A picture is squeezed to whole tiles of the model's input size, aspect nearly kept, and cut row by row; the whole
    picture, squeezed to one tile, goes behind them. A picture of one tile is that tile alone.

    Attributes:
        least, most: tiles of a grid.
        thumbnail: whether the whole picture goes behind several tiles.
    """

    least: int = 1
    most: int = 12
    thumbnail: bool = True

    def __post_init__(self) -> None:
        """Refuse bounds that no grid is within, and more tiles than anyone has."""
        if not 1 <= self.least <= self.most <= 1024:
            message = f"expected 1 ≤ least ≤ most ≤ 1024 tiles, got {self.least} and {self.most}"
            raise EyespotError("config-value", message, where="contract.image.aspect_tiling")


@dataclass(frozen=True)
class ImageRule(Config):
    """From an upright RGB picture to raw patches.

    Attributes:
        size: (height, width) of the model's input.
        resize: ``shortest_edge`` (aspect kept, then `crop`), ``exact`` (both sides, aspect lost), ``pad`` (canvas
            padded to a square with `pad_color`, then resized), ``none`` (the picture must already have `size`),
            ``patches`` (as large as `max_patches` allow, in whole patches, aspect kept as nearly as these do),
            ``dynamic`` (any size: both sides to whole blocks, aspect nearly kept, `size` unused).
        shortest_edge: target of the ``shortest_edge`` resize; None means ``min(size)``.
        crop: cut or zero-pad the middle to `size` after the resize.
        resample: PIL's filter: ``bilinear``, ``bicubic``, ….
        scale: factor on uint8 values, 1/255 as published.
        normalize: subtract `mean` and divide by `std`.
        patch_size: side of a patch in pixels.
        extra_tokens: tokens of the encoder beside the grid that reach the connector (1 for CLS with ``full``).
        max_patches: of a picture under ``patches``; None otherwise.
        tiling: any-resolution tiles of `size`; None: one picture of `size`.
        block_order: whether blocks of patches come row by row (``rows``) or column by column (``columns``).
        aspect_tiling: tiles of `size` by aspect ratio; None: one picture of `size`.
        pixels: ``exact``: bit-equal to published processors; ``fast``: no value further than 1 of 255 from that.
        alpha: what transparency is laid on. exif, sixteen_bit: as decided for all families, recorded here.
        min_pixels, max_pixels: area of the resized picture, under ``dynamic``.
        merge_size: side of the block of patches that becomes one embedding.
        temporal_patch_size: frames that one patch spans; a picture is repeated as often.
        positions: whether embeddings count as tokens in a ``line`` or stand in a ``grid`` of (time, row, column).
        tokens_per_second: places that a second of video takes in a grid; None: one for each time.
        apart: each time of a video is a grid of its own, as there is text between them.
        shared_pixels: `min_pixels` and `max_pixels` bound all frames of a video together instead of each.
        pool: side of the square of embeddings that become about one, bilinearly, in each frame of a video.
        newline: whether a learned embedding follows the medium ``once``; each row of a tiled picture ends with one
            anyway.
    """

    size: tuple[int, int] = (224, 224)
    resize: Literal["shortest_edge", "exact", "pad", "none", "patches", "dynamic"] = "shortest_edge"
    shortest_edge: int | None = None
    crop: bool = True
    pad_color: tuple[int, int, int] = (0, 0, 0)
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = "bicubic"
    scale: float = 1 / 255
    normalize: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    patch_size: int = 14
    tokens_per_image: int | None = None  # None: one for each patch, plus extra_tokens
    extra_tokens: int = 0
    max_patches: int | None = later(None)
    tiling: Tiling | None = later(None)
    alpha: Literal["white", "drop"] = "white"
    exif: Literal["apply", "ignore"] = "apply"
    sixteen_bit: Literal["divide_257", "clip"] = "divide_257"
    min_pixels: int | None = later(None)
    max_pixels: int | None = later(None)
    merge_size: int = later(1)
    temporal_patch_size: int = later(1)
    positions: Literal["line", "grid"] = later("line")
    tokens_per_second: float | None = later(None)
    apart: bool = later(False)
    shared_pixels: bool = later(False)
    pixels: Literal["exact", "fast"] = later("exact")
    pool: int = later(1)
    newline: Literal["none", "once"] = later("none")
    aspect_tiling: AspectTiling | None = later(None)
    block_order: Literal["rows", "columns"] = later("rows")

    def __post_init__(self) -> None:
        """Refuse what no picture could be prepared by."""
        flexible = self.resize == "patches"
        sides = (*self.size, self.patch_size, 1 if self.shortest_edge is None else self.shortest_edge)
        sides += (self.merge_size, self.temporal_patch_size, self.pool)
        least, most = self.min_pixels, self.max_pixels
        bounded = least is not None and most is not None
        for name, ok in (
            ("size, shortest_edge, patch_size, merge_size, temporal_patch_size and pool from 1 up", min(sides) >= 1),
            ("min_pixels from 1 up to max_pixels", least is None or most is None or 1 <= least <= most),
            ("min_pixels and max_pixels for dynamic", self.resize != "dynamic" or bounded),
            ("mean and std of 1 or 3 colours", len(self.mean) == len(self.std) in (1, 3)),
            ("std above 0", min(self.std, default=0) > 0),
            (
                "max_patches from 1 up with resize patches",
                (self.max_patches or 0) >= 1 if flexible else not self.max_patches,
            ),
            ("blocks row by row in a grid of places", self.block_order == "rows" or self.positions == "line"),
            ("an exact resize to a tile by aspect, and no canvases", self.aspect_tiling is None or self._by_aspect()),
            ("canvases in whole tiles, and an exact resize to one", self.tiling is None or self._tiles()),
        ):
            if not ok:
                raise EyespotError("config-value", f"expected {name}, got {self.to_dict()}", where="contract.image")

    def _by_aspect(self) -> bool:
        return self.resize == "exact" and self.tiling is None

    def _tiles(self) -> bool:
        canvases = self.tiling.canvases if self.tiling else ()
        return self.resize == "exact" and not any(h % self.size[0] or w % self.size[1] for h, w in canvases)


@dataclass(frozen=True)
class FrameRule(Config):
    """Which frames of a film a model sees, and how large they may be together. Lists of frames are taken whole.

    Attributes:
        fps: frames wanted for each second of the film; None: as many as `max_frames` allow.
        min_frames, max_frames: how many there are at least, where the film has them, and at most.
        multiple: the number of frames is rounded down to it (frames that a patch spans).
        spacing: ``ends``: evenly from the first frame to the last, rounded (the authors' tools); ``ends_double``: the
            same, counted in double precision (transformers for Qwen3-VL); ``ends_down``: the same, rounded down (the
            authors of LLaVA); ``steps``: a frame from the start of each of so many equal stretches (transformers for
            most models); ``middles``: from the middle of each (transformers for InternVL); ``segments``: the same up to
            the last frame, each rounded (the authors of InternVL).
        max_total_pixels: area of all times of a video, where a time is the frames that one patch spans; each frame's
            `max_pixels` shrinks to its share, though not below 1.05 × `min_pixels`. None: only frames are limited.
    """

    fps: float | None = 2.0
    min_frames: int = 4
    max_frames: int = 768
    multiple: int = 2
    spacing: Literal["ends", "ends_double", "ends_down", "steps", "middles", "segments"] = "ends"
    max_total_pixels: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no film could be read by."""
        for name, ok in (
            ("fps above 0", self.fps is None or 0 < self.fps < float("inf")),
            ("1 <= min_frames <= max_frames", 1 <= self.min_frames <= self.max_frames),
            ("multiple from 1 up to max_frames", 1 <= self.multiple <= self.max_frames),
            ("max_total_pixels from 1 up", self.max_total_pixels is None or self.max_total_pixels >= 1),
        ):
            if not ok:
                raise EyespotError("config-value", f"expected {name}, got {self.to_dict()}", where="contract.frames")


@dataclass(frozen=True)
class TextRule(Config):
    """How the text of a conversation, or of a contrastive caption, becomes tokens.

    Attributes:
        template: the checkpoint's own Jinja chat template.
        image_token: what the template or the user's part becomes before expansion, such as ``<image>``; repeated
            once for each embedding.
        image_token_id: its id.
        video_token, video_token_id: the same for a video; None where the model takes none.
        image_form: what a picture's placeholder is written as before tokenising, with `image_token` once in it, such
            as ``<img><IMG_CONTEXT></img>``; None: as it is.
        frame_form: the same for each time of a video, with `image_token` or `video_token` once in it, ``{number}``
            counting from 1 and ``{seconds}`` the middle of its frames; None: a video is one placeholder.
        frame_join: what stands between frames.
        frame_place: what the frames replace where the template writes it around the `video_token` in it; None: the
            token alone.
        add_special_tokens: whether the tokenizer's own special tokens are added when the text has no BOS already.
        bos_token, eos_token, pad_token: as the template sees them.
        max_length: of a contrastive text tower (padded to it when `pad_to_max`), or None.
        clean: how contrastive text is cleaned before tokenising: none, ``clip``, ``siglip``, ``lower``, or
            ``canonicalize``, which is ``siglip`` with underscores as spaces.
        prefix: what stands before a contrastive text.
        ends: whether `eos_token` is put behind a contrastive text, by a tokenizer that adds none of itself.
    """

    template: str | None = None
    image_token: str | None = None
    image_token_id: int | None = None
    add_special_tokens: bool = True
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    stop_tokens: tuple[int, ...] = ()
    max_length: int | None = None
    pad_to_max: bool = False
    clean: Literal["none", "clip", "siglip", "canonicalize", "lower"] = "none"
    video_token: str | None = later(None)
    video_token_id: int | None = later(None)
    image_form: str | None = later(None)
    frame_form: str | None = later(None)
    frame_join: str = later("\n")
    frame_place: str | None = later(None)
    prefix: str = later("")
    ends: bool = later(False)

    def __post_init__(self) -> None:
        """Refuse forms that would lose the medium or count it twice."""
        known = {"image_form": ("image_token",), "frame_form": ("image_token", "video_token")}
        for name, words in (known | {"frame_place": ("video_token",)}).items():
            form, tokens = getattr(self, name), [token for word in words if (token := getattr(self, word))]
            if form is not None and sum(map(form.count, tokens)) != 1:
                message = f"expected {name} with {' or '.join(words)} ({tokens}) once in it, got {form!r}"
                raise EyespotError("config-value", message, where="contract.text")


@dataclass(frozen=True)
class Contract(Config):
    """The whole preprocessing of a model; `id` is a sha256 of its content.

    Attributes:
        coordinates: how boxes and points are written: ``unit``, ``thousand``, ``abs`` (see `inputs.places`), or
            ``tags``: integers 0–999 between tags, what is in the box named before it.
        video: how the frames of a video are prepared; None where the model takes none.
        several: how each picture of a conversation with more than one is prepared; None: as `image` says.
        frames: which frames of a film are taken; None where the model takes videos as lists of frames only.
    """

    version: int = VERSION
    image: ImageRule | None = None
    text: TextRule = field(default_factory=TextRule)
    coordinates: Literal["unit", "thousand", "abs", "tags"] = "unit"
    video: ImageRule | None = later(None)
    several: ImageRule | None = later(None)
    frames: FrameRule | None = later(None)

    @property
    def id(self) -> str:
        """sha256 of the canonical JSON form; changes with any field.

        A field that came later is left out at its default, so that what earlier versions sealed keeps its id.
        """
        canonical = json.dumps(_stated(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def with_pixels(self, pixels: Literal["exact", "fast"]) -> "Contract":
        """The same contract with every picture and frame prepared the exact or the fast way."""
        rules = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), ImageRule)}
        return self.replace(**{name: rule.replace(pixels=pixels) for name, rule in rules.items()})

    def check_same(self, other: "Contract", where: str = "") -> None:
        """Raise ``contract-mismatch`` naming the first field that differs."""
        differences = list(_differences(self.to_dict(), other.to_dict(), ""))
        if differences:
            raise EyespotError("contract-mismatch", "; ".join(differences[:5]), where=where)


def _stated(config: Config) -> dict[str, Any]:
    """As `to_dict`, without the later fields that are at their default."""
    stated = config.to_dict()
    for f in fields(config):
        value = getattr(config, f.name)
        if f.metadata.get("later") and value == f.default:
            del stated[f.name]
        elif isinstance(value, Config):
            stated[f.name] = _stated(value)
    return stated


def _differences(a: Any, b: Any, path: str):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b:
        yield f"{path}: {a!r} here, {b!r} there"
