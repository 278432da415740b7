"""From a store to an answer: what is best, what may be, what is left out, and what stands with the sweep afterwards."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from compare.synthetic import Made, add, add_predictions, add_sweep, predictions_path
from thawlab.cli.compare import compare
from thawlab.compare.compare_runs import compare_runs
from thawlab.compare.select.request import Request, parse
from thawlab.compare.stats.pareto import pareto
from thawlab.compare.wording.mlflow_summary import summary_tags
from thawlab.config.schema import ConfigError
from thawlab.metrics import higher_is_better, is_share
from thawlab.tracking.select_runs import select_runs
from thawlab.tracking.store import Store

IDS = [f"test/{number:04d}" for number in range(400)]


def sweep(store: Store, accuracies: dict[str, float], seeds: int = 3, **about) -> str:
    """A sweep over freeze depths with predictions that are right about so often; returns the parent's id."""
    settings = [{"freeze": depth, "seed": seed} for depth in accuracies for seed in range(seeds)]
    parent, *children = add_sweep(store, settings, **about)
    for number, (setting, run_id) in enumerate(zip(settings, children, strict=True)):
        add_predictions(store, run_id, accuracies[str(setting["freeze"])], IDS, seed=number)
    return parent


def test_the_best_and_those_that_may_be_are_told_from_the_rest(store):
    parent = sweep(store, {"0": 0.9, "2": 0.9, "4": 0.6})
    found, of = compare_runs(store, Request(sweep="latest"))
    assert of == parent
    assert [len(row.values) for row in found.rows] == [3, 3, 3]
    assert {row.configuration.label for row in found.rows if not row.distinguishable} == {"freeze=0", "freeze=2"}
    assert found.rows[0].is_best
    assert found.rows[-1].configuration.label == "freeze=4"
    assert "freeze=0 and freeze=2 are tied: test/acc " in found.conclusion[0]
    assert " each; freeze=4 is worse by " in found.conclusion[0]
    assert "is best" not in " ".join(found.conclusion)
    assert [row.is_best for row in found.rows] == [True, True, False]
    assert summary_tags(found)["summary.best"] == "freeze=0 = freeze=2"
    assert found.samples == len(IDS)
    assert len(found.pairs) == 3


def test_means_are_those_of_the_predictions_and_curves_those_of_the_runs(store):
    sweep(store, {"0": 0.9, "4": 0.6}, history={"val/acc": [0.2, 0.5, 0.7]})
    found, _ = compare_runs(store, Request(sweep="latest"))
    for row in found.rows:
        accuracies = []
        for run in row.configuration.runs:
            table = pd.read_parquet(predictions_path(store, run.run_id))
            accuracies.append(float((table["label"] == table["predicted"]).mean()))
        assert row.values == pytest.approx(accuracies)
        assert row.estimate.mean == pytest.approx(np.mean(accuracies))
        assert row.estimate.sd == pytest.approx(np.std(accuracies, ddof=1))
        assert row.estimate.low < row.estimate.mean < row.estimate.high
        assert row.curve == {0: (0.2,) * 3, 1: (0.5,) * 3, 2: (0.7,) * 3}
        assert row.confusion is not None
        assert row.confusion.sum() == 3 * len(IDS)
        assert np.trace(row.confusion) == pytest.approx(3 * len(IDS) * np.mean(accuracies))


def test_images_that_one_gets_right_and_the_other_wrong(store):
    sweep(store, {"0": 0.95, "4": 0.3})
    found, _ = compare_runs(store, Request(sweep="latest"))
    best, other = found.rows
    right = {
        run.run_id: pd.read_parquet(predictions_path(store, run.run_id)).set_index("id")
        for run in (*best.configuration.runs, *other.configuration.runs)
    }
    assert found.disagreements
    for each in found.disagreements:
        rows = [
            [right[run.run_id].loc[each.sample] for run in found.rows[k].configuration.runs]
            for k in (each.right, each.wrong)
        ]
        shares = [np.mean([row["label"] == row["predicted"] for row in of]) for of in rows]
        assert each.margin == pytest.approx(shares[0] - shares[1])
        assert each.margin >= 0.5
        assert each.path == f"/images/{each.sample}.png"
        assert each.predicted != each.label


