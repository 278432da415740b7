"""Many linear heads in one pass over the features, against one after the other.

The features are computed beforehand: what is timed is the training of the heads, and the whole run with everything
that is recorded of each head.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl

from common import Settings, Table, alternately, load_data, place, prepare, quiet, ratio, say, spread
from thawlab.runs.run import run
from thawlab.training import preparation
from thawlab.training.events import Events
from thawlab.training.heads.features import computed
from thawlab.training.heads.module import Features, ManyHeads

COUNTS = (1, 5, 20)


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds of 1, 5 and 20 heads at once, and of 5 that are trained one after the other."""
    data = load_data(settings)
    epochs = settings.chosen(30, 30, 2)
    config = settings.job("strategy=linear_probe").config
    say("features")
    with quiet():
        features = computed(config, prepare(config, data), *place(config), Events())
    whole: dict[str, list[float]] = {}
    busy: dict[str, dict[str, list[float]]] = {"training": {}, "whole_run": {}}  # seconds of the processor

    def heads(count: int, first: int = 0) -> float:
        rates = ",".join(f"{1e-3 * (1 + number):.4g}" for number in range(first, first + count))
        folder = settings.folder("tracking")
        arguments = (f"optimizer.lr=[{rates}]", f"epochs={epochs}", f"tracking.root={folder}")
        job = settings.job("strategy=linear_probe", *arguments)
        spent: list[float] = []
        fit = pl.Trainer.fit

        def timed(trainer: pl.Trainer, module: ManyHeads, *args: Any, **kwargs: Any) -> None:
            begun, used = time.perf_counter(), time.process_time()
            fit(trainer, module, *args, **kwargs)
            spent.append(time.perf_counter() - begun)
            busy["training"].setdefault(str(count), []).append(time.process_time() - used)

        def source(*_: Any) -> Features:
            return features

        begun, used = time.perf_counter(), time.process_time()
        with (
            quiet(),
            patch.object(preparation, "load_data", lambda _: data),
            patch.object(pl.Trainer, "fit", timed),
        ):
            assert not any(member.failed for member in run(job, source))
        whole.setdefault(str(count), []).append(time.perf_counter() - begun)
        busy["whole_run"].setdefault(str(count), []).append(time.process_time() - used)
        return spent[0]

    heads(1)  # to warm up
    for kept in (whole, *busy.values()):
        kept.clear()
    acts = {str(count): lambda count=count: heads(count) for count in settings.chosen(COUNTS, COUNTS, (1, 2))}
    seconds = alternately(acts, settings.chosen(5, 3, 1), "heads, seconds of training")
    begun = time.perf_counter()
    in_turn = [heads(1, number) for number in range(settings.chosen(5, 2, 1))]
    result = {
        "epochs": epochs,
        "training_seconds": seconds,
        "whole_run_seconds": {count: whole[count][: len(seconds[count])] for count in seconds},
        "one_by_one": {"heads": len(in_turn), "training_seconds": sum(in_turn), "whole": time.perf_counter() - begun},
        "times_one": {count: ratio(values, seconds["1"]) for count, values in seconds.items()},
    }
    runs = result["whole_run_seconds"]
    result["whole_run_times_one"] = {count: ratio(values, runs["1"]) for count, values in runs.items()}
    for what, kept in busy.items():
        used = {count: kept[count][: len(seconds[count])] for count in seconds}
        times = {count: ratio(values, used["1"]) for count, values in used.items()}
        result[f"processor_{what}"] = {"seconds": used, "times_one": times}
    return result


def table(results: Mapping[str, Any]) -> Table:
    """A row for each number of heads."""
    rows: list[Sequence[str]] = []
    for count, values in results["training_seconds"].items():
        middle, whole = (sorted(each)[len(each) // 2] for each in (values, results["whole_run_seconds"][count]))
        ratios = (spread(results[kind][count]) for kind in ("times_one", "whole_run_times_one"))
        used = (results[f"processor_{what}"]["times_one"][count]["median"] for what in ("training", "whole_run"))
        rows.append((count, f"{middle:.2f}", f"{whole:.1f}", *ratios, " / ".join(f"{each:.2f}" for each in used)))
    one = results["one_by_one"]
    rows.append((f"{one['heads']}, one by one", f"{one['training_seconds']:.2f}", f"{one['whole']:.1f}", "", "", ""))
    columns = (
        *("heads", "training, s", "whole run, s", "training, times one", "whole run, times one"),
        "both in processor time",
    )
    return Table(f"Linear heads in one pass, {results['epochs']} epochs", columns, rows)
