"""Finding runs by MLflow's own search, page by page: all that a server offers, and slow for thousands of runs."""

from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchUtils

from thawlab.tracking.run_record import PARENT_TAG, RunRecord
from thawlab.tracking.run_tables import run_tables
from thawlab.tracking.store import Store

_PAGE = 1000
_SMALL = 200
_IDS = 100  # in one filter
_OLDEST_FIRST = ("attributes.start_time ASC",)
_ONLY_MLFLOW_KNOWS = ("dataset", "end_time", "user", "lifecycle")


class RunSearch:
    """The runs of a store: from the tables of a database where that is possible, else by MLflow's search."""

    def __init__(self, store: Store) -> None:
        self._client = store.client()
        self._tables = run_tables(store)

    def by_id(self, run_ids: Sequence[str]) -> list[RunRecord]:
        """Those of these runs that exist and were not deleted, the oldest first."""
        if self._tables:
            return self._tables.read(run_ids)
        found = []
        for start in range(0, len(run_ids), _IDS):
            listed = ", ".join(f"'{each}'" for each in run_ids[start : start + _IDS])
            found += self._all(self.experiments(), f"attributes.run_id IN ({listed})")
        return sorted(found, key=lambda each: (each.started, each.run_id))

    def tagged(self, experiment_ids: Collection[str], key: str, values: Collection[str]) -> list[RunRecord]:
        """The runs of these experiments whose tag `key` has one of these values, the oldest first."""
        if self._tables:
            found = self._tables.read(self._tables.tagged(key, list(values)))
            return [each for each in found if each.experiment_id in experiment_ids]
        found = [run for each in values for run in self._all(list(experiment_ids), f"tags.`{key}` = '{each}'")]
        return sorted(found, key=lambda each: (each.started, each.run_id))

    def below(self, parent: RunRecord) -> list[RunRecord]:
        """The runs below this one, those below these included, the oldest first; none that has runs below it itself."""
        if self._tables:
            return self._below_by_tables(parent)
        found, level = [], [parent]
        while level:
            children = [
                child
                for each in level
                for child in self._all([parent.experiment_id], f"tags.`{PARENT_TAG}` = '{each.run_id}'")
            ]
            found += children
            # A run that trained has this tag. To ask each of thousands of them for runs below it would take minutes.
            level = [child for child in children if "config_hash" not in child.tags]
        return without_parents(found)

    def _below_by_tables(self, parent: RunRecord) -> list[RunRecord]:
        assert self._tables is not None
        known, level = {parent.run_id: None}, [parent.run_id]
        while level:
            level = [child for child in self._tables.children(level) if child not in known]
            known |= dict.fromkeys(level)
        return without_parents(self._tables.read(list(known)[1:]))

    def in_experiments(self, experiment_ids: Sequence[str], filter: str | None = None) -> list[RunRecord]:
        """The runs of these experiments that match MLflow's filter and have no runs below them, the oldest first."""
        if not self._tables:
            return without_parents(self._all(experiment_ids, filter or ""))
        if filter:
            page = self._client.search_runs(list(experiment_ids), filter, max_results=_SMALL)
            if not page.token:
                return without_parents(self._tables.read([run.info.run_id for run in page]))
        records = without_parents(self._tables.read(self._tables.of_experiments(experiment_ids)))
        return self.matching(records, filter) if filter else records

    def matching(self, records: Sequence[RunRecord], filter: str) -> list[RunRecord]:
        """Those that match MLflow's filter.

        Raises:
            MlflowException: MLflow cannot read the filter.
        """
        experiment_ids = sorted({each.experiment_id for each in records}) or ["0"]
        first = self._client.search_runs(experiment_ids, filter, max_results=1)
        if not any(word in filter.lower() for word in _ONLY_MLFLOW_KNOWS):
            found = [view.data for view in SearchUtils.filter([_view(each) for each in records], filter)]
            known, kept = {each.run_id for each in records}, {each.run_id for each in found}
            if all(run.info.run_id in kept for run in first if run.info.run_id in known):
                return found
        matching = {each.run_id for each in self._all(experiment_ids, filter)}
        return [each for each in records if each.run_id in matching]

    def first(self, filter: str, order: str, wanted: int = 1) -> list[RunRecord]:
        """The first few runs of all experiments that match."""
        found = self._client.search_runs(self.experiments(), filter, max_results=wanted, order_by=[order])
        return [RunRecord.of(run) for run in found]

    def one(self, run_id: str) -> tuple[RunRecord, bool] | None:
        """The run, and whether it was deleted; None if there is none."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        return RunRecord.of(run), run.info.lifecycle_stage == "deleted"

    def experiments(self) -> list[str]:
        """Ids of all experiments that were not deleted."""
        return [each.experiment_id for each in _pages(self._client.search_experiments)]

    def _all(self, experiment_ids: Sequence[str], filter: str) -> list[RunRecord]:
        given = {"filter_string": filter, "order_by": list(_OLDEST_FIRST)}
        return [RunRecord.of(run) for run in _pages(self._client.search_runs, list(experiment_ids), **given)]


def without_parents(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Those that have no runs below them."""
    parents = {each.tags.get(PARENT_TAG) for each in records}
    return [each for each in records if not each.is_sweep and each.run_id not in parents]


def _pages(search: Any, *about: Any, **given: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*about, max_results=_PAGE, page_token=token, **given)
        yield from page
        token = page.token
        if not token:
            return


def _view(record: RunRecord) -> Any:
    """A run as MLflow's filter takes it."""
    info = SimpleNamespace(
        run_id=record.run_id,
        run_name=record.name,
        status=record.status,
        start_time=int(record.started * 1000),
        artifact_uri=record.artifact_uri,
        experiment_id=record.experiment_id,
    )
    return SimpleNamespace(info=info, data=record)
