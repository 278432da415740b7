"""The configuration that the others are held against."""

from collections.abc import Mapping, Sequence

from thawlab.compare.comparison import Configuration
from thawlab.compare.select.request import Request
from thawlab.config.schema import ConfigError


def baseline_of(configurations: Sequence[Configuration], request: Request) -> Configuration | None:
    """The configuration that was named as baseline.

    Raises:
        ConfigError: none fits, or several do.
    """
    if not request.baseline and request.baseline_run is None:
        return None
    if request.baseline_run is not None:
        named = f"baseline={request.baseline_run}"
        fitting = [each for each in configurations if any(run.run_id == request.baseline_run for run in each.runs)]
    else:
        named = "baseline=" + ",".join(f"{key}={value}" for key, value in request.baseline.items())
        fitting = [each for each in configurations if _fits(each, request.baseline)]
    if len(fitting) == 1:
        return fitting[0]
    labels = ", ".join(each.label or "the only configuration" for each in (fitting or configurations)[:12])
    raise ConfigError(f"{named}: {'several configurations fit' if fitting else 'no configuration fits'}; use {labels}")


def _fits(configuration: Configuration, wanted: Mapping[str, str]) -> bool:
    run = configuration.runs[0]

    def value(key: str) -> str | None:
        for name in (key, f"{key}.name"):
            if name in configuration.factors:
                return configuration.factors[name]
        return run.params.get(key, run.params.get(f"{key}.name"))

    return all(value(key) == text for key, text in wanted.items())
