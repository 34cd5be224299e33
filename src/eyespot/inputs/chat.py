"""Messages → the text that the checkpoint's own template makes of them, and who wrote which character of it.

No tokens here. A conversation is rendered as a whole; private marks in a second rendering say where each message's
text ended up, and rendering without them proves that they changed nothing. What a caller typed that spells a control
token is broken up by a mark before the template sees it, so no template can take it for one.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from eyespot.contracts.contract import TextRule
from eyespot.contracts.media import Media, MediaRef
from eyespot.contracts.message import Message
from eyespot.errors import EyespotError
from eyespot.inputs.marks import Marked, Marks, any_of, break_up
from eyespot.inputs.template import probe, render_template
from eyespot.inputs.templates import TEMPLATES, as_string
from eyespot.runtime.limits import LIMITS, Limits


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one message became: characters start to stop of the text.

    Attributes:
        role: who speaks.
        message: index of the message; one past the last for the generation prompt.
        start, stop: the stretches of a rendering follow one another and cover its text.
        text: where the message's own text stands, or None where that is not known.
        supervised: what is learnt: the answer with its end token.
    """

    role: str
    message: int
    start: int
    stop: int
    text: tuple[int, int] | None = None
    supervised: tuple[tuple[int, int], ...] = ()


RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: what is tokenised, in one call.
        spans: a stretch for each message, in order.
        media: where the image placeholders stand that count as pictures.
        literals: character ranges in which a caller spelled a control token; text, not control.
    """

    text: str
    spans: tuple[Stretch, ...]
    media: tuple[int, ...] = ()
    literals: tuple[tuple[int, int], ...] = ()


def render(messages: Sequence[Message], rule: TextRule, **options: Any) -> Rendered:
    """Render one conversation; see `render_all`."""
    return render_all([messages], rule, **options)[0]


def render_all(
    conversations: Sequence[Sequence[Message]],
    rule: TextRule,
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
    limits: Limits = LIMITS,
    specials: Collection[str] = (),
    added: Collection[str] = (),
    supervise: bool = True,
    close_answers: bool = False,
) -> list[Rendered]:
    """Render conversations with `rule.template`, all in one question to the process that runs templates.

    Args:
        conversations: messages of text and media parts only; coordinates are text by now.
        rule: template and special tokens.
        add_generation_prompt: end where the assistant is to speak.
        tools: schemas for templates that take them.
        variables: further ones that the template knows, plain data by name (``add_vision_id``).
        limits: of time and length; of each conversation, and of the time for all.
        specials: the tokenizer's control tokens; typed by anyone they are text.
        added: its other added tokens; those that the template writes are control tokens too, except in answers.
        supervise: find out which characters are answers; else none are.
        close_answers: put the end of sequence after each answer that the template leaves open, for training.

    Raises:
        EyespotError: ``template-missing``, ``template-failed``, ``template-limit``, ``media-count``, ``argument`` for
            a variable that is no plain data or has a name that is taken.
    """
    if not rule.template:
        raise EyespotError("template-missing", "the model has no chat template")
    for messages in conversations:
        length = sum(len(m.text) for m in messages)
        if length > limits.max_text_chars:
            raise EyespotError("too-long", f"{length:,} characters of text, more than {limits.max_text_chars:,}")
    own = _checked(variables or {})
    texts_of = ([m.text, m.tool_calls] for messages in conversations for m in messages)
    marks = Marks.beside(*texts_of, tools or [], list(own.values()))
    renderings = [
        _Rendering(messages, rule, add_generation_prompt, tools, own, limits, specials, added, marks)
        for messages in conversations
    ]
    asked = [variables for rendering in renderings for variables in rendering.asked()]
    texts = iter(render_template(renderings[0].template, asked, marks=marks.generation, limits=limits) if asked else ())
    supervise = supervise and not add_generation_prompt
    return [rendering.result(next(texts), next(texts), supervise, close_answers) for rendering in renderings]


def _checked(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names that no template gets from elsewhere, and plain data."""
    for name, value in variables.items():
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED or name.endswith("_token"):
            message = f"expected the name of a variable that the template knows, got {name!r}"
            raise EyespotError("argument", message, where="variables")
        if not _is_plain(value):
            message = f"expected text, numbers, true, false, lists or mappings of them, got {type(value).__name__}"
            raise EyespotError("argument", message, where=f"variables[{name!r}]")
    return variables


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, bool, int, float))


