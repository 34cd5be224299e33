"""One self-contained HTML page: figures with their intervals, bars, curves, and answered pictures, wrong ones too.

Plain functions that give HTML or SVG; a recipe puts them in order. No script, no outside file, readable on paper.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from eyespot.contracts.coordinates import Box1000, BoxAbs, BoxUnit
from eyespot.contracts.media import MediaRef
from eyespot.eval.run import OVERALL, Answer

Figures = Mapping[str, Mapping[str, Any]]

BLANK, CHANCE = "#9ca3af", "#d1d5db"
SERIES = ("#93c5fd", "#3b82f6", "#1e3a8a", "#d97706", "#059669")
RIGHT, WRONG = "#059669", "#dc2626"

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#111827;max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem} h2{font-size:1.15rem;margin-top:2.2rem} p.note{color:#4b5563;max-width:52rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #e5e7eb}
th:first-child,td:first-child{text-align:left}
.cards{display:flex;gap:1rem;flex-wrap:wrap;margin:1rem 0}
.card{border:1px solid #e5e7eb;border-radius:8px;padding:.8rem 1.1rem}
.card b{display:block;font-size:1.6rem} .card span{color:#4b5563;font-size:.85rem}
.answers{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:.9rem}
.answers figure{margin:0;border:1px solid #e5e7eb;border-radius:8px;padding:.5rem;font-size:.85rem}
.answers img{width:100%;height:130px;object-fit:contain;background:#f9fafb;image-rendering:auto;border-radius:4px}
svg{max-width:100%;height:auto} code{background:#f3f4f6;padding:0 .25rem;border-radius:3px}
"""


def page(title: str, lead: str, sections: Iterable[tuple[str, str]]) -> str:
    """The whole page: a title, a sentence, and (heading, HTML) pairs."""
    body = "".join(f"<h2>{escape(heading)}</h2>\n{html}\n" for heading, html in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1><p class="note">{escape(lead)}</p>\n{body}</body></html>\n'
    )


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Large figures side by side: (figure, what it is)."""
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in items)
        + "</div>"
    )


def percent(share: float | None) -> str:
    """``0.8912`` as ``89.1 %``."""
    return "–" if share is None else f"{100 * share:.1f} %"


def figures_table(figures: Figures) -> str:
    """Accuracy, interval, n, blank, chance, and the difference from blank, a row for each type."""
    titles = ("type", "accuracy", "95 %", "n", "blank", "chance", "above blank")
    head = "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    rows = []
    for name, f in figures.items():
        low, high = f["interval"]
        above = f.get("difference")
        gained = f"{100 * above[0]:+.1f} [{100 * above[1]:+.1f}, {100 * above[2]:+.1f}]" if above else "–"
        cells = (name, percent(f["accuracy"]), f"{percent(low)} – {percent(high)}", str(f["n"]),
                 percent(f.get("blank")), percent(f.get("chance")), gained)  # fmt: skip
        strong = ' style="font-weight:600"' if name == OVERALL else ""
        rows.append(f"<tr{strong}>" + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>")
    return f"<table>{head}{''.join(rows)}</table>"


def bars(series: Mapping[str, Figures], width: int = 940, height: int = 260) -> str:
    """Grouped bars: for each type blank and chance in grey, then each series with its interval as a whisker."""
    types = list(next(iter(series.values())))
    left, top, bottom = 40, 24, 40
    group = (width - left) / max(1, len(types))
    bar = group * 0.8 / (len(series) + 2)
    crowded = len(types) > 10  # then every other name stands lower

    def y(share: float) -> float:
        return top + (height - top - bottom) * (1 - share)

    parts = [
        f'<path d="M{left} {y(t):.1f}H{width}" stroke="#e5e7eb"/>'
        f'<text x="{left - 6}" y="{y(t) + 4:.1f}" text-anchor="end" fill="#6b7280">{round(100 * t)}</text>'
        for t in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for g, name in enumerate(types):
        x = left + g * group + group * 0.1
        last = list(series.values())[-1].get(name, {})
        for colour, value in ((CHANCE, last.get("chance")), (BLANK, last.get("blank"))):
            parts.append(_bar(x, y(value or 0.0), bar, y(0.0), colour))
            x += bar
        for colour, figures in zip(SERIES, series.values(), strict=False):
            if name in figures:
                low, high = figures[name]["interval"]
                parts.append(_bar(x, y(figures[name]["accuracy"]), bar, y(0.0), colour))
                middle = x + bar / 2
                parts.append(f'<path d="M{middle:.1f} {y(low):.1f}V{y(high):.1f}" stroke="#111827"/>')
            x += bar
        parts.append(
            f'<text x="{left + (g + 0.5) * group:.1f}" y="{height - 18 + 14 * (g % 2 if crowded else 0)}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
    legend = [("chance", CHANCE), ("blank picture", BLANK), *zip(series, SERIES, strict=False)]
    for i, (name, colour) in enumerate(legend):
        parts.append(f'<rect x="{left + i * 130}" y="4" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{left + i * 130 + 16}" y="14">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">{"".join(parts)}</svg>'
    )


def _bar(x: float, top: float, width: float, zero: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{width - 1:.1f}" height="{max(zero - top, 0):.1f}" fill="{colour}"/>'
    )


def answer_record(answer: Answer) -> dict[str, Any]:
    """An answered picture as plain data, for a page that is written later."""
    user = answer.example.messages[-1]
    pictures = [p.source for p in user.media if isinstance(p, MediaRef) and isinstance(p.source, np.ndarray)]
    return {
        "question": user.text.strip(),
        "answer": answer.text,
        "truth": _written(answer.example.target),
        "right": answer.score >= 0.5,
        "type": answer.type,
        "picture": picture_uri(pictures[0]) if pictures else "",
    }


def _written(target: Any) -> str:
    """A truth as an answer would say it: a caption's reference, a box's corners."""
    if isinstance(target, Mapping):
        return str(target.get("reference", target))
    if isinstance(target, (BoxAbs, BoxUnit, Box1000)):
        return f"[{', '.join(f'{v:.4g}' for v in (target.x1, target.y1, target.x2, target.y2))}]"
    return str(target)


def picture_uri(pixels: np.ndarray) -> str:
    """A uint8 picture as a ``data:`` URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def answers_grid(records: Sequence[Mapping[str, Any]]) -> str:
    """Answered pictures: the question, what was said, and the truth where it differs."""
    figures = []
    for r in records:
        colour, truth = (RIGHT, "") if r["right"] else (WRONG, f"<br>truth: {escape(r['truth'])}")
        figures.append(
            f'<figure><img src="{r["picture"]}" alt=""><figcaption>{escape(r["question"])}<br>'
            f'<b style="color:{colour}">{escape(r["answer"]) or "(nothing)"}</b>{truth}</figcaption></figure>'
        )
    return f'<div class="answers">{"".join(figures)}</div>'
