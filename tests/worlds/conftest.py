"""Worlds as the tests need them: without painting, where only the truth matters."""

import numpy as np
import pytest

from eyespot.worlds.scenes import paint


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures stay empty: thousands of scenes in a second."""
    monkeypatch.setattr(paint, "paint", lambda scene, rng: np.zeros((1, 1, 3), np.uint8))
