"""What comes of trainings, as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawlab.config.schema import ConfigError

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("test/acc", "best/val_acc")


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        run_id: its id in MLflow.
        status: FINISHED, FAILED or KILLED; in a sweep that goes on elsewhere RUNNING.
        metrics: the last value of each, by the names of MLflow: `test/acc`, `best/val_acc`, `cost/fit_seconds`, …
        folder: with its checkpoints and predictions.
        config: all its settings, nested by group.
        overrides: those that were asked for, `key=value` each.
        error: why it failed, in a line.
        tracking_uri: of the store that has it.
    """

    run_id: str
    status: str
    metrics: Mapping[str, float]
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    overrides: tuple[str, ...]
    error: str | None
    tracking_uri: str = field(repr=False)

    def predictions(self) -> "pd.DataFrame":
        """What it said of each test image: `id`, `path`, `label`, `predicted`, and a probability a class, `p/CLASS`.

        Raises:
            FileNotFoundError: neither its folder nor MLflow has them; a run that did not finish has none.
        """
        import pandas as pd

        from thawlab.tracking.prediction_files import PREDICTIONS

        path: Path | None = self.folder / PREDICTIONS
        if not (self.folder / PREDICTIONS).is_file():
            from thawlab.tracking.past_run import prediction_file
            from thawlab.tracking.store import Store

            path = prediction_file(Store(self.tracking_uri, None), self.run_id)
        if path is None:
            raise FileNotFoundError(f"the run {self.run_id} ({self.status}) has no predictions")
        return pd.read_parquet(path)

    def __repr__(self) -> str:
        told = [f"{name}={self.metrics[name]:.4f}" for name in _SHOWN if name in self.metrics]
        told += [repr(self.error)] if self.error else []
        return f"<Result {self.run_id}: {', '.join([self.status, *told])}; {' '.join(self.overrides) or 'defaults'}>"


class Results(list[Result]):
    """The runs of a sweep, or of heads that were trained together, in the order of their settings.

    Attributes:
        parent_id: the run that they are shown under in MLflow, and what `thawlab compare sweep=…` calls them.
    """

    def __init__(self, runs: Iterable[Result] = (), parent_id: str | None = None) -> None:
        super().__init__(runs)
        self.parent_id = parent_id

    def frame(self) -> "pd.DataFrame":
        """A row a run: `run_id`, `status`, the settings that were asked for, and the metrics."""
        import pandas as pd

        return pd.DataFrame(
            {"run_id": run.run_id, "status": run.status}
            | {key: value for key, _, value in (each.partition("=") for each in run.overrides)}
            | dict(run.metrics)
            for run in self
        )

    def __repr__(self) -> str:
        return "\n  ".join([f"<Results of {len(self)} runs below {self.parent_id}:", *map(repr, self)]) + "\n>"


class RunError(RuntimeError):
    """A training that did not come to its end; the message says why.

    Attributes:
        results: the runs that were recorded, with what they logged before.
    """

    def __init__(self, message: str, results: Results) -> None:
        super().__init__(message)
        self.results = results


def results_of(code: int, told: Mapping[str, Any]) -> Result | Results:
    """The runs of a command that ended with an exit code, and what it told of them.

    Raises:
        ConfigError: it refused what was asked for.
        RunError: no run came to its end.
    """
    runs = Results((_result(run, told["store"]) for run in told.get("runs", ())), told.get("parent_id"))
    if any(run.status == "FINISHED" for run in runs) or (code == 0 and not told):  # help was shown
        return runs if runs.parent_id or not runs else runs[0]
    if told.get("error") == ConfigError.__name__:
        raise ConfigError(told["message"])
    why = told.get("message") or next((run.error for run in runs if run.error), None)
    if why is None:
        signal = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
        why = f"it was ended {signal}" + ("" if runs else " before it was recorded")
    raise RunError(why, runs)


def _result(run: Mapping[str, Any], store: str) -> Result:
    kept = {key: run[key] for key in ("run_id", "status", "metrics", "config", "error")}
    return Result(**kept, folder=Path(run["folder"]), overrides=tuple(run["overrides"]), tracking_uri=store)
