"""Questions about scenes: every answer is what an oracle reads from the list of objects, and guessing does not pay."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eyespot.contracts.coordinates import BoxAbs
from eyespot.worlds.scenes import SMALL, SPLITS, Scenes, ScenesConfig, words
from eyespot.worlds.scenes.sentences import vocabulary
from tests.worlds.scenes_oracle import answer, phrases, read

PLAIN = ScenesConfig(grounds=("plain",))
SHORT = tuple(t for t in words.TYPES if t not in ("box", "caption", "description"))
many = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def take(world, split, number, start=0, seed=0):
    return [world.example(split, seed, i) for i in range(start, start + number)]


@many
@given(index=st.integers(0, 10**6), split=st.sampled_from(sorted(SPLITS)), kind=st.sampled_from(SHORT))
def test_every_answer_follows_from_the_objects(unpainted, index, split, kind):
    world = Scenes(PLAIN.replace(types=(kind,), one_question=True))
    example = world.example(split, 3, index)
    assert example.target == example.meta["answer"] == answer(example)


@many
@given(index=st.integers(0, 10**6))
def test_every_answer_of_a_training_picture_follows_from_the_objects(unpainted, index):
    example = Scenes(PLAIN.replace(types=SHORT)).example("train", 3, index)
    asked = []
    for question, said in zip(example.messages[::2], example.messages[1::2], strict=True):
        one = type(example)(example.id, (question,), said.text, example.meta)
        assert said.text == answer(one)
        asked.append(question.text)
    assert len(set(asked)) == len(asked) == len(example.meta["types"]) > 0
    assert [len(m.media) for m in example.messages[::2]] == [1] + [0] * (len(asked) - 1)
    assert example.turns == "independent"


def test_boxes_are_those_of_the_objects_named(unpainted):
    world = Scenes(PLAIN.replace(types=("box",)))
    for example in take(world, "heldout", 40):
        width, height = example.meta["size"]
        box = example.target.to_abs((width, height))
        boxes = [
            BoxAbs(*o["box"]) for o in example.meta["objects"] if example.meta["pair"] == f"{o['colour']} {o['shape']}"
        ]
        assert max(box.iou(b) for b in boxes) > 0.999
        assert 0 <= box.x1 < box.x2 <= width and 0 <= box.y1 < box.y2 <= height


def test_a_training_box_is_a_typed_part_in_pixels(unpainted):
    example = Scenes(PLAIN.replace(types=("box",))).example("train", 0, 0)
    (box,) = example.messages[1].parts
    assert isinstance(box, BoxAbs) and box.x2 > 1.5


@pytest.mark.parametrize("kind", ["caption", "description"])
def test_captions_name_every_object_once(unpainted, kind):
    for example in take(Scenes(PLAIN.replace(types=(kind,))), "heldout", 40):
        wanted = phrases(example.meta["objects"])
        assert Counter(example.target["phrases"]) == wanted
        assert all(example.target["reference"].count(phrase) == n for phrase, n in wanted.items())


@pytest.mark.parametrize(
    ("kind", "split"), [(k, s) for k in ("existence", "relation") for s in ("heldout", "compositions")]
)
def test_yes_is_as_frequent_as_no(unpainted, kind, split):
    answers = Counter(e.target for e in take(Scenes(SMALL.replace(types=(kind,))), split, 300))
    assert set(answers) == {"yes", "no"} and abs(answers["yes"] - 150) < 44  # five standard deviations


@pytest.mark.parametrize(("kind", "answers"), [("side", 2), ("height", 2), ("count", 4), ("shape", 4), ("colour", 6)])
def test_no_short_answer_is_the_best_guess_by_far(unpainted, kind, answers):
    counts = Counter(e.target for e in take(Scenes(SMALL.replace(types=(kind,))), "heldout", 300))
    assert len(counts) == answers
    assert max(counts.values()) < 1.5 * 300 / answers


def test_absent_pairs_mostly_share_a_colour_or_a_shape_with_the_picture(unpainted):
    hard, absent = 0, 0
    for example in take(Scenes(SMALL.replace(types=("existence",))), "heldout", 200):
        if example.target == "no":
            gaps = read(example.messages[0].text)[1]
            absent += 1
            hard += any(gaps["colour"] == o["colour"] or gaps["shape"] == o["shape"] for o in example.meta["objects"])
    assert hard / absent > 0.8


def test_types_take_turns_when_one_question_is_asked(unpainted):
    assert [e.meta["type"] for e in take(Scenes(SMALL), "heldout", 12)] == [*SMALL.types, *SMALL.types]


def test_korean_is_asked_and_answered_in_korean(unpainted):
    world = Scenes(PLAIN.replace(types=SHORT, languages=("ko",)))
    for example in take(world, "heldout", 3 * len(SHORT)):
        text = example.messages[0].text
        assert "(" not in text and "{" not in text and any("가" <= c <= "힣" for c in text)
        assert example.target.isdigit() or example.meta["type"] == "text" or "가" <= example.target[0] <= "힣"


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_word_is_in_the_vocabulary(unpainted, split):
    config = SMALL.replace(types=SHORT)
    known = set(" ".join(vocabulary(config)).replace("?", " ").replace(",", " ").replace(".", " ").split())
    said = " ".join(m.text for e in take(Scenes(config), split, 100) for m in e.messages)
    assert set(said.replace("?", " ").replace(",", " ").replace(".", " ").split()) - known == set()


@many
@given(index=st.integers(0, 10**6))
def test_scenes_told_in_words_are_answered_from_the_words(index):
    example = next(Scenes(SMALL).text_examples(seed=1, start=index))
    told = example.messages[0].text
    for colour, shape, size in example.meta["objects"]:
        assert f"{size} {colour} {shape}" in told
    assert not any(m.media for m in example.messages)
    assert all(m.text for m in example.messages)
    assert [m.role for m in example.messages] == ["user", "assistant"] * len(example.meta["types"])


def test_words_name_pairs_that_are_never_drawn():
    examples = Scenes(SMALL).text_examples()
    assert any("red star" in next(examples).messages[0].text for _ in range(200))


def test_the_promised_phrasings_are_asked_with_the_right_article(unpainted):
    said = {m.text for e in take(Scenes(SMALL), "train", 250) for m in e.messages[::2]}
    assert {
        "What color is the star?",
        "What shape is the blue object?",
        "How many objects are there?",
        "Is there a green circle?",
        "Is there an orange circle?",
        "Is the circle on the left or on the right?",
    } <= said


def test_colour_and_shape_of_a_place_are_asked_apart(unpainted):
    for example in take(Scenes(SMALL.replace(types=("colour_at", "shape_at"))), "heldout", 60):
        named = set(example.messages[0].text.rstrip("?").split())
        assert not named & (set(words.COLOURS) | set(words.SHAPES))
        assert example.target in (words.COLOURS if example.meta["type"] == "colour_at" else words.SHAPES)
