"""``curves.svg``: loss and learning rate over the whole run, drawn without a plotting library.

Every point is a row of the log; the bold line is their running mean. Stages stand side by side, as steps begin at 1
in each. The few highest values, those of first steps, are cut off, or all that follows would look flat.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, GAP, LEFT, RIGHT, TOP = 900, 220, 50, 64, 16, 28
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2")
PANELS = (("loss", "loss"), ("lr", "learning rate"))
CUT = 0.02  # share of values that may lie above the panel


def draw(rows: Iterable[Mapping[str, Any]]) -> str:
    """An SVG of the rows of a log."""
    rows = list(rows)
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    body = [_panel(rows, stages, key, title, TOP + i * (HEIGHT + GAP)) for i, (key, title) in enumerate(PANELS)]
    height = TOP + len(PANELS) * (HEIGHT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{height}" fill="white"/>{"".join(body)}</svg>\n'
    )


def smooth(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Exponential running mean over about `share` of the values, without the start's bias."""
    keep = 1 - 1 / max(1.0, share * len(values))
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(total / weight)
    return means


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between `low` and `high`."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _panel(rows: list[Mapping[str, Any]], stages: list[str], key: str, title: str, top: int) -> str:
    points = [(i, row["stage"], float(row[key])) for i, row in enumerate(rows) if math.isfinite(row.get(key, math.nan))]
    high = _top([v for _, _, v in points])
    low = min(0.0, *(v for _, _, v in points)) if points else 0.0

    def x(i: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * i / max(1, len(rows) - 1)

    def y(value: float) -> float:
        return top + HEIGHT * (1 - (min(value, high) - low) / (high - low))

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(title)}</text>']
    for tick in ticks(low, high):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#6b7280">{tick:.3g}</text>')
    for number, stage in enumerate(stages):
        mine = [(i, v) for i, s, v in points if s == stage]
        if mine:
            # Names of neighbours at two heights, as a short stage has no room for its own.
            parts += _stage(mine, stage, COLOURS[number % len(COLOURS)], x, y, top + HEIGHT + 14 + 12 * (number % 2))
    return "".join(parts)


def _top(values: list[float]) -> float:
    """The panel's upper end: the highest value but for the share that is cut off, with some room."""
    highest = sorted(values)[: max(1, math.ceil((1 - CUT) * len(values)))] if values else [1.0]
    return 1.05 * highest[-1] or 1.0


def _stage(mine: list[tuple[int, float]], stage: str, colour: str, x: Any, y: Any, label: float) -> list[str]:
    places = [i for i, _ in mine]
    values = [v for _, v in mine]
    thin = max(1, len(mine) // 1500)  # more points than pixels say nothing
    raw, mean = list(zip(places, values, strict=True))[::thin], list(zip(places, smooth(values), strict=True))[::thin]
    return [
        f'<path d="{_path(raw, x, y)}" fill="none" stroke="{colour}" stroke-opacity="0.3"/>',
        f'<path d="{_path(mean, x, y)}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x(places[0]):.1f}" y="{label}" fill="{colour}">{escape(stage)}: {len(mine)} rows</text>',
    ]


def _path(points: list[tuple[int, float]], x: Any, y: Any) -> str:
    return "M" + "L".join(f"{x(i):.1f} {y(v):.1f}" for i, v in points)
