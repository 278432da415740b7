"""thawlab in Python, for scripts and notebooks; nothing in thawlab but its own name imports this."""

from thawlab.api.comparing import ComparisonResult, compare
from thawlab.api.results import Result, Results, RunError
from thawlab.api.training import train
from thawlab.config.schema import ConfigError

__all__ = ["ComparisonResult", "ConfigError", "Result", "Results", "RunError", "compare", "train"]
