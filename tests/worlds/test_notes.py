"""Scenes in words, laid out like the tokens of a picture."""

from itertools import islice

from eyespot.worlds.scenes import HELD_OUT_PAIRS, SMALL, Notes, words


def test_notes_hold_the_words_of_every_object_and_all_pairs_come_up():
    notes = Notes(SMALL, length=40, notes=1.0)
    pairs = set()
    for example in islice(notes.examples(), 150):
        told = example.messages[0].text.split()
        assert len(told) == 40
        at = [i for i, word in enumerate(told) if word in words.COLOURS]
        pairs |= {(told[i], told[i + 1]) for i in at}
        for kind, answer in zip(example.meta["types"], (m.text for m in example.messages[2::2]), strict=True):
            if kind == "count":
                assert answer == str(len(at))
    assert pairs & HELD_OUT_PAIRS
    assert {m.role for m in example.messages} == {"system", "user", "assistant"}
