"""Typed coordinates: the type says the convention, because a bare list of four numbers does not.

Canonical form everywhere inside Eyespot: `BoxAbs`, float pixels of the *original* picture, x1 y1 x2 y2.
The other conventions exist at the edges (what a family writes, what a dataset holds).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BoxAbs:
    """Pixels of the original picture: left, top, right, bottom."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""

    def to_unit(self, size: tuple[int, int]) -> "BoxUnit":
        """As shares of `size` = (width, height)."""
        w, h = size
        return BoxUnit(self.x1 / w, self.y1 / h, self.x2 / w, self.y2 / h, self.label)

    def to_1000(self, size: tuple[int, int]) -> "Box1000":
        """As integers 0–1000 of `size` = (width, height)."""
        u = self.to_unit(size)
        return Box1000(*(round(1000 * v) for v in (u.x1, u.y1, u.x2, u.y2)), self.label)

    def iou(self, other: "BoxAbs") -> float:
        """Intersection over union; 0 for empty boxes."""
        w = min(self.x2, other.x2) - max(self.x1, other.x1)
        h = min(self.y2, other.y2) - max(self.y1, other.y1)
        inter = max(w, 0.0) * max(h, 0.0)
        union = self.area + other.area - inter
        return inter / union if union > 0 else 0.0

    @property
    def area(self) -> float:
        """Width × height, 0 for inverted boxes."""
        return max(self.x2 - self.x1, 0.0) * max(self.y2 - self.y1, 0.0)


@dataclass(frozen=True, slots=True)
class BoxUnit:
    """Shares of width and height, 0–1."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str = ""

    def to_abs(self, size: tuple[int, int]) -> BoxAbs:
        """In pixels of `size` = (width, height)."""
        w, h = size
        return BoxAbs(self.x1 * w, self.y1 * h, self.x2 * w, self.y2 * h, self.label)


@dataclass(frozen=True, slots=True)
class Box1000:
    """Integers 0–1000 of width and height (Qwen-VL, InternVL)."""

    x1: int
    y1: int
    x2: int
    y2: int
    label: str = ""

    def to_abs(self, size: tuple[int, int]) -> BoxAbs:
        """In pixels of `size` = (width, height)."""
        w, h = size
        return BoxAbs(self.x1 * w / 1000, self.y1 * h / 1000, self.x2 * w / 1000, self.y2 * h / 1000, self.label)


@dataclass(frozen=True, slots=True)
class PointAbs:
    """One place, in pixels of the original picture."""

    x: float
    y: float
    label: str = ""
