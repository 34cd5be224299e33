"""Pictures of scenes: sizes, places, colours that keep their names, and objects that can be seen."""

import colorsys
import sys
from itertools import combinations
from random import Random

import numpy as np
import pytest
from PIL import Image

from eyespot.errors import EyespotError
from eyespot.worlds import samples
from eyespot.worlds.scenes import SMALL, SPLITS, Scenes, ScenesConfig, grounds, layout, lettering, paint, palette
from eyespot.worlds.scenes.config import GROUNDS, STYLES, TEXTURES
from eyespot.worlds.scenes.objects import dress
from eyespot.worlds.scenes.world import picture_of

FULL = ScenesConfig(grounds=tuple(g for g in GROUNDS if g != "photo"))


def drawn_alone(thing, ground=(128, 128, 128), size=(120, 100)):
    """The difference that one object makes to an even ground."""
    picture = Image.new("RGB", size, ground)
    paint.draw_thing(picture, thing, Random(0))
    return np.abs(np.asarray(picture).astype(int) - np.array(ground)).sum(axis=2)


def test_pictures_are_uint8_within_the_sizes_asked_for():
    config = SMALL.replace(sides=(40, 90), aspect=(0.5, 2.0))
    shapes = {picture_of(Scenes(config).example("train", 0, i)).shape for i in range(60)}
    assert all(40 <= min(h, w) <= 90 and 0.45 < w / h < 2.2 and c == 3 for h, w, c in shapes)
    assert len(shapes) > 40
    assert picture_of(Scenes(config).example("train", 0, 0)).dtype == np.uint8


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("style", STYLES)
def test_a_box_fits_what_is_drawn(texture, style):
    config = FULL.replace(textures=(texture,), styles=(style,), sides=(100, 100), aspect=(1.0, 1.0))
    for i in range(12):
        scene = layout.sample(config, SPLITS["train"], Random(i))
        thing = dress(scene.things[0], config, Random(i), (120, 120))
        changed = drawn_alone(thing) > 60
        ys, xs = np.nonzero(changed)
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        truth = (thing.box.x1, thing.box.y1, thing.box.x2, thing.box.y2)
        assert np.abs(np.array(box) - truth).max() < 2.6, (thing.shape, texture, style)


def test_nothing_is_cut_off():
    for i in range(200):
        scene = layout.sample(FULL, SPLITS["train"], Random(i))
        for box in (t.box for t in scene.things):
            assert 0 <= box.x1 < box.x2 <= scene.width and 0 <= box.y1 < box.y2 <= scene.height


def test_objects_do_not_cover_each_other():
    for i in range(60):
        scene = layout.sample(FULL, SPLITS["train"], Random(i))
        for k, a in enumerate(scene.things):
            for b in scene.things[:k]:
                assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 >= (a.radius + b.radius) ** 2


def test_one_large_object_may_stand_among_small_ones():
    found = [tuple(t.size for t in layout.sample(SMALL, SPLITS["train"], Random(i)).things) for i in range(300)]
    assert any(sizes.count("large") == 1 and sizes.count("small") == 3 for sizes in found)


def test_an_object_stands_out_from_any_ground():
    for i in range(200):
        scene = layout.sample(FULL, SPLITS[("train", "heldout")[i % 2]], Random(i))
        ground = np.asarray(grounds.ground(scene.ground, scene.new_looks, Random(1), scene.width, scene.height))
        picture = Image.fromarray(ground)
        paint.draw_thing(picture, scene.things[0], Random(1))
        change = np.abs(np.asarray(picture).astype(int) - ground).sum(axis=2)
        assert np.percentile(change[change > 0], 90) > 80, (scene.things[0], scene.ground)


def test_colours_of_different_names_never_meet():
    shades = {c: np.array([s for i in range(40) for s in palette.shades(c, Random(i))]) for c in palette.PALETTE}
    for a, b in combinations(shades, 2):
        assert np.linalg.norm(shades[a][:, None] - shades[b][None], axis=2).min() > 40, (a, b)


@pytest.mark.parametrize(("name", "hue"), [("red", 0), ("yellow", 60), ("green", 120), ("blue", 230), ("purple", 280)])
def test_a_colour_has_the_hue_of_its_name(name, hue):
    for i in range(20):
        for rgb in palette.shades(name, Random(i)):
            h = 360 * colorsys.rgb_to_hsv(*(v / 255 for v in rgb))[0]
            assert abs((h - hue + 180) % 360 - 180) < 24


def test_objects_are_drawn_with_smooth_edges():
    config = SMALL.replace(shapes=("circle",), colours=("red",), textures=("plain",), styles=("clean",))
    thing = layout.sample(config, SPLITS["train"], Random(1)).things[0]
    change = drawn_alone(thing)
    edge = (change > 20) & (change < 0.9 * change.max())
    assert edge.sum() > 20


@pytest.mark.parametrize("kind", [g for g in GROUNDS if g != "photo"])
@pytest.mark.parametrize("new", [False, True])
def test_grounds_fill_any_size(kind, new):
    for size in ((16, 16), (200, 90), (700, 30)):
        assert grounds.ground(kind, new, Random(0), *size).size == size


@pytest.mark.parametrize("new", [False, True])
def test_photographs_are_grounds_too(new):
    pytest.importorskip("sklearn")
    for size in ((64, 64), (900, 500)):
        assert grounds.ground("photo", new, Random(0), *size).size == size


def test_without_scikit_learn_a_photographic_ground_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for cached in (samples.photographs, grounds._photos):
        cached.cache_clear()
    with pytest.raises(EyespotError, match="scikit-learn") as caught:
        grounds.ground("photo", False, Random(0), 64, 64)
    assert caught.value.code == "extra-missing"


def test_without_matplotlib_its_fonts_name_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    lettering._matplotlib_fonts.cache_clear()
    lettering.font.cache_clear()
    with pytest.raises(EyespotError, match="come with matplotlib"):
        lettering.font("serif", 12)


@pytest.mark.parametrize("name", ["aileron", "bold", "bitmap"])
def test_words_are_written_where_the_scene_says(name):
    config = FULL.replace(fonts=("aileron", "bold", "bitmap"))
    for i in range(30):
        scene = layout.sample(config, SPLITS["heldout"], Random(i), word=True)
        x1, y1, x2, y2 = scene.word_box
        assert 0 <= x1 < x2 <= scene.width and 0 <= y1 < y2 <= scene.height
    mask = np.asarray(lettering.lettered(name, 14, "tree"))
    assert mask.max() > 150 and 0.05 < (mask > 100).mean() < 0.8
