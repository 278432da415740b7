"""Views of an experiment's runs in MLflow's own page: which columns, which runs, in which order."""

import json
from typing import Any

# MLflow 3.17 keeps a view under such a tag of the experiment, lists it in its menu "Views", and opens it where an
# address names its key. Older versions find nothing in it that they know, and show their usual columns.
TAG = "mlflow.sharedViewState."
_METRICS = (
    "test/acc",
    "summary/best_mean",
    "best/val_acc",
    "best/epoch",
    "test/balanced_acc",
    "test/f1_macro",
    "test/loss",
)
_PARAMS = ("backbone.name", "strategy.name", "freeze", "transfer", "optimizer.lr", "epochs", "seed")
_CREATED = 1735689600000  # milliseconds since 1970, which the page asks for; the same in all stores

LATEST, BEST = "thawlab", "thawlab-best"
# By date, the page shows a sweep as one row with its runs below it, closed at first and so out of the charts; in any
# other order it shows each run as a row. A sweep's parent has no test metrics, so that the search leaves it out.
_VIEWS = {
    LATEST: ("latest first, sweeps as one row", "", "attributes.start_time"),
    BEST: ("best first, each run a row", "metrics.`test/acc` >= 0", "metrics.`test/acc`"),
}


def view_tags() -> dict[str, str]:
    """The tags of an experiment that hold its views."""
    tags = {}
    for key, (name, search, order) in _VIEWS.items():
        content = {
            "name": name,
            "createdAt": _CREATED,
            "updatedAt": _CREATED,
            "state": json.dumps(_state(search, order)),
        }
        tags[f"{TAG}{key}"] = json.dumps(content)
    return tags


def _state(search: str, order: str) -> dict[str, Any]:
    columns = [f"metrics.`{name}`" for name in _METRICS] + [f"params.`{name}`" for name in _PARAMS]
    name = "attributes.`Run Name`"
    return {
        "searchFilter": search,
        "orderByKey": order,
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": [name, *columns],
        "columnWidths": {name: 330},
        "runsHiddenMode": "FIRST_20_RUNS",
        "chartsSearchFilter": "^(test|best|val|train)/",
    }