def test_a_metric_without_predictions_goes_by_the_runs_alone(store):
    seconds = {"0": [50.0, 52.0, 51.0], "4": [20.0, 22.0, 21.0]}
    for depth, values in seconds.items():
        add(store, [Made({"freeze": depth, "seed": k}, {"cost/fit_seconds": each}) for k, each in enumerate(values)])
    found, parent = compare_runs(store, Request(experiment="synthetic", metric="cost/fit_seconds"))
    assert parent is None
    assert [row.configuration.label for row in found.rows] == ["freeze=4", "freeze=0"]
    low, high = stats.t.interval(0.95, 2, np.mean(seconds["4"]), stats.sem(seconds["4"]))
    assert (found.rows[0].estimate.low, found.rows[0].estimate.high) == pytest.approx((low, high))
    (pair,) = found.pairs
    assert pair.difference.p == pytest.approx(stats.ttest_ind(seconds["4"], seconds["0"], equal_var=False).pvalue)
    assert not found.percent
    assert any("by the runs' values alone" in note for note in found.notes)


def test_what_cannot_be_compared_is_listed_and_the_rest_is(store):
    parent = sweep(store, {"0": 0.9, "4": 0.6}, seeds=2)
    ids = [run.run_id for run in select_runs(store, sweep=parent).records]
    predictions_path(store, ids[0]).unlink()
    about = {"tags": {"sweep_id": "s"}, "parent": parent}
    broken = [
        Made({"freeze": "6"}, {"test/acc": float("nan")}, **about),
        Made({"freeze": "7"}, status="FAILED", **about),
    ]
    add(store, broken)
    found, _ = compare_runs(store, Request(sweep=parent))
    assert {each.run.run_id: each.reason for each in found.grouping.excluded} == {
        ids[0]: "no predictions",
        broken[0].run_id: "its test/acc is NaN",
        broken[1].run_id: "failed",
    }
    assert {row.configuration.label: len(row.values) for row in found.rows} == {"freeze=0": 1, "freeze=4": 2}


def test_a_single_run_is_no_comparison_but_an_estimate(store):
    sweep(store, {"0": 0.9}, seeds=1)
    found, _ = compare_runs(store, Request(sweep="latest"))
    (row,) = found.rows
    assert row.estimate.sd is None
    assert row.estimate.low < row.estimate.mean < row.estimate.high
    assert "a comparison needs another one" in found.conclusion[0]
    assert any("one run each" in note for note in found.notes)


def test_no_run_that_could_be_used(store):
    add_sweep(store, [{"freeze": "0"}], status="FAILED")
    found, _ = compare_runs(store, Request(sweep="latest"))
    assert found.rows == ()
    assert found.conclusion == ("There is nothing to compare: no run that could be used.",)


def test_the_baseline_is_found_by_its_settings_or_by_one_of_its_runs(store):
    sweep(store, {"0": 0.9, "2": 0.9, "4": 0.6})
    by_settings, _ = compare_runs(store, parse(["baseline=freeze=4"]))
    assert by_settings.baseline == 2
    assert "Against the baseline freeze=4: " in by_settings.conclusion[1]
    assert "are better" in by_settings.conclusion[1]
    run_id = by_settings.rows[2].configuration.runs[1].run_id
    by_run, _ = compare_runs(store, parse([f"baseline={run_id}"]))
    assert by_run.baseline == 2
    with pytest.raises(ConfigError, match="baseline=freeze=9: no configuration fits; use freeze=0, freeze=2, freeze=4"):
        compare_runs(store, parse(["baseline=freeze=9"]))


def test_the_gain_over_training_from_scratch_is_told(store):
    settings = [{"strategy.name": name, "seed": seed} for name in ("finetune", "scratch") for seed in range(3)]
    _, *children = add_sweep(store, settings)
    for number, (setting, run_id) in enumerate(zip(settings, children, strict=True)):
        add_predictions(store, run_id, 0.9 if setting["strategy.name"] == "finetune" else 0.5, IDS, seed=number)
    found, _ = compare_runs(store, Request(sweep="latest"))
    (sentence,) = [each for each in found.conclusion if each.startswith("Transfer gain over training from scratch")]
    gain = found.rows[0].estimate.mean - found.rows[1].estimate.mean
    assert f"+{100 * gain:.1f} points" in sentence


