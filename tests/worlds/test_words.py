"""The table of words: complete in both languages, with the phrasings that the demo promises."""

import pytest

from eyespot.worlds.scenes import words
from eyespot.worlds.scenes.world import ASK


def test_every_type_can_be_asked():
    assert set(ASK) == set(words.TYPES)


def test_every_kind_is_phrased_in_both_languages():
    assert all(by["en"] and by["ko"] for by in words.PHRASINGS.values())
    phrasings = [p for by in words.PHRASINGS.values() for ps in by.values() for p in ps]
    assert len(set(phrasings)) == len(phrasings)


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("colour", {"it": "star"}, "What color is the star?"),
        ("shape", {"colour": "red"}, "What shape is the red object?"),
        ("count", {}, "How many objects are there?"),
        ("existence", {"a": "an", "colour": "orange", "shape": "star"}, "Is there an orange star?"),
        ("side", {"it": "star"}, "Is the star on the left or on the right?"),
    ],
)
def test_the_promised_phrasings_come_first(kind, values, text):
    assert words.fill(words.PHRASINGS[kind]["en"][0], "en", **values) == text


@pytest.mark.parametrize(("word", "expected"), [("orange", "an"), ("red", "a"), ("arrow", "an")])
def test_the_article_follows_the_sound(word, expected):
    assert words.article(word) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("별은(는)", "별은"),
        ("하트은(는)", "하트는"),
        ("원이(가)", "원이"),
        ("고리와(과) 별", "고리와 별"),
        ("별을(를)", "별을"),
    ],
)
def test_korean_particles_follow_the_syllable_before(text, expected):
    assert words.particles(text) == expected
