"""A probe whose head is solved for: which settings play no part in it, since they are of training by steps."""

from collections.abc import Iterator, Mapping, Sequence

from thawlab.config.kinds import is_below
from thawlab.config.schema import Config, name_of

# The settings, or sections of settings, that play no part.
IDLE = (
    "augment",
    "cache.views",
    "epochs",
    "label_smoothing",
    "optimizer",
    "scheduler",
    "trainer.accumulate",
    "trainer.clip",
    "trainer.ema",
    "trainer.min_steps",
    "trainer.patience",
)


def is_solved(config: Config) -> bool:
    """Whether the run does nothing but solve for a head."""
    return name_of(config.strategy) == "linear_probe" and getattr(config.strategy, "solver", None) == "lbfgs"


def alike(configs: Sequence[Config], varied: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is wrong with a sweep of nothing but solved heads over a setting that plays no part in them.

    Args:
        configs: of all jobs.
        varied: the keys in which they differ, each with its values.
    """
    if all(is_solved(config) for config in configs):
        for key in varied:
            if is_below(key, IDLE):
                yield (
                    f"{key}={','.join(varied[key])}: plays no part where the head is solved for, so that these jobs "
                    "would come out the same; use strategy.solver=gradient, which trains it by steps, or leave it out"
                )
