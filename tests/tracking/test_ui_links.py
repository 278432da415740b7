import json

from thawlab.tracking.run import start_run
from thawlab.tracking.ui_links import Pages, training_pages
from thawlab.tracking.ui_views import TAG, view_tags


def test_the_pages_to_open_are_those_of_the_experiments_that_hold_runs(store):
    run = start_run(store, "digits", name="one", params={}, tags={})
    page = f"/#/experiments/{run.experiment_id}/runs?workflowType=machine_learning"
    assert training_pages(store) == [
        Pages(
            "digits",
            f"{page}&viewStateShareKey=thawlab",
            f"{page}&viewStateShareKey=thawlab-best&compareRunsMode=CHART",
        )
    ]


def test_an_experiment_made_by_another_program_is_opened_as_it_is_until_it_is_given_the_views(store):
    other = store.client().create_experiment("other")
    store.client().create_run(other)
    page = f"/#/experiments/{other}/runs?workflowType=machine_learning"
    assert training_pages(store) == [Pages("other", page, f"{page}&compareRunsMode=CHART")]
    assert not any(key.startswith(TAG) for key in store.client().get_experiment(other).tags)
    (added,) = training_pages(store, add_views=True)
    assert added.runs == f"{page}&viewStateShareKey=thawlab"
    assert view_tags().items() <= store.client().get_experiment(other).tags.items()
    assert training_pages(store) == [added]


def test_a_view_names_its_columns_with_the_test_accuracy_first():
    for content in view_tags().values():
        assert len(content) < 5000  # MLflow's limit for a tag of an experiment
        state = json.loads(json.loads(content)["state"])
        assert state["selectedColumns"][0] == "metrics.`test/acc`"
        assert {"metrics.`best/val_acc`", "params.`freeze`", "params.`seed`"} <= set(state["selectedColumns"])
