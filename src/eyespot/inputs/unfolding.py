"""Placeholders of a rendered conversation, one for each medium, written out as the model reads them.

A picture may stand between words of its own (``<img>…</img>``), and a video may be read frame by frame, each frame
introduced by a text. A template knows one mark for each medium and not how many frames it has, so this comes between
rendering and tokenising. No counts of tokens here: every picture and frame is still one placeholder.
"""

from collections.abc import Sequence
from dataclasses import replace

from eyespot.contracts.contract import TextRule
from eyespot.inputs.chat import Rendered


def unfold(rendered: Rendered, kinds: Sequence[str], frames: Sequence[int], rule: TextRule) -> Rendered:
    """`rendered` with each placeholder written out.

    Args:
        rendered: a placeholder for each medium, in order.
        kinds: of the media.
        frames: how many pictures each becomes.
        rule: with the forms; what has none stays as it is.
    """
    edits = []  # start, stop, what is written there, where in it the placeholders are
    for place, kind, count in zip(rendered.media, kinds, frames, strict=True):
        token = rule.image_token if kind == "image" else rule.video_token
        form = rule.image_form if kind == "image" else rule.frame_form
        assert token is not None
        text, marks = token, [0]
        if form is not None and rule.image_token is not None:
            pieces = [form.replace("{number}", str(i + 1)) for i in range(count if kind == "video" else 1)]
            text, marks = rule.frame_join.join(pieces), []
            for _ in pieces:
                marks.append(text.index(rule.image_token, marks[-1] + len(rule.image_token) if marks else 0))
        edits.append((place, place + len(token), text, marks))

    def moved(position: int) -> int:
        return position + sum(len(text) - (stop - start) for start, stop, text, _ in edits if stop <= position)

    written, at, media = [], 0, []
    for start, stop, text, marks in edits:
        written += [rendered.text[at:start], text]
        media += [moved(start) + mark for mark in marks]
        at = stop
    spans = tuple(
        replace(
            span, start=moved(span.start), stop=moved(span.stop),
            text=span.text and (moved(span.text[0]), moved(span.text[1])),
            supervised=tuple((moved(a), moved(b)) for a, b in span.supervised),
        )
        for span in rendered.spans
    )  # fmt: skip
    literals = tuple((moved(a), moved(b)) for a, b in rendered.literals)
    return Rendered("".join([*written, rendered.text[at:]]), spans, tuple(media), literals)


def parts_of(kind: str, grids: int, rule: TextRule) -> int:
    """Placeholders that a medium of so many grids takes: one, or one for each frame."""
    return grids if kind == "video" and rule.frame_form is not None else 1
