"""Addresses in MLflow's own page at which an experiment's runs can be read."""

from collections.abc import Mapping
from dataclasses import dataclass

from thawlab.tracking.dead_runs import close_dead
from thawlab.tracking.store import Store, impatient, plain_messages
from thawlab.tracking.ui_views import BEST, LATEST, TAG, view_tags


@dataclass(frozen=True)
class Pages:
    """Where to find an experiment, each an address below the server's.

    Attributes:
        name: of the experiment.
        runs: its runs, the latest first, a sweep as one row.
        charts: all its runs, those of sweeps too, side by side in charts.
    """

    name: str
    runs: str
    charts: str


def training_pages(store: Store, add_views: bool = False) -> list[Pages]:
    """The experiments that hold runs, latest first; what runs in them and is lost is closed.

    MLflow 3.17 opens an experiment on its GenAI view, whatever its kind, unless the address names the other one.

    Args:
        store: where they are.
        add_views: whether to give the views to experiments that were made without them, or with other ones.

    Raises:
        ValueError: the store cannot be read.
    """
    with plain_messages(store), impatient():
        close_dead(store)
        client = store.client()
        found = []
        for each in client.search_experiments(order_by=["last_update_time DESC"]):
            if client.search_runs([each.experiment_id], max_results=1):
                if add_views:
                    _add_views(store, each.experiment_id, each.tags)
                    found.append(_pages(each.name, each.experiment_id, view_tags()))
                else:
                    found.append(_pages(each.name, each.experiment_id, each.tags))
        return found


def _pages(name: str, experiment_id: str, tags: Mapping[str, str]) -> Pages:
    page = f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    # The page says that a view is missing where an address names one that the experiment does not have.
    shown = {key: f"&viewStateShareKey={key}" if f"{TAG}{key}" in tags else "" for key in (LATEST, BEST)}
    return Pages(name, page + shown[LATEST], f"{page}{shown[BEST]}&compareRunsMode=CHART")


def _add_views(store: Store, experiment_id: str, known: Mapping[str, str]) -> None:
    for key, value in view_tags().items():
        if known.get(key) != value:
            store.client().set_experiment_tag(experiment_id, key, value)
