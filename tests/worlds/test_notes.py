"""Scenes in words, laid out like the tokens of a picture."""

from itertools import islice

from eyespot.worlds.scenes import HELD_OUT_PAIRS, SMALL, Notes, words


def test_notes_hold_the_words_of_every_object_and_all_pairs_come_up():
    notes = Notes(SMALL, lengths=(40,), notes=1.0)
    pairs = set()
    for example in islice(notes.examples(), 150):
        told = example.messages[0].text.split()
        assert len(told) == 40
        at = [i for i, word in enumerate(told) if word in words.COLOURS]
        pairs |= {(told[i], told[i + 1]) for i in at}
        for kind, answer in zip(example.meta["types"], (m.text for m in example.messages[2::2]), strict=True):
            if kind == "count":
                assert answer == str(len(at))
            if kind == "read":
                assert answer == ", ".join(" ".join(told[i : i + 4]) for i in at)
    assert pairs & HELD_OUT_PAIRS
    assert {m.role for m in example.messages} == {"system", "user", "assistant"}


def test_what_is_sought_stands_in_the_note_once_or_is_nowhere():
    answers = set()
    for example in islice(Notes(SMALL, notes=1.0).examples(), 200):
        told = example.messages[0].text.split()
        things = [told[i : i + 4] for i, word in enumerate(told) if word in words.COLOURS]
        for kind, question, answer in zip(
            example.meta["types"], example.messages[1::2], example.messages[2::2], strict=True
        ):
            if kind != "sought":
                continue
            name = question.text.removeprefix("Where is the ").removesuffix("?").removesuffix(" object").split()
            found = [thing[2:] for thing in things if set(name) <= set(thing[:2])]
            answers.add(answer.text)
            assert found == ([] if answer.text == "nowhere" else [answer.text.split()])
    assert answers == {"nowhere", "top left", "top right", "bottom left", "bottom right"}