def test_a_gain_over_scratch_is_that_of_the_same_network_and_of_runs_that_are_all_from_scratch(store):
    settings = [
        {"strategy.name": strategy, "backbone.name": backbone, "seed": seed}
        for strategy, backbone in (("finetune", "large"), ("finetune", "small"), ("scratch", "small"))
        for seed in range(2)
    ]
    _, *children = add_sweep(store, settings)
    for number, (setting, run_id) in enumerate(zip(settings, children, strict=True)):
        add_predictions(store, run_id, 0.9 if setting["backbone.name"] == "large" else 0.5, IDS, seed=number)
    for arguments in ([], ["by=[backbone]"]):  # scratch on another network only; pooled with fine-tuning
        found, _ = compare_runs(store, parse(arguments))
        assert not [each for each in found.conclusion if each.startswith("Transfer gain")]


def test_time_is_that_of_training_and_of_the_activations_that_it_went_on_from(store):
    seconds = [(2.0, 13.0), (2.0, 1.0)]
    made = [
        Made({"freeze": "4", "seed": seed}, {"cost/fit_seconds": fit, "cost/cache_seconds": cache})
        for seed, (fit, cache) in enumerate(seconds)
    ]
    add(store, [*made, Made({"freeze": "0"}, {"cost/fit_seconds": 12.0})])
    found, _ = compare_runs(store, Request(experiment="synthetic", metric="best/val_acc"))
    assert {row.configuration.label: row.costs["cost/seconds"] for row in found.rows} == {"freeze=4": 9, "freeze=0": 12}


@pytest.mark.parametrize(
    ("status", "jobs", "note"),
    [
        ("FINISHED", 2, None),
        ("FINISHED", 5, "of the sweep 3 of its 5 runs are not there: not begun, or deleted"),
        ("KILLED", 5, "the sweep was stopped before its end; 3 of its 5 runs are not there: not begun, or deleted"),
        ("KILLED", 2, "the sweep was stopped before its end"),
    ],
)
def test_a_sweep_that_is_not_whole_says_so(store, status, jobs, note):
    parent = sweep(store, {"0": 0.9}, seeds=2)
    client = store.client()
    client.set_tag(parent, "sweep_jobs", jobs)
    client.set_terminated(parent, status)
    notes = compare_runs(store, Request(sweep=parent))[0].notes
    assert (notes[0] == note) if note else not [each for each in notes if "sweep was" in each or "of the sweep" in each]


def test_the_interval_of_a_share_by_seeds_alone_stays_between_0_and_1(store):
    add(store, [Made({"freeze": "4", "seed": k}, {"val/acc": each}) for k, each in enumerate((0.99, 1.0, 0.95))])
    found, _ = compare_runs(store, Request(experiment="synthetic", metric="val/acc"))
    assert found.rows[0].estimate.high == 1
    assert 0 < found.rows[0].estimate.low < 0.95


def test_one_configuration_of_several_runs_is_not_named_by_one_of_them(store):
    sweep(store, {"0": 0.9}, seeds=2)
    (sentence, *_) = compare_runs(store, Request(sweep="latest"))[0].conclusion
    assert sentence.startswith("There is one configuration, backbone=")
    assert "freeze=0" in sentence
    assert "seed" not in sentence


def test_more_configurations_than_pairs_can_be_made_of(store):
    add(store, [Made({"freeze": str(k)}, {"test/acc": k / 100}) for k in range(80)])
    found, _ = compare_runs(store, parse(["experiment=synthetic", "baseline=freeze=3"]))
    assert len(found.rows) == 64
    assert found.rows[0].configuration.label == "freeze=79"
    assert found.rows[found.baseline or 0].configuration.label == "freeze=3"
    assert any("only the 64 best of 80 configurations" in note for note in found.notes)


