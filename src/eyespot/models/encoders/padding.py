"""Captions of one length: too long ones, and which tokens are there. What a tower does not look at, it leaves out."""

from eyespot.contracts.shapes import Bool, Int, Tensor
from eyespot.errors import EyespotError


def check_length(input_ids: Int[Tensor, "B l"], most: int) -> None:
    """Refuse texts that the tower has no places for.

    Raises:
        EyespotError: ``too-long`` with both numbers.
    """
    if (length := input_ids.shape[1]) > most:
        raise EyespotError("too-long", f"{length} tokens, the text tower takes {most}")


def without_padding(
    input_ids: Int[Tensor, "B l"], pad_token_id: int, most: int
) -> tuple[Bool[Tensor, "B l"], tuple[int, ...]]:
    """Which tokens are there, and how many of each text.

    Raises:
        EyespotError: ``too-long``; ``argument`` for a text of nothing but padding.
    """
    check_length(input_ids, most)
    there = input_ids != pad_token_id
    lengths = tuple(there.sum(1).tolist())
    if 0 in lengths:
        raise EyespotError("argument", f"text {lengths.index(0)} holds nothing but padding", where="input_ids")
    return there, lengths
