"""What a comparison found, as plain values: the terminal, the tables and the report are made from these alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from thawlab.tracking.select_runs import RunRecord


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in nothing but their seed.

    Attributes:
        label: the factors that vary in the comparison, as overrides: `freeze=2 optimizer.lr=0.01`.
        factors: the same as name → value.
        runs: one a seed, in the order of the seeds.
        diverged: how many more of its runs were stopped since their loss was not finite.
    """

    label: str
    factors: Mapping[str, str]
    runs: tuple[RunRecord, ...]
    diverged: int = 0


@dataclass(frozen=True)
class Excluded:
    """A run that takes no part.

    Attributes:
        run: the run.
        reason: why, in a few words: `failed`, `still running`, `duplicate of <run id>`, `no predictions`, …
    """

    run: RunRecord
    reason: str


@dataclass(frozen=True)
class Grouping:
    """Runs sorted into configurations.

    Attributes:
        configurations: in the order of their factors' values (numbers as numbers).
        factors: names of what varies between configurations, as users write them: `freeze`, `backbone.name`.
        constants: name → value of the settings that all runs share.
        excluded: runs that take no part.
        pooled: names of what varies inside configurations beside the seed, because other factors were asked for.
    """

    configurations: tuple[Configuration, ...]
    factors: tuple[str, ...]
    constants: Mapping[str, str]
    excluded: tuple[Excluded, ...] = ()
    pooled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """A configuration's metric.

    Attributes:
        mean: over its runs.
        sd: sample standard deviation over its runs (ddof 1); None for a single run.
        low: lower end of the confidence interval.
        high: upper end of the confidence interval.
    """

    mean: float
    sd: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One configuration's metric minus another's, on the same test samples.

    Attributes:
        value: the difference of the means.
        low: lower end of its confidence interval.
        high: upper end of its confidence interval.
        p: two-sided, of the hypothesis that there is none.
        p_holm: the same after Holm's correction over all pairs of the comparison.
        effect: effect size.
        measure: of the effect: `d` (Cohen's, of the runs' spread over seeds), or `h` (Cohen's, of two shares).
        test: name of the test: `paired bootstrap`, `McNemar`, `t-test over seeds`, …
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float
    test: str
    measure: str = "d"


@dataclass(frozen=True)
class Pair:
    """Two configurations, by their place in `Comparison.rows`; the difference is first minus second."""

    first: int
    second: int
    difference: Difference


@dataclass(frozen=True)
class Row:
    """A configuration with all that is known of it.

    Attributes:
        configuration: what was run.
        values: the metric of each of its runs, in their order.
        estimate: mean and interval.
        is_best: whether it has the best mean, alone or with others.
        distinguishable: whether it differs from the best after Holm's correction; False for the best.
        costs: name of a `cost/…` metric → mean over its runs; `cost/seconds` is training and what the feature cache
            took, together.
        pareto: the `cost/…` metrics on whose front against the compared metric it lies.
        curve: epoch → values of `val/acc` of its runs, for the learning curve.
        confusion: (classes, classes) counts, rows are labels, summed over its runs; None without predictions.
    """

    configuration: Configuration
    values: tuple[float, ...]
    estimate: Estimate
    is_best: bool
    distinguishable: bool
    costs: Mapping[str, float]
    pareto: frozenset[str] = frozenset()
    curve: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    confusion: np.ndarray | None = None


@dataclass(frozen=True)
class Disagreement:
    """A test image that one configuration gets right and another wrong, by their places in `Comparison.rows`.

    Attributes:
        right: place of the configuration whose runs mostly get it right.
        wrong: place of the one whose runs mostly do not.
        path: the image, absolute or as recorded; may be gone.
        sample: its id in the data set.
        label: its class.
        predicted: what the second one mostly says.
        margin: share of runs right in the first minus in the second (0…1).
        hash: digest of the image's bytes when it was tested; "" where that was not kept.
    """

    right: int
    wrong: int
    path: str
    sample: str
    label: str
    predicted: str
    margin: float
    hash: str = ""


@dataclass(frozen=True)
class Comparison:
    """All that was found.

    Attributes:
        title: what was compared: a sweep's name, or the query.
        metric: name of what is compared, for instance `test/acc`.
        percent: whether it is a share, shown in percent.
        higher_is_better: the direction.
        level: of the intervals, 0.95.
        rows: the best first.
        pairs: all pairs.
        grouping: factors, constants and excluded runs.
        baseline: place of the row that the others are compared with, if one was asked for.
        conclusion: sentences that say what was found.
        notes: what limits it: few seeds, runs without predictions, and what would be needed.
        samples: how many test samples; 0 without predictions.
        classes: names of the classes, in order; empty without predictions.
        disagreements: images that the best and another configuration see differently.
        links: run id → address of its page in MLflow; empty where no server is known.
        command: what repeats this comparison.
    """

    title: str
    metric: str
    percent: bool
    higher_is_better: bool
    level: float
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    grouping: Grouping
    baseline: int | None = None
    conclusion: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    samples: int = 0
    classes: tuple[str, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
