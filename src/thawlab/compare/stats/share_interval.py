"""The interval of a share, from the spread of what it is a share of."""

from math import sqrt

from scipy import special

LEVEL = 0.95


def accuracy_interval(accuracy: float, images: int) -> tuple[float, float]:
    """Where one network's accuracy on other images like these lies, at `LEVEL`; it knows nothing of other seeds."""
    tail = (1 - LEVEL) / 2
    degrees = max(images - 1, 1)
    return wilson(accuracy, accuracy_variance(accuracy, images), images, -float(special.stdtrit(degrees, tail)))


def accuracy_variance(accuracy: float, images: int) -> float:
    """Of one network's accuracy over the images that it is tested on, without bias."""
    return accuracy * (1 - accuracy) / max(images - 1, 1)


def wilson(mean: float, variance: float, samples: int, t: float) -> tuple[float, float]:
    """Wilson's interval of a share whose variance was estimated.

    Wilson (1927) with the effective sample size m (1 − m) / variance, as for complex surveys (Franco et al. 2019). A
    sample that is right and one that is wrong are added to find that size, so that all right is as n = N + 1
    independent samples: its lower end is n / (n + t²).

    Args:
        mean: the share.
        variance: of the share.
        samples: N.
        t: quantile of Student's t.
    """
    with_two = (mean * samples + 1) / (samples + 2)
    size = with_two * (1 - with_two) / (variance + (mean**2 + (1 - mean) ** 2) / (samples + 2) ** 2)
    centre = (mean + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * sqrt(mean * (1 - mean) / size + t**2 / (4 * size**2))
    return max(min(centre - half, mean), 0.0), min(max(centre + half, mean), 1.0)
