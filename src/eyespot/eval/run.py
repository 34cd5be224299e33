"""Task × generator → answers → figures. Every question is also asked of a blank picture of the same size.

What a model scores on the blank picture is what it knows from language and habit alone; only what lies above that,
and above the best constant answer, has been seen.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eyespot.contracts.media import MediaRef
from eyespot.contracts.message import Example, Message
from eyespot.contracts.protocols import Generator, Task
from eyespot.errors import EyespotError
from eyespot.eval.statistics import best_constant, paired_difference, wilson

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, what was said, and how it scored."""

    example: Example
    type: str
    text: str
    score: float
    blank_text: str | None = None
    blank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All answers of one model on one set."""

    task: str
    answers: tuple[Answer, ...]

    def figures(self, overall: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """``{"overall" | TYPE: {"accuracy", "n", "interval", "blank", "chance", "difference"}}``, shares from 0 to 1.

        Args:
            overall: the types that count in the overall figure; all by default.
        """
        by_type: dict[str, list[Answer]] = defaultdict(list)
        for answer in self.answers:
            by_type[answer.type].append(answer)
        counted = [a for a in self.answers if overall is None or a.type in overall]
        chance = {name: best_constant([str(a.example.target) for a in group])[1] for name, group in by_type.items()}
        table = {OVERALL: _figure(counted, _mean([chance[a.type] for a in counted]))}
        table.update({name: _figure(by_type[name], chance[name]) for name in sorted(by_type)})
        return table


def _figure(answers: Sequence[Answer], chance: float) -> dict[str, Any]:
    scores = [a.score for a in answers]
    accuracy = _mean(scores)
    figure = {"accuracy": accuracy, "n": len(scores), "interval": list(wilson(accuracy, len(scores))), "chance": chance}
    if answers and all(a.blank_score is not None for a in answers):
        blank = [float(a.blank_score or 0.0) for a in answers]
        figure["blank"] = _mean(blank)
        figure["difference"] = list(paired_difference(scores, blank))
    return figure


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def evaluate(
    generator: Generator,
    task: Task,
    examples: Iterable[Example],
    *,
    blank: bool = True,
    max_new_tokens: int = 16,
) -> Evaluation:
    """Ask every example, with its picture and, unless `blank` is off, with a mean-colour picture instead.

    Args:
        generator: anything that answers conversations.
        task: makes the prompt, reads the answer, scores it. Of several scores ``correct`` counts, else the first.
        examples: with `target`, and `meta["type"]` naming the kind of question.
        blank: ask the blind baseline too.
        max_new_tokens: of each answer.
    """
    examples = list(examples)
    if not examples:
        raise EyespotError("argument", "there is nothing to evaluate: the set has no examples", where=task.name)
    prompts = [task.prompt(example) for example in examples]
    texts = [reply.text for reply in generator.generate(prompts, max_new_tokens)]
    blanks: list[str] | None = None
    if blank:
        colour = mean_colour(prompts)
        blind = [blanked(prompt, colour) for prompt in prompts]
        blanks = [reply.text for reply in generator.generate(blind, max_new_tokens)]
    answers = []
    for i, (example, text) in enumerate(zip(examples, texts, strict=True)):
        score = _score(task, text, example)
        answer = Answer(example, str(example.meta.get("type", task.name)), text, score)
        if blanks is not None:
            answer = replace(answer, blank_text=blanks[i], blank_score=_score(task, blanks[i], example))
        answers.append(answer)
    return Evaluation(task.name, tuple(answers))


def _score(task: Task, text: str, example: Example) -> float:
    scores: Mapping[str, float] = task.score(task.parse(text), example.target)
    return float(scores["correct"] if "correct" in scores else next(iter(scores.values())))


def mean_colour(prompts: Sequence[Sequence[Message]], sample: int = 200) -> tuple[int, int, int]:
    """The mean colour of the set's pictures: a blank must not tell one picture from another."""
    means = [
        part.source.reshape(-1, part.source.shape[-1]).mean(0)[:3]
        for prompt in prompts[:sample]
        for message in prompt
        for part in message.media
        if isinstance(part, MediaRef) and isinstance(part.source, np.ndarray) and part.source.ndim == 3
    ]
    mean = np.mean(means, axis=0) if means else np.array([127.0, 127.0, 127.0])
    return tuple(int(round(c)) for c in mean)  # type: ignore[return-value]


def blanked(messages: Sequence[Message], colour: tuple[int, int, int]) -> tuple[Message, ...]:
    """The same conversation with every picture replaced by one of a single colour and the same size."""

    def blank(part: Any) -> Any:
        if not isinstance(part, MediaRef) or part.kind != "image":
            return part
        source = part.source
        height, width = source.shape[:2] if isinstance(source, np.ndarray) else (64, 64)
        return replace(part, source=np.full((height, width, 3), colour, np.uint8))

    return tuple(replace(m, parts=tuple(blank(p) for p in m.parts)) for m in messages)
