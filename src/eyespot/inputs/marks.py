"""Private characters around and inside what callers wrote, and what can be read from where a template put them.

A mark is a private-use character that occurs nowhere else in the conversation, so taking them out gives the text back.
Not a tokenizer's business: no mark is ever tokenised.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from eyespot.errors import EyespotError

PRIVATE = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True)
class Token:
    """A control token that is meant as one: characters start to stop."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, slots=True)
class Marks:
    """The private characters of one rendering: five signs and ten digits."""

    signs: str

    @classmethod
    def beside(cls, *used: Any) -> "Marks":
        """Marks that occur in none of the strings (or of the strings in the nested data) `used`."""
        taken = set().union(*map(set, strings(used)))
        free = list(islice((chr(code) for code in PRIVATE if chr(code) not in taken), 15))
        if len(free) < 15:
            raise EyespotError("message-malformed", "the text uses every private-use character there is")
        return cls("".join(free))

    @property
    def broken(self) -> str:
        """Breaks up a control token that somebody spelled."""
        return self.signs[2]

    @property
    def generation(self) -> tuple[str, str]:
        """Written around `{% generation %}` blocks."""
        return self.signs[3], self.signs[4]

    def around(self, index: int) -> tuple[str, str]:
        """Written around text of message `index`."""
        number = "".join(self.signs[5 + int(digit)] for digit in str(index))
        return self.signs[0] + number, self.signs[1] + number

    def read(self, marked: str, control: re.Pattern[str]) -> "Marked":
        """Take the marks out of `marked` and note what they say; `control` matches control tokens."""
        start, stop, broken, opened, closed = self.signs[:5]
        pieces, length, cuts, breaks, generations, open_blocks = [], 0, set(), set(), [], []
        texts: dict[int, list[int]] = {}  # message → where it starts and stops, and how many starts less stops
        for piece, sign, number in re.findall(f"([^{self.signs}]*)([{self.signs[:5]}]|$)([{self.signs[5:]}]*)", marked):
            pieces.append(piece)
            length += len(piece)
            cuts.add(length)
            if sign in (start, stop) and number:
                seen = int("".join(str(self.signs.index(digit) - 5) for digit in number))
                entry = texts.setdefault(seen, [length if sign == start else -1, length, 0])
                entry[1], entry[2] = length, entry[2] + (1 if sign == start else -1)
                open_blocks = [(at, seen) for at, _ in open_blocks]
            elif sign == broken:
                breaks.add(length)
            elif sign == opened:
                open_blocks.append((length, None))
            elif sign == closed and open_blocks:
                at, inside = open_blocks.pop()
                generations.append((at, length, inside))
        text = "".join(pieces)
        whole = {i: (a, b) for i, (a, b, depth) in texts.items() if depth == 0 and a >= 0}
        tokens, literals = _sorted(control.finditer(text), cuts, breaks)
        return Marked(text, whole, tuple(generations), tokens, literals)


def _sorted(
    matches: Iterable[re.Match[str]], cuts: set[int], breaks: set[int]
) -> tuple[tuple[Token, ...], tuple[tuple[int, int], ...]]:
    """Control tokens that the template wrote, and ranges that were typed: those with a mark inside.

    A token of one character has no inside; its mark stands right behind it.
    """
    tokens, literals = [], []
    for match in matches:
        a, b = match.span()
        if any(at in cuts for at in range(a + 1, b)) or (b - a == 1 and b in breaks):
            literals.append((a, b))
        else:
            tokens.append(Token(a, b, match[0]))
    return tuple(tokens), tuple(literals)


@dataclass(frozen=True, slots=True)
class Marked:
    """A rendering without its marks, and what they said.

    Attributes:
        text: what was rendered.
        texts: for each message whose own text is in it as a whole, from its first to its last character.
        generations: the author's blocks: start, stop and the message whose text is inside, if any.
        tokens: control tokens that the template wrote.
        literals: ranges that somebody spelled like one.
    """

    text: str
    texts: Mapping[int, tuple[int, int]]
    generations: tuple[tuple[int, int, int | None], ...]
    tokens: tuple[Token, ...]
    literals: tuple[tuple[int, int], ...]

    def token_after(self, position: int) -> Token | None:
        """The token that comes next after nothing but space."""
        token = next((t for t in self.tokens if t.start >= position), None)
        return token if token and not self.text[position : token.start].strip() else None

    def token_before(self, position: int) -> Token | None:
        """The token that ends before `position` with nothing but space between."""
        token = next((t for t in reversed(self.tokens) if t.stop <= position), None)
        return token if token and not self.text[token.stop : position].strip() else None


def strings(data: Any) -> Iterable[str]:
    """Every string inside nested data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from strings(key)
            yield from strings(value)
    elif isinstance(data, (list, tuple, set, frozenset)):
        for value in data:
            yield from strings(value)


def break_up(value: Any, pattern: re.Pattern[str], mark: str) -> Any:
    """Nested data with `mark` inside every match of `pattern` in its strings."""
    if isinstance(value, str):
        return pattern.sub(lambda match: match[0][0] + mark + match[0][1:], value)
    if isinstance(value, Mapping):
        return {key: break_up(item, pattern, mark) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [break_up(item, pattern, mark) for item in value]
    return value


def any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern of these tokens, the longest first; of none, one that never matches."""
    return re.compile("|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))) or r"(?!)")
