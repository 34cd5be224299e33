"""The real pictures that scikit-learn carries inside its package: two photographs and 1,797 scanned digits.

Behind a guard, as scikit-learn is an extra (`worlds`). Nothing is downloaded.
"""

from functools import cache
from typing import Any

import numpy as np

from eyespot.errors import EyespotError


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise EyespotError(
            "extra-missing",
            "this part of the worlds uses pictures that scikit-learn carries",
            remedy="pip install 'eyespot[worlds]', or leave 'photo' out of the grounds.",
        ) from error
    return datasets


@cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """A temple and a flower, uint8 (427, 640, 3)."""
    china, flower = _datasets().load_sample_images().images
    return np.asarray(china), np.asarray(flower)


@cache
def scans() -> tuple[np.ndarray, np.ndarray]:
    """The digits in the order of the file: ink as uint8 (1797, 8, 8) from 0 to 255, and which digit each is."""
    bunch = _datasets().load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)
