"""A tokenizer's twin: same ids, but its added tokens are spelled in characters that no text holds.

With it a text in which some control tokens are meant and others only typed is tokenised in one call: the meant ones
are written in the twin's spelling, and to the twin the typed ones are ordinary text. Pieces encoded one by one would
differ from the whole at every border.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Sequence

import tokenizers

from eyespot.errors import EyespotError

# Added token i is spelled as this noncharacter followed by a private-use character.
LEAD = "\ufdd0"
FIRST_PRIVATE = 0xF0000


class Twin:
    """Made when the first typed control token comes.

    Args:
        data: content of ``tokenizer.json``.
        added: its added tokens.
    """

    def __init__(self, data: str, added: Sequence[str]) -> None:
        self.spelling = {token: LEAD + chr(FIRST_PRIVATE + i) for i, token in enumerate(added)}
        content = json.loads(data)
        for token in content["added_tokens"]:
            token["content"] = self.spelling[token["content"]]
        # In the model's own vocabulary too: some models would find `</s>` there, spelled or not.
        model, respell = content["model"], lambda piece: self.spelling.get(piece, piece)
        if isinstance(model["vocab"], dict):
            model["vocab"] = {respell(piece): i for piece, i in model["vocab"].items()}
        else:  # unigram: [piece, score] in order of ids
            model["vocab"] = [[respell(piece), score] for piece, score in model["vocab"]]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = respell(model["unk_token"])
        self.backend = tokenizers.Tokenizer.from_str(json.dumps(content))

    def respell(self, text: str, meant: Sequence[re.Match[str]]) -> tuple[str, "Places"]:
        """`text` with the meant tokens in the twin's spelling, and the way back for positions."""
        if LEAD in text:
            raise EyespotError("message-malformed", "the text holds the noncharacter U+FDD0")
        pieces, borders, shifts, position, length = [], [], [], 0, 0
        for match in meant:
            spelled = self.spelling[match[0]]
            pieces += [text[position : match.start()], spelled]
            length += match.start() - position + len(spelled)
            position = match.end()
            borders.append(length)
            shifts.append(position - length)
        return "".join([*pieces, text[position:]]), Places(borders, shifts)


class Places:
    """From positions in the respelled text to those in the text itself; `borders` are where respelled tokens stop."""

    def __init__(self, borders: list[int], shifts: list[int]) -> None:
        self.borders, self.shifts = borders, shifts

    def back(self, position: int) -> int:
        """Where `position` is in the text itself."""
        i = bisect_right(self.borders, position)
        return position + (self.shifts[i - 1] if i else 0)
