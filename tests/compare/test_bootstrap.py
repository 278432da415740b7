"""The bootstrap of the samples, and the variance components: against literal loops and the analytic formula."""

import numpy as np
import pytest
from scipy import stats

from thawlab.compare.stats.bootstrap import bootstrap_counts, score
from thawlab.compare.stats.variance_components import Variance, not_below_the_usual, variance_of
from thawlab.metrics import Predictions


def predictions(right: np.ndarray) -> Predictions:
    """A run that gets these samples right; all are of class 0."""
    return Predictions(np.zeros(len(right), dtype=np.int64), (~right).astype(np.int64))


def crossed(runs: int, samples: int, seed: int = 0) -> np.ndarray:
    """Right or wrong, (S, N): some samples are harder for all, some runs are worse throughout."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=samples) + rng.normal(size=(runs, samples)) / 2 + rng.normal(size=(runs, 1)) / 5
    return latent > -1


def test_each_resample_draws_as_many_samples_as_there_are():
    counts = bootstrap_counts(np.random.default_rng(0), 50, 400)
    assert counts.shape == (50, 400)
    assert (counts.sum(axis=0) == 50).all()
    assert counts.var() == pytest.approx(49 / 50, rel=0.05)  # binomial(N, 1/N)


def test_resamples_are_those_of_a_literal_loop_and_the_same_for_all_runs():
    right = crossed(4, 30)
    found = score("test/acc", [[predictions(run) for run in right[:3]], [predictions(right[3])]], resamples=5, seed=7)
    counts = bootstrap_counts(np.random.default_rng(7), 30, 5).astype(int)
    for number in range(5):
        places = np.repeat(np.arange(30), counts[:, number])
        expected = [right[run, places].mean() for run in range(4)]
        np.testing.assert_allclose(
            [*found.resampled[0][:, number], *found.resampled[1][:, number]], expected, rtol=1e-6
        )
    np.testing.assert_allclose(found.values[0], right[:3].mean(axis=1))


def test_the_same_seed_gives_the_same_resamples():
    runs = [[predictions(run) for run in crossed(2, 30)]]
    one, same, other = (score("test/acc", runs, resamples=50, seed=seed).resampled[0] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_components_are_those_of_a_two_way_analysis_of_variance():
    right = crossed(5, 400).astype(float)
    scores = score("test/acc", [[predictions(run > 0) for run in right]], resamples=20_000)
    runs, samples = right.shape
    rest = right - right.mean(axis=0) - right.mean(axis=1, keepdims=True) + right.mean()
    both = (rest**2).sum() / (runs - 1) / (samples - 1)  # σ_sn², with the noise
    over_samples = right.mean(axis=0).var(ddof=1)  # σ_n² + σ_sn² / S
    found = variance_of(scores.values[0], scores.resampled[0], samples)
    assert found.runs == pytest.approx(right.mean(axis=1).var(ddof=1) / runs)
    assert found.samples == pytest.approx(over_samples / samples, rel=0.04)
    assert found.both == pytest.approx(both / runs / samples, rel=0.1)
    assert (found.runs_df, found.samples_df) == (4, 399)
    # The unbiased estimate of σ_s² / S + σ_n² / N + σ_sn² / (S N), written out.
    seeds = right.mean(axis=1).var(ddof=1) - both / samples
    assert found.total == pytest.approx(seeds / runs + over_samples / samples, rel=0.04)


def test_the_pigeonhole_bootstrap_has_the_variance_that_the_components_foretell():
    right = crossed(3, 60).astype(float)
    runs, samples = right.shape
    rng = np.random.default_rng(0)
    literal = [
        right[np.ix_(rng.integers(runs, size=runs), rng.integers(samples, size=samples))].mean() for _ in range(20_000)
    ]
    rest = right - right.mean(axis=0) - right.mean(axis=1, keepdims=True) + right.mean()
    scores = score("test/acc", [[predictions(run > 0) for run in right]], resamples=20_000)
    found = variance_of(scores.values[0], scores.resampled[0], samples)
    # Drawing seeds too adds the variance between them, too small by (S - 1) / S, and counts what is common once more.
    naive = found.runs * (runs - 1) / runs + found.samples * (samples - 1) / samples + (rest**2).mean() / runs / samples
    assert np.var(literal) == pytest.approx(naive, rel=0.05)


def test_one_run_has_the_variance_of_a_share_over_samples():
    right = crossed(1, 200)
    found = score("test/acc", [[predictions(right[0])]], resamples=20_000).variances[0]
    share = right.mean()
    assert found.total == pytest.approx(share * (1 - share) / 199, rel=0.04)
    assert (found.runs, found.both, found.runs_df, found.samples_df) == (0, 0, 0, 199)


def test_an_interval_adds_up_what_either_source_alone_would_make_of_it():
    seeds, samples = stats.t.interval(0.95, 2, scale=0.3), stats.t.interval(0.95, 99, scale=0.4)
    assert Variance(0.09, 0.0, 0.0, 2, 99).half(0.05) == pytest.approx(seeds[1])
    assert Variance(0.0, 0.16, 0.0, 2, 99).half(0.05) == pytest.approx(samples[1])
    assert Variance(0.09, 0.16, 0.0, 2, 99).half(0.05) == pytest.approx(np.hypot(seeds[1], samples[1]))
    assert Variance(0.10, 0.16, 0.01, 2, 99).half(0.05) == pytest.approx(np.hypot(seeds[1], samples[1]))


@pytest.mark.parametrize("value", [0.01, -0.5, 1.0, 40.0])
@pytest.mark.parametrize(("runs", "samples"), [(0.09, 0.16), (0.09, 0.0), (0.0, 0.16)])
def test_p_is_the_level_whose_interval_ends_at_no_difference(value, runs, samples):
    found = Variance(runs, samples, 0.0, 2, 99)
    assert found.half(found.p_value(value)) == pytest.approx(abs(value))


def test_p_of_no_variance_is_certain_and_a_very_small_one_stays_above_0():
    certain = Variance(0.0, 0.0, 0.0, 2, 99)
    assert (certain.p_value(0.0), certain.p_value(0.1)) == (1, 0)
    assert 0 < Variance(1e-9, 1e-9, 0.0, 20, 1e9).p_value(1.0) <= 1e-15


def test_the_variance_of_a_difference_adds_the_runs_by_welch():
    one, other = Variance(3.0, 9.0, 0.5, 2, 99), Variance(1.0, 9.0, 0.25, 4, 99)
    apart = one.minus(other, samples=2.0)
    assert (apart.runs, apart.samples, apart.both) == (4.0, 2.0, 0.75)
    assert apart.runs_df == pytest.approx(16 / (9 / 2 + 1 / 4))
    assert apart.total == pytest.approx(4.0 - 0.75 + 2.0)


def test_two_runs_count_whole_unless_they_are_closer_than_samples_alone_make_them():
    of_samples, of_runs = stats.t.ppf(0.975, 99), stats.t.ppf(0.975, 1)
    apart = Variance(0.09, 0.16, 0.04, 1, 99)
    assert apart.half(0.05) == pytest.approx(np.hypot(of_samples * np.sqrt(0.12), of_runs * 0.3))
    close = Variance(0.018, 0.16, 0.04, 1, 99)  # the median of chi-squared is 0.455
    assert close.half(0.05) == pytest.approx(of_samples * np.sqrt(0.8 * 0.16))
    for found in (apart, close):
        assert found.half(found.p_value(0.7)) == pytest.approx(0.7)
    assert Variance(0.0, 0.16, 0.0, 1, 99).half(0.05) == pytest.approx(of_samples * 0.4)  # the very same predictions
    assert Variance(0.09, 0.0, 0.0, 1, 99).half(0.05) == pytest.approx(of_runs * 0.3)


@pytest.mark.parametrize(("samples", "least"), [(2.0, 92.0), (4.0, 93.5), (10.0, 94.5)])
def test_intervals_of_two_normal_runs_hold_the_truth_whatever_the_seeds_do(samples, least):
    shares = (np.arange(500) + 0.5) / 500
    for seeds in (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0):
        runs = (1 + seeds) * stats.chi2.ppf(shares**2, 1)  # finer where the runs are close
        halves = [Variance(each, samples, 1.0, 1, 10_000).half(0.05) for each in runs]
        missed = 2 * stats.norm.sf(halves / np.sqrt(samples + seeds))
        assert least <= 100 * (1 - np.average(missed, weights=shares)) <= 97


def test_runs_that_happen_to_agree_get_the_usual_variance_when_compared():
    calm, wild = Variance(0.0, 1.0, 0.0, 2, 99), Variance(90.0, 1.0, 0.0, 2, 99)
    usual, single = Variance(2.0, 1.0, 0.0, 2, 99), Variance(0.0, 1.0, 0.0, 0, 99)
    least = 2 * 2 / (4 * np.log(2))  # a chi-squared with two degrees of freedom exceeds 4 log 2 in a quarter of cases
    found = not_below_the_usual([calm, calm, wild, usual, usual, single])
    assert [each.runs for each in found] == pytest.approx([least, least, 90, 2, 2, 0])
    assert [each.runs_df for each in found] == [5, 5, 3, 3, 3, 0]  # half of all ten, or half of its own again
    assert not_below_the_usual([calm, wild, single]) == (calm, wild, single)


def test_what_cannot_be_scored_is_refused():
    run, other = predictions(np.ones(4, dtype=bool)), Predictions(np.ones(4), np.ones(4))
    with pytest.raises(ValueError, match="metric=test/ece: cannot be had from predictions"):
        score("test/ece", [[run]])
    with pytest.raises(ValueError, match="the same test samples"):
        score("test/acc", [[run], [other]])
    with pytest.raises(ValueError, match="needs a run"):
        score("test/acc", [[run], []])
