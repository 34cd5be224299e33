"""How sure a figure is: Wilson intervals of shares, paired differences, and the best constant answer."""

import math
from collections import Counter
from collections.abc import Sequence

Z95 = 1.959963984540054


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): holds near 0 and 1, where the normal one does not.

    Args:
        share: mean score, 0 to 1.
        n: items; 0 gives (0, 1).
        z: quantile of the normal distribution.
    """
    if n == 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and 1 the formula is exact, the floats are not.
    return min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share)


def paired_difference(a: Sequence[float], b: Sequence[float], z: float = Z95) -> tuple[float, float, float]:
    """Mean of a − b over the same items, and its 95 % interval by the normal approximation.

    Raises:
        ValueError: when the lengths differ or there is no item.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"paired scores need the same items: {len(a)} and {len(b)}")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / max(n - 1, 1)
    half = z * math.sqrt(variance / n)
    return mean, mean - half, mean + half


def best_constant(targets: Sequence[str]) -> tuple[str, float]:
    """The answer that is right most often when always given, and its share: chance for a model that never looks."""
    if not targets:
        return "", 0.0
    answer, count = Counter(targets).most_common(1)[0]
    return answer, count / len(targets)
