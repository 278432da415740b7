"""Intervals, differences and p-values: against scipy, statsmodels and sums by hand."""

from math import asin, isnan, sqrt

import numpy as np
import pytest
from scipy import stats
from simulated_runs import scores_of, simulated
from statsmodels.stats.proportion import proportion_confint

from thawlab.compare.comparison import Estimate
from thawlab.compare.stats.bootstrap import score
from thawlab.compare.stats.intervals_and_tests import difference, estimate, pairs, seed_difference, seed_estimate
from thawlab.compare.stats.share_interval import accuracy_interval
from thawlab.metrics import Predictions


def test_the_interval_of_one_run_is_wilsons():
    right = np.arange(1000)[None] < 870
    found = estimate(scores_of(right, resamples=20_000), 0)
    low, high = proportion_confint(870, 1000, method="wilson")
    assert (found.mean, found.sd) == (0.87, None)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("right", "samples"), [(14, 15), (15, 15), (0, 15), (870, 1000), (1, 1), (1, 2)])
def test_the_interval_of_one_run_is_what_the_run_says_of_itself(right, samples):
    labels = np.zeros(samples, dtype=np.int64)
    run = Predictions(labels, np.repeat([0, 1], [right, samples - right]))
    found = estimate(score("test/acc", [[run]]), 0)
    assert (found.low, found.high) == accuracy_interval(right / samples, samples)
    assert 0 <= found.low <= right / samples <= found.high <= 1
    assert found.high - found.low > 0.01


def test_the_standard_deviation_is_that_of_the_runs():
    right = np.arange(100) < np.array([[80], [83], [90]])
    found = estimate(scores_of(right), 0)
    assert found.mean == pytest.approx(np.mean([0.80, 0.83, 0.90]))
    assert found.sd == pytest.approx(np.std([0.80, 0.83, 0.90], ddof=1))
    assert 0 < found.low < found.mean < found.high < 1


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("samples", [1, 5, 200])
def test_all_right_is_as_one_more_independent_sample_than_there_are_and_no_point(runs, samples):
    found = estimate(scores_of(np.ones((runs, samples), dtype=bool)), 0)
    t = stats.t.ppf(0.975, max(samples - 1, 1))
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx((samples + 1) / (samples + 1 + t**2))
    assert estimate(scores_of(np.zeros((runs, samples), dtype=bool)), 0).high == pytest.approx(1 - found.low)


def test_the_interval_of_the_loss_is_on_the_logarithm():
    rng = np.random.default_rng(0)
    probability = rng.beta(2, 1, size=(3, 500))
    labels = np.zeros(500, dtype=np.int64)
    runs = [Predictions(labels, labels, np.stack([each, 1 - each], axis=1)) for each in probability]
    found = estimate(score("test/loss", [runs]), 0)
    assert found.mean == pytest.approx(-np.log(probability).mean())
    assert found.high / found.mean == pytest.approx(found.mean / found.low)
    error = np.log(probability).mean(axis=0).std(ddof=1) / sqrt(500)
    assert np.log(found.high / found.mean) * found.mean > 1.9 * error


def test_a_difference_is_paired_over_samples():
    rng = np.random.default_rng(0)
    one, other = simulated(rng, (0.9, 0.85), 1, 2000)
    scores = scores_of(one, other, resamples=20_000)
    found = difference(scores, 0, 1)
    reference = stats.ttest_rel(one[0].astype(float), other[0].astype(float)).confidence_interval()
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=0.03)
    apart = difference(scores, 1, 0)
    assert (apart.low, apart.high, apart.p) == pytest.approx((-found.high, -found.low, found.p))


def test_one_run_each_is_tested_by_mcnemars_exact_test():
    one, other = np.ones((1, 40), dtype=bool), np.ones((1, 40), dtype=bool)
    one[0, :2], other[0, 10:21] = False, False  # 2 samples against the first, 11 against the second
    found = difference(scores_of(one, other), 0, 1)
    assert found.test == "McNemar"
    assert found.p == pytest.approx(stats.binomtest(2, 13).pvalue)
    assert found.effect == pytest.approx(2 * asin(sqrt(38 / 40)) - 2 * asin(sqrt(29 / 40)))  # Cohen's h


