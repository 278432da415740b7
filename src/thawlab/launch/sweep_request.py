"""What was typed of how a sweep goes on: `resume` and `retry`, which are the sweep's, not its jobs'."""

from collections.abc import Sequence
from dataclasses import dataclass

from thawlab.config.schema import ConfigError


@dataclass(frozen=True)
class Asked:
    """How a sweep is to go on.

    Attributes:
        resume: `true`, or what names a sweep: the id of its parent run or the name of its folder; empty for a new one.
        retry: whether runs that failed are tried again.
    """

    resume: str
    retry: bool = False


def take_resume(jobs: Sequence[Sequence[str]]) -> tuple[list[list[str]], Asked]:
    """The jobs without `resume` and `retry`, which are the sweep's; and how it is to go on.

    Raises:
        ConfigError: the jobs differ in one of them, or they do not go together.
    """
    kept: list[list[str]] = []
    values: dict[str, set[str]] = {"resume": set(), "retry": set()}
    for job in jobs:
        own = {name: [each for each in job if each.lstrip("+").partition("=")[0] == name] for name in values}
        kept.append([each for each in job if each not in (*own["resume"], *own["retry"])])
        for name, given in own.items():
            values[name].add(given[-1].partition("=")[2].strip("'\"") if given else "false")
    if len(values["resume"]) > 1:
        raise ConfigError(
            f"resume={','.join(sorted(values['resume']))}: a sweep goes on as a whole; use resume=true with the "
            "command that it was started with, or resume=ID with the id of its parent run"
        )
    resume = next(iter(values["resume"]), "false")
    resume = "" if resume.lower() == "false" else "true" if resume.lower() == "true" else resume
    return kept, Asked(resume, _retry(values["retry"], resume))


def _retry(values: set[str], resume: str) -> bool:
    asked = values - {"false", "null"}
    if wrong := sorted(asked - {"failed"}):
        raise ConfigError(f"retry={wrong[0]}: use failed or null")
    if len(values) > 1:
        raise ConfigError("retry=failed: a sweep goes on as a whole; use retry=failed for all of its jobs, or for none")
    if asked and not resume:
        raise ConfigError("retry=failed: only a sweep that goes on has runs that failed; use resume=true retry=failed")
    return bool(asked)
