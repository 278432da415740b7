"""Who is called best: nobody that is level with others."""

from collections.abc import Sequence

import pytest

from thawlab.compare.comparison import Comparison, Configuration, Difference, Estimate, Grouping, Pair, Row
from thawlab.compare.wording.conclusion import conclude
from thawlab.compare.wording.table_columns import columns, legend, marks


def comparison(means: Sequence[float], told: Sequence[int] = (), diverged: int = 0) -> Comparison:
    """Configurations freeze=0, 1, … with these means, the best first; `told` are places that differ from the best."""
    rows = tuple(
        Row(
            Configuration(f"freeze={k}", {"freeze": str(k)}, (), diverged if k == 0 else 0),
            (mean,),
            Estimate(mean, None, mean - 0.1, mean + 0.1),
            is_best=mean == means[0],
            distinguishable=k in told,
            costs={},
        )
        for k, mean in enumerate(means)
    )
    pairs = tuple(
        Pair(0, k, Difference(means[0] - means[k], 0.0, 0.2, 0.01, 0.01 if k in told else 0.9, 1.0, "test"))
        for k in range(1, len(means))
    )
    grouping = Grouping(tuple(row.configuration for row in rows), ("freeze",), {})
    return Comparison("made", "test/acc", True, True, 0.95, rows, pairs, grouping)


@pytest.mark.parametrize(
    ("means", "told", "said"),
    [
        (
            [0.9, 0.6],
            [1],
            "freeze=0 is best, test/acc 90.0 % [80.0, 100.0]; freeze=1 is worse by 30.0 points, p = 0.010.",
        ),
        (
            [0.9, 0.8],
            [],
            "There is no clear best: freeze=0 leads with test/acc 90.0 % [80.0, 100.0]; but no other configuration can "
            "be told apart from it.",
        ),
        (
            [0.9, 0.8, 0.6],
            [2],
            "freeze=0 leads with test/acc 90.0 % [80.0, 100.0]; freeze=1 cannot be told apart from it; freeze=2 is "
            "worse by 30.0 points, p = 0.010.",
        ),
        ([0.9, 0.9], [], "freeze=0 and freeze=1 are tied: test/acc 90.0 % each."),
        ([0.9] * 6, [], "All 6 configurations are tied: test/acc 90.0 % each."),
        (
            [0.9, 0.9, 0.8, 0.6],
            [3],
            "freeze=0 and freeze=1 are tied: test/acc 90.0 % each; freeze=2 cannot be told apart from them; freeze=3 "
            "is worse by 30.0 points, p = 0.010.",
        ),
    ],
)
def test_the_best_is_named_only_where_it_is_told_from_all_others(means, told, said):
    assert conclude(comparison(means, told))[0] == said


def test_all_that_share_the_best_mean_are_marked():
    found = comparison([0.9, 0.9, 0.8])
    assert [marks(found, place) for place in range(3)] == ["★", "★", "≈"]


def test_a_configuration_of_which_runs_diverged_is_marked_and_the_mark_explained():
    found = comparison([0.9, 0.8], diverged=1)
    shown = columns(found)
    assert next(each for each in shown if each.header == "seeds").cells == ("0 †", "0")
    assert "† some of its runs diverged, and do not count" in legend(found, shown)
