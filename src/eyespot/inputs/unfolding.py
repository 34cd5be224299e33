"""Placeholders of a rendered conversation, one for each medium, written out as the model reads them.

A picture may stand between words of its own (``<img>…</img>``), and a video may be read frame by frame, each frame
introduced by a text that may say when it was. A template knows one mark for each medium and neither how many frames it
has nor when, so this comes between rendering and tokenising. No counts of tokens here: every picture and frame is still
one placeholder.
"""

from collections.abc import Sequence
from dataclasses import replace

from eyespot.contracts.contract import TextRule
from eyespot.contracts.encoded import EncodedMedia
from eyespot.errors import EyespotError
from eyespot.inputs.chat import Rendered


def unfold(rendered: Rendered, pieces: Sequence[Sequence[str]], rule: TextRule) -> Rendered:
    """`rendered` with each placeholder written out.

    Args:
        rendered: a placeholder for each medium, in order.
        pieces: what is written for each, from `pieces_of`.
        rule: with the tokens that they are found by, and what a video's pieces replace.
    """
    edits = []  # start, stop, what is written there, where in it the placeholders are
    for place, written in zip(rendered.media, pieces, strict=True):
        start, stop = _replaced(rendered.text, place, rule)
        text, marks = rule.frame_join.join(written), []
        at = 0
        for piece in written:
            marks.append(at + _token_in(piece, rule))
            at += len(piece) + len(rule.frame_join)
        edits.append((start, stop, text, marks))

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


def pieces_of(medium: EncodedMedia, rule: TextRule, span: int = 1) -> tuple[str, ...]:
    """What is written for a medium: one text, or one for each time of a video; each has one placeholder in it.

    Args:
        medium: with a grid for each time, where a video is read frame by frame.
        rule: with the forms.
        span: frames of a time; the last may have fewer, and its last frame counts for those that it lacks.

    Raises:
        EyespotError: ``media-unreadable`` for a video without times where they are to be written.
    """
    if medium.kind != "video":
        return (rule.image_form or rule.image_token or "",)
    if rule.frame_form is None:
        return (rule.video_token or "",)
    timed, written = "{seconds}" in rule.frame_form, []
    if timed and not medium.timing:
        raise EyespotError("media-unreadable", "the video does not say when its frames are, and the model reads that")
    for i in range(len(medium.grid_thw)):
        seconds = medium.timing[i * span : (i + 1) * span]
        text = rule.frame_form.replace("{number}", str(i + 1))
        if timed:
            last = seconds[-1] if len(seconds) == span else medium.timing[-1]
            text = text.replace("{seconds}", f"{(seconds[0] + last) / 2:.1f}")
        written.append(text)
    return tuple(written)


def _replaced(text: str, place: int, rule: TextRule) -> tuple[int, int]:
    """The characters at a placeholder that what is written for its medium replaces."""
    video, around = rule.video_token, rule.frame_place
    if video is None or not text.startswith(video, place):
        return place, place + len(rule.image_token or "")
    if rule.frame_form is not None and around is not None:
        start = place - around.index(video)
        if start >= 0 and text.startswith(around, start):
            return start, start + len(around)
    return place, place + len(video)


def _token_in(piece: str, rule: TextRule) -> int:
    """Where the placeholder stands in a piece."""
    return next(piece.index(token) for token in (rule.image_token, rule.video_token) if token and token in piece)