@lru_cache(maxsize=64)
def _control(
    template: str, named: tuple[str, ...], specials: tuple[str, ...], added: tuple[str, ...]
) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """What is a control token when typed in an answer, when typed elsewhere, and anywhere in a rendered text."""
    always = {*specials, *named}
    written = {token for token in added if token in template}
    return any_of(always), any_of(always | written), any_of(always.union(added))


class _Rendering:
    """One conversation on its way through one template; see `render`."""

    def __init__(
        self,
        messages: Sequence[Message],
        rule: TextRule,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        limits: Limits,
        specials: Collection[str],
        added: Collection[str],
        marks: Marks,
    ) -> None:
        self.messages, self.rule, self.limits, self.marks = messages, rule, limits, marks
        self.add_generation_prompt = add_generation_prompt
        self.template = TEMPLATES.get(rule.template or "", rule.template or "")
        names = ("bos_token", "eos_token", "pad_token", "image_token", "video_token")
        self.places = {rule.image_token: "image", rule.video_token: "video"}
        self.places.pop(None, None)
        self.named = {name: getattr(rule, name) for name in names if getattr(rule, name)}
        self.shape = probe(self.template, rule.image_token, tuple(self.named.items()), limits)
        if not (self.shape.strings or self.shape.parts):
            raise EyespotError("template-failed", "the chat template writes nothing of a user's text")
        named = tuple(self.named.values())
        self.in_answers, self.elsewhere, self.any_token = _control(self.template, named, tuple(specials), tuple(added))
        self.tools = break_up(list(tools), self.elsewhere, self.marks.broken) if tools else None
        self.variables = break_up(variables, self.elsewhere, self.marks.broken)

    # -- what the template sees ---------------------------------------------------------------------------------------

    def asked(self) -> list[dict[str, Any]]:
        """The variables of the rendering with marks and of the one without."""
        return [self._variables(len(self.messages), marked, self.add_generation_prompt) for marked in (True, False)]

    def _variables(self, count: int, marked: bool, prompt: bool) -> dict[str, Any]:
        return {
            **self.variables,
            **self.named,
            "messages": [self._message(i, marked) for i in range(count)],
            "tools": self.tools,
            "documents": None,
            "add_generation_prompt": prompt,
        }

    def _message(self, index: int, marked: bool) -> dict[str, Any]:
        message = self.messages[index]
        control = self.in_answers if message.role == "assistant" else self.elsewhere
        pieces = [self._piece(part, control, index, marked) for part in message.parts]
        kinds = [part.kind for part in message.media]
        written: dict[str, Any] = {"role": message.role, "content": self._content(pieces, kinds)}
        extra = {"tool_calls": list(message.tool_calls), "name": message.name, "tool_call_id": message.tool_call_id}
        given = {name: value for name, value in extra.items() if value}
        return {**written, **break_up(given, control, self.marks.broken)}

    def _piece(self, part: Any, control: re.Pattern[str], index: int, marked: bool) -> str | None:
        """A part's text as the template gets it, or None for a picture."""
        if isinstance(part, (Media, MediaRef)):
            return None
        text = break_up(part.text, control, self.marks.broken)
        core = text.strip()
        if not marked or not core:
            return text
        # Inside the outer space, so that a template that trims finds the same to trim.
        begin, end = self.marks.around(index)
        start = text.index(core)
        return text[:start] + begin + core + end + text[start + len(core) :]

    def _content(self, pieces: list[str | None], kinds: list[str]) -> Any:
        """The pieces in the form that the template takes: a string where it does, unless it writes pictures itself.

        A template that writes no videos is found out when placeholders are counted.
        """
        pictures = None in pieces
        simple = len(pieces) <= 1 and not pictures
        if self.shape.strings and (simple or not self.shape.parts or (pictures and not self.shape.images)):
            return as_string(pieces, self.rule.image_token or "")
        image = {"type": "image"} if self.shape.images else {"type": "text", "text": self.rule.image_token or ""}
        media = iter([image if kind == "image" else {"type": kind} for kind in kinds])
        return [next(media) if piece is None else {"type": "text", "text": piece} for piece in pieces]

    # -- what came of it ----------------------------------------------------------------------------------------------

    def _read(self, text: str) -> Marked:
        return self.marks.read(text, self.any_token)

    def result(self, marked: str, plain: str, supervise: bool, close_answers: bool) -> Rendered:
        """What the template wrote with marks, and without: where the marks changed nothing, they say who wrote what."""
        with_marks, without = self._read(marked), self._read(plain)
        seen = with_marks if with_marks.text == without.text else without
        placed = [token for token in seen.tokens if token.text in self.places]
        media = tuple(token.start for token in placed)
        self._check_media([self.places[token.text] for token in placed])
        answers = self._answers(seen) if supervise else {}
        rendered = Rendered(seen.text, self._spans(seen, answers), media, seen.literals)
        return self._closed(rendered, seen) if close_answers and self.rule.eos_token else rendered

    def _check_media(self, placed: list[str]) -> None:
        """Placeholders stand for the media in their order, each for its own kind."""
        given = [part.kind for m in self.messages for part in m.media]
        for kind, name in (("image", "pictures"), ("video", "videos")):
            if kind in given and kind not in self.places.values():
                raise EyespotError("not-supported", f"this model takes no {name}, {given.count(kind)} given")
        for kind, name in (("image", "pictures"), ("video", "videos")):
            if placed.count(kind) != given.count(kind):
                token = next((token for token, of in self.places.items() if of == kind), None)
                message = f"{placed.count(kind)} placeholders ({token}) in the rendered text"
                raise EyespotError("media-count", f"{message}, {given.count(kind)} {name} given")
        if placed != given:
            message = f"placeholders in the rendered text for {', '.join(placed)}; given: {', '.join(given)}"
            raise EyespotError("template-failed", message)

    def _answers(self, seen: Marked) -> dict[int, list[tuple[int, int]]]:
        """For each assistant message the characters that are learnt: the answer through its end token."""
        assistants = [i for i, m in enumerate(self.messages) if m.role == "assistant"]
        found: dict[int, list[tuple[int, int]]] = {}
        if seen.generations:
            for start, stop, inside in seen.generations:
                index = inside if inside in assistants else next((i for i in assistants if i not in found), None)
                if index is None:
                    raise EyespotError("template-failed", "more {% generation %} blocks than assistant messages")
                found.setdefault(index, []).append((start, self._through_end(seen, stop, seen.texts.get(index))))
            return found
        unknown = []
        for i in assistants:
            if i in seen.texts and not self.messages[i].tool_calls:
                start, stop = seen.texts[i]
                found[i] = [(start, self._through_end(seen, stop, seen.texts[i]))]
            else:
                unknown.append(i)
        return {**found, **self._answers_by_prefix(seen, unknown)}

    def _answers_by_prefix(self, seen: Marked, indices: list[int]) -> dict[int, list[tuple[int, int]]]:
        """An answer is what rendering through it adds to rendering up to it."""
        if not indices:
            return {}
        renders = [v for i in indices for v in (self._variables(i, False, True), self._variables(i + 1, False, False))]
        texts = render_template(self.template, renders, marks=self.marks.generation, limits=self.limits)
        rendered, found = [self._read(text) for text in texts], {}
        for i, before, after in zip(indices, rendered[::2], rendered[1::2], strict=True):
            start = len(before.text)
            if not (seen.text.startswith(after.text) and after.text.startswith(before.text)):
                raise EyespotError(
                    "template-failed",
                    f"which characters of the rendered text are the answer cannot be told [messages[{i}]]",
                    remedy="Give a template with {% generation %} around what the assistant says.",
                )
            end = after.token_before(len(after.text))
            stop = end.stop if end and end.stop > start and self._ends(end.text) else len(after.text.rstrip())
            found[i] = [(start, max(start, stop))]
        return found

    def _ends(self, token: str) -> bool:
        """Whether a control token can end an answer."""
        rule = self.rule
        return token not in self.places and (token != rule.bos_token or token == rule.eos_token)

    def _through_end(self, seen: Marked, stop: int, own: tuple[int, int] | None) -> int:
        """`stop`, or where the end token stops that follows after nothing but space.

        A token in the message's `own` text (``</tool_call>``) ends something in the answer and not the answer.
        """
        last = seen.token_before(stop)
        if last and self._ends(last.text) and not (own and last.stop <= own[1]):
            return stop
        following = seen.token_after(stop)
        return following.stop if following and self._ends(following.text) else stop

    def _spans(self, seen: Marked, answers: Mapping[int, list[tuple[int, int]]]) -> tuple[Stretch, ...]:
        """The text divided among the messages: each goes on through its text and the control token behind it."""
        spans, cursor = [], 0
        for i, message in enumerate(self.messages):
            ends = [stop for _, stop in answers.get(i, ())]
            if i in seen.texts:
                ends.append(self._through_end(seen, seen.texts[i][1], seen.texts[i]))
            stop = max([cursor, *ends])
            learnt = () if message.weight == 0 else tuple(answers.get(i, ()))
            spans.append(Stretch(message.role, i, cursor, stop, seen.texts.get(i), learnt))
            cursor = stop
        if self.add_generation_prompt:
            return (*spans, Stretch("assistant", len(spans), cursor, len(seen.text)))
        return (*spans[:-1], replace(spans[-1], stop=len(seen.text)))

    def _closed(self, rendered: Rendered, seen: Marked) -> Rendered:
        """With the end of sequence behind each learnt answer that nothing ends.

        A `{% generation %}` block that ends with a line's end says itself how an answer ends.
        """
        eos, places = self.rule.eos_token or "", []
        for span in rendered.spans:
            for start, stop in span.supervised[-1:]:
                last, own = seen.token_before(stop), span.text or (start, start)
                ended = (last is not None and last.start >= max(start, own[1]) and self._ends(last.text)) or (
                    bool(seen.generations) and rendered.text[start:stop].endswith("\n")
                )
                if not ended:
                    places.append(start + len(rendered.text[start:stop].rstrip()))
        return insert(rendered, places, eos)


def insert(rendered: Rendered, places: Sequence[int], token: str) -> Rendered:
    """`rendered` with `token` put in at each place; an answer that held the place stops behind it."""

    def moved(position: int) -> int:
        return position + len(token) * sum(place < position for place in places)

    def moved_answer(start: int, stop: int) -> tuple[int, int]:
        inside = next((p for p in places if start < p <= stop), None)
        return moved(start), stop_of(inside) if inside is not None else moved(stop)

    def stop_of(place: int) -> int:
        return moved(place) + len(token)

    def moved_span(span: Stretch) -> Stretch:
        return replace(
            span,
            start=moved(span.start),
            stop=moved(span.stop) + len(token) * (span.stop in places),
            text=span.text and (moved(span.text[0]), moved(span.text[1])),
            supervised=tuple(moved_answer(*answer) for answer in span.supervised),
        )

    text = rendered.text
    for place in sorted(places, reverse=True):
        text = text[:place] + token + text[place:]
    return Rendered(
        text,
        tuple(map(moved_span, rendered.spans)),
        tuple(map(moved, rendered.media)),
        tuple((moved(start), moved(stop)) for start, stop in rendered.literals),
    )
