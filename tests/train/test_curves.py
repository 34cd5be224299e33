"""The picture of a run's curves."""

import xml.etree.ElementTree as ET

import pytest

from eyespot.train.curves import draw, smooth, ticks


def rows(stages):
    return [
        {"stage": name, "step": step, "loss": 3 / step, "lr": 1e-3}
        for name, steps in stages.items()
        for step in range(1, steps + 1)
    ]


@pytest.mark.parametrize("stages", [{}, {"a": 1}, {"a": 3, "b<&>": 2}, {"a": 5000}])
def test_the_curves_are_well_formed_and_name_each_stage(stages):
    text = draw(rows(stages))
    root = ET.fromstring(text)
    words = " ".join(e.text or "" for e in root.iter())
    for name in stages:
        assert f"{name}: {stages[name]} rows" in words
    assert "nan" not in text


def test_points_lie_inside_the_picture():
    root = ET.fromstring(draw(rows({"a": 40, "b": 40})))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        if "H" in path.attrib["d"]:
            continue
        for point in path.attrib["d"][1:].split("L"):
            x, y = map(float, point.split())
            assert 0 <= x <= width and 0 <= y <= height


def test_a_constant_is_its_own_running_mean():
    assert smooth([2.0] * 10) == pytest.approx([2.0] * 10)


def test_ticks_are_round_and_inside():
    assert ticks(0, 4.7) == [0, 1, 2, 3, 4]
    assert ticks(0, 3e-3) == pytest.approx([0, 1e-3, 2e-3, 3e-3])
    assert ticks(1, 1) == [1]