def test_the_command_shows_writes_and_keeps_the_comparison(store, tmp_path, capsys):
    parent = sweep(store, {"0": 0.9, "4": 0.6})
    assert compare([f"root={tmp_path / 'mlruns'}", f"out={tmp_path / 'report'}"]) == 0
    shown = capsys.readouterr().out
    assert "freeze=0 is best" in shown
    assert str(tmp_path / "report" / "report.html") in shown
    run = store.client().get_run(parent)
    assert run.data.metrics["summary/configurations"] == 2
    assert run.data.metrics["summary/not_distinguishable"] == 1
    assert run.data.tags["summary.best"] == "freeze=0"
    assert "freeze=0 is best" in run.data.tags["mlflow.note.content"]
    kept = {each.path for each in store.client().list_artifacts(parent, "comparison")}
    assert {"comparison/report.html", "comparison/table.csv", "comparison/plots"} <= kept
    plain = json.loads((tmp_path / "report" / "comparison.json").read_text())
    assert len(plain["rows"][0]["run_ids"]) == 3


def test_looking_at_a_part_changes_nothing_that_the_sweep_says(store, tmp_path, capsys):
    parent = sweep(store, {"0": 0.9, "4": 0.6})
    where = f"root={tmp_path / 'mlruns'}"
    assert compare([where, f"out={tmp_path / 'report'}"]) == 0
    run, client = store.client().get_run(parent), store.client()
    plots = {each.path for each in client.list_artifacts(parent, "comparison/plots")}
    part = [where, f"out={tmp_path / 'part'}", "sweep=latest", "filter=params.freeze = '4'"]
    assert compare(part) == 0
    assert "not kept with the sweep in MLflow" in capsys.readouterr().out
    after = client.get_run(parent)
    assert (after.data.metrics, after.data.tags) == (run.data.metrics, run.data.tags)
    # What is kept takes the place of all that was kept before.
    assert compare([*part, "log=true"]) == 0
    fewer = {each.path for each in client.list_artifacts(parent, "comparison/plots")}
    assert "comparison/plots/classes.svg" in plots - fewer


def test_a_sweeps_heading_is_no_run(store):
    parent = sweep(store, {"0": 0.9}, seeds=2)
    with pytest.raises(ConfigError, match=f"^runs: {parent}: no run but a sweep's heading; use sweep={parent} for"):
        compare_runs(store, Request(runs=(parent,)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweeep=latest"], "sweeep"),
        (["experiment=synthetik"], "synthetic"),
        (["metric=test/akk"], "metric=test/akk"),
        (["runs=[0123456789abcdef0123456789abcdef]"], "0123456789abcdef0123456789abcdef"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(store, tmp_path, capsys, arguments, message):
    sweep(store, {"0": 0.9}, seeds=1)
    assert compare([f"root={tmp_path / 'mlruns'}", f"out={tmp_path / 'report'}", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "report").exists()


def test_other_test_images_are_refused(store):
    sweep(store, {"0": 0.9}, seeds=2)
    (other,) = add(store, [Made({"freeze": "4"})])
    add_predictions(store, other, 0.9, [*IDS[:-1], "test/other"])
    with pytest.raises(ConfigError, match=other[:8]):
        compare_runs(store, Request(experiment="synthetic"))


def test_on_the_front_is_what_nothing_beats_in_both():
    assert pareto([0.9, 0.8, 0.7, 0.9], [10, 5, 5, 12]) == [True, True, False, False]
    assert pareto([0.9, 0.9], [3, 3]) == [True, True]
    assert pareto([0.1, 0.2], [1, 2], higher_is_better=False) == [True, False]
    assert pareto([np.nan, 0.5], [1, 2]) == [False, True]


def test_directions_and_units_of_metrics():
    assert [higher_is_better(name) for name in ("test/acc", "test/loss", "test/ece", "cost/fit_seconds")] == [
        1,
        0,
        0,
        0,
    ]
    assert higher_is_better("cost/images_per_second")
    assert [is_share(name) for name in ("test/acc", "best/val_acc", "test/loss", "cost/fit_seconds")] == [1, 1, 0, 0]