@pytest.mark.parametrize("seed", range(20))
def test_p_is_below_5_percent_where_the_interval_excludes_no_difference(seed):
    rng = np.random.default_rng(seed)
    found = difference(scores_of(*simulated(rng, (0.9, 0.87), 3, 500, sd=0.005)), 0, 1)
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert found.test == "paired bootstrap"


def test_with_many_seeds_and_no_samples_in_doubt_the_difference_is_welchs():
    """Whole blocks of samples are right by run alone: the runs say it all."""
    rng = np.random.default_rng(0)
    one, other = (np.arange(100_000) < rng.normal(mean, 1000, (6, 1)) for mean in (90_000, 88_000))
    found = difference(scores_of(one, other, resamples=200), 0, 1)
    reference = seed_difference(one.mean(axis=1), other.mean(axis=1))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=0.1)
    pooled = sqrt((one.mean(axis=1).var(ddof=1) + other.mean(axis=1).var(ddof=1)) / 2)
    assert found.effect == reference.effect == pytest.approx(found.value / pooled)


def test_configurations_that_say_the_same_differ_by_nothing_within_three_samples():
    right = np.tile(np.arange(300) < 250, (3, 1))
    found = difference(scores_of(right, right), 0, 1)
    assert (found.value, found.p, found.effect) == (0, 1, 0)
    assert found.high == -found.low == pytest.approx(2.8 / 300, rel=0.02)


def test_a_constant_difference_of_losses_is_certain():
    labels, probability = np.zeros(50, dtype=np.int64), np.linspace(0.2, 0.9, 50)
    runs = [
        [Predictions(labels, labels, np.stack([each, 1 - each], axis=1))] for each in (probability, probability / 2)
    ]
    found = difference(score("test/loss", runs), 0, 1)
    assert found.value == pytest.approx(-np.log(2))
    assert found.high - found.low < 1e-4
    assert found.p < 1e-6
    assert isnan(found.effect)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_few_samples_make_wide_intervals_and_no_error(runs, samples):
    rng = np.random.default_rng(samples)
    scores = scores_of(rng.random((runs, samples)) < 0.7, rng.random((runs, samples)) < 0.7)
    (pair,) = pairs(scores)
    assert estimate(scores, 0).high - estimate(scores, 0).low > 0.3
    assert pair.difference.p > 0.05
    assert pair.difference.low < pair.difference.value < pair.difference.high


def test_seeds_alone_give_students_interval_and_welchs_test():
    one, other = [0.81, 0.84, 0.83], [0.78, 0.79, 0.80, 0.81]
    found = seed_estimate(one)
    reference = stats.t.interval(0.95, 2, loc=np.mean(one), scale=stats.sem(one))
    assert (found.low, found.high) == pytest.approx(reference)
    apart, welch = seed_difference(one, other), stats.ttest_ind(one, other, equal_var=False)
    assert apart.p == pytest.approx(welch.pvalue)
    assert (apart.low, apart.high) == pytest.approx(tuple(welch.confidence_interval()))
    assert apart.test == "t-test over seeds"


def test_one_seed_alone_has_no_interval_and_no_p():
    found, apart = seed_estimate([0.8]), seed_difference([0.8], [0.7, 0.75])
    assert (found.mean, found.sd, apart.value) == (0.8, None, pytest.approx(0.075))
    assert all(map(isnan, (found.low, found.high, apart.low, apart.high, apart.p, apart.effect)))


def test_runs_that_do_not_differ_are_a_point_and_cannot_be_tested():
    assert seed_estimate([5.0, 5.0]) == Estimate(5, 0, 5, 5)
    assert isnan(seed_difference([5.0, 5.0], [4.0, 4.0]).p)
