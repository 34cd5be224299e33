"""Outlines of shapes around the origin, as complex numbers (x + iy, y down), of comparable visual size."""

import cmath
import math
from functools import cache

# How far each may be turned, in degrees, and still be called so (a turned square is no diamond).
TURN = {
    "circle": 0,
    "square": 12,
    "triangle": 18,
    "star": 36,
    "diamond": 10,
    "heart": 22,
    "cross": 14,
    "ring": 0,
    "pentagon": 36,
    "crescent": 180,
    "arrow": 180,
    "drop": 25,
}
HOLE = 0.52  # radius of the ring's hole


def _regular(corners: int, inner: float | None = None) -> list[complex]:
    """A regular polygon standing on its base, or a star whose inner corners lie at `inner`."""
    if inner is None:
        return [cmath.rect(1, 2 * math.pi * k / corners - math.pi / 2) for k in range(corners)]
    return [cmath.rect(inner if k % 2 else 1, math.pi * k / corners - math.pi / 2) for k in range(2 * corners)]


def _heart() -> list[complex]:
    points = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append(complex(x, -y - 2.5) / 15.5)
    return points


def _crescent() -> list[complex]:
    """The unit disc without a disc shifted to the right."""
    shift, radius = 0.5, 0.82
    x = (1 + shift**2 - radius**2) / (2 * shift)
    outer, inner = math.acos(x), math.atan2(math.sqrt(1 - x * x), x - shift)
    arc = [cmath.rect(1, outer + (2 * math.pi - 2 * outer) * k / 30) for k in range(31)]
    back = [shift + cmath.rect(radius, -inner - (2 * math.pi - 2 * inner) * k / 24) for k in range(1, 24)]
    return [z + 0.22 for z in arc + back]


def _drop() -> list[complex]:
    """A disc below a point."""
    tangent = math.acos(0.68 / 1.3)
    arc = [0.32j + cmath.rect(0.68, -math.pi / 2 + tangent + (2 * math.pi - 2 * tangent) * k / 28) for k in range(29)]
    return [-0.98j, *arc]


_ARM = 0.34
_OUTLINES = {
    "circle": [0.92 * cmath.rect(1, 2 * math.pi * k / 48) for k in range(48)],
    "square": [complex(x, y) * 0.8 for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    "triangle": [1.13 * z + 0.2j for z in _regular(3)],
    "star": [1.12 * z for z in _regular(5, 0.44)],
    "diamond": [complex(x, y) for x, y in ((0, -1.1), (0.72, 0), (0, 1.1), (-0.72, 0))],
    "heart": _heart(),
    "cross": [
        complex(x, y)
        for x, y in (
            *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
            *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
        )
    ],
    "ring": [0.98 * cmath.rect(1, 2 * math.pi * k / 48) for k in range(48)],
    "pentagon": [1.02 * z for z in _regular(5)],
    "crescent": _crescent(),
    "arrow": [
        complex(x, y) for x, y in ((-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1.05, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3))
    ],
    "drop": _drop(),
}


@cache
def outline(shape: str, dense: bool = False) -> tuple[complex, ...]:
    """Corners of a shape at radius 1; `dense` puts points along straight edges too, to be bent."""
    points = _OUTLINES[shape]
    if not dense or len(points) > 24:
        return tuple(points)
    following = [*points[1:], points[0]]
    return tuple(a + (b - a) * k / 5 for a, b in zip(points, following, strict=True) for k in range(5))


def bent(points: tuple[complex, ...], phases: tuple[float, float]) -> list[complex]:
    """Points moved as an unsteady hand would: radii swell and shrink slowly around the shape."""
    first, second = phases
    result = []
    for z in points:
        angle = cmath.phase(z)
        result.append(z * (1 + 0.05 * math.sin(2 * angle + first) + 0.04 * math.sin(3 * angle + second)))
    return result
