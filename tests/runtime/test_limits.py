"""The one table of limits: overridable, strict, positive."""

import pytest

from eyespot.errors import EyespotError
from eyespot.runtime.limits import LIMITS, Limits


def test_sixty_four_megapixels_and_no_redirects_by_default() -> None:
    assert (LIMITS.max_pixels, LIMITS.max_redirects) == (64_000_000, 0)


def test_a_raised_limit_leaves_the_default_alone() -> None:
    assert LIMITS.replace(max_pixels=1).max_pixels == 1
    assert Limits().max_pixels == LIMITS.max_pixels


def test_an_unknown_limit_names_the_nearest() -> None:
    with pytest.raises(EyespotError, match="max_pixels"):
        Limits.from_dict({"max_pixel": 3})


@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_that_nothing_satisfies_is_refused(value: int) -> None:
    with pytest.raises(EyespotError, match=r"limits\.max_pixels"):
        Limits(max_pixels=value)


@pytest.mark.parametrize("field", list(LIMITS.to_dict()))
def test_every_limit_is_described(field: str) -> None:
    assert f"{field}:" in (Limits.__doc__ or "")
