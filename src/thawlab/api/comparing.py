"""`thawlab.compare`."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thawlab.api.results import Result, Results
from thawlab.config.schema import ConfigError
from thawlab.system.redaction import redacted

if TYPE_CHECKING:
    import pandas as pd

    from thawlab.compare.comparison import Comparison


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """What a comparison found.

    Attributes:
        title: what was compared.
        metric: in which respect.
        conclusion: which is best, by how much, how sure, in sentences.
        notes: what limits that.
        configurations: a row a configuration, the best first: `name`, its settings, `mean`, `sd`, `low` and `high` of
            its interval, `n` runs, `is_best`, `may_be_best`, and the ids of its `runs`.
        differences: a row a pair: the names of the `first` and the `second`, `difference` of their means with `low` and
            `high`, `p`, `p_holm` (after Holm's correction), `test`.
        report: the page, with tables and plots beside it.
    """

    title: str
    metric: str
    conclusion: str
    notes: tuple[str, ...]
    configurations: "pd.DataFrame"
    differences: "pd.DataFrame"
    report: Path

    def __repr__(self) -> str:
        return (
            f"<ComparisonResult of {self.title}\n{self.conclusion}\n\n{self.configurations}\n\nreport: {self.report}>"
        )


def compare(*what: str | Result | Results, **settings: object) -> ComparisonResult:
    """Say which configuration is best, by how much, how sure, as `thawlab compare` does.

    Args:
        what: runs or sweeps that `train` returned; words as on the command line, `"sweep=latest"`.
        settings: values by key, `metric="test/balanced_acc"`, `by=["freeze"]`, `baseline={"freeze": 0}`.

    Raises:
        ConfigError: nothing can be compared as asked.
    """
    from thawlab.cli.compare import run
    from thawlab.compare.select.request import parse

    words = [each for each in what if isinstance(each, str)]
    words += _runs_asked([each for each in what if not isinstance(each, str)])
    words += [f"{key}={_asked(value)}" for key, value in settings.items()]
    try:
        found, report = run(parse(words), redacted(shlex.join(["thawlab", "compare", *words])))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return _compared(found, report)


def _runs_asked(what: Iterable[Result | Results]) -> list[str]:
    """The words that ask for these runs: as the sweep that they are, or by their ids."""
    asked = list(what)
    runs = [run for each in asked for run in ([each] if isinstance(each, Result) else each)]
    if not runs:
        return []
    only = asked[0] if len(asked) == 1 else None
    if isinstance(only, Results) and only.parent_id:
        chosen = f"sweep={only.parent_id}"
    else:
        chosen = f"runs=[{','.join(run.run_id for run in runs)}]"
    return [chosen, f"uri={runs[0].tracking_uri}"]


def _asked(value: object) -> str:
    """A value as `thawlab compare` reads it."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_asked(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _compared(found: "Comparison", report: Path) -> ComparisonResult:
    import pandas as pd

    names = [row.configuration.label for row in found.rows]
    rows = [
        {
            "name": row.configuration.label,
            **row.configuration.factors,
            "mean": row.estimate.mean,
            "sd": row.estimate.sd,
            "low": row.estimate.low,
            "high": row.estimate.high,
            "n": len(row.configuration.runs),
            "is_best": row.is_best,
            "may_be_best": not row.distinguishable,
            "runs": [run.run_id for run in row.configuration.runs],
        }
        for row in found.rows
    ]
    pairs = [
        {
            "first": names[pair.first],
            "second": names[pair.second],
            "difference": pair.difference.value,
            **{key: getattr(pair.difference, key) for key in ("low", "high", "p", "p_holm", "test")},
        }
        for pair in found.pairs
    ]
    conclusion = " ".join(found.conclusion)
    return ComparisonResult(
        found.title, found.metric, conclusion, found.notes, pd.DataFrame(rows), pd.DataFrame(pairs), report
    )
