"""Training without a terminal and without MLflow, as a few lines of Python."""

from tiny_runs import configured

from thawlab.training.evaluation import compute_test_metrics
from thawlab.training.events import Events
from thawlab.training.fit import fit
from thawlab.training.heads.fit import fit_heads
from thawlab.training.preparation import prepare

NETWORK = ("backbone=test_resnet", "backbone.pretrained=false")


def test_a_network_is_prepared_trained_and_tested(images, tmp_path):
    config = configured(images, *NETWORK, "epochs=2")
    prepared = prepare(config)
    outcome = fit(config, prepared, tmp_path)
    tested = outcome.test()
    metrics = compute_test_metrics(tested.logits, prepared.data.test.labels)
    assert tested.logits.shape == (6, 3)
    assert 0 <= metrics["test/acc"] <= 1
    assert outcome.best.epoch == 1  # six validation images choose none: the last one is kept


class Heard(Events):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.said: list[tuple] = []

    def phase_begins(self, number, phases, name):
        self.said.append((number, phases, name))

    def epoch_ends(self, epoch, epochs, networks, seconds):
        assert seconds > 0
        self.said.append((epoch, epochs, [row["phase"] for row in networks], {*networks[0]}))


def test_phases_and_epochs_are_told_in_their_order(images, tmp_path):
    config = configured(images, *NETWORK, "epochs=3", "strategy=freeze_unfreeze", "strategy.freeze_epochs=1")
    heard = Heard()
    fit(config, prepare(config), tmp_path, heard)
    assert [each[:3] for each in heard.said] == [
        (1, 2, "freeze"),
        (0, 3, [1.0]),
        (2, 2, "unfreeze"),
        (1, 3, [2.0]),
        (2, 3, [2.0]),
    ]
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "val/balanced_acc", "lr/head"} <= heard.said[1][3]


def test_heads_that_are_trained_together_tell_of_each_in_one_event(images, tmp_path):
    config = configured(
        images, *NETWORK, "epochs=2", "strategy=linear_probe", "strategy.solver=gradient", "augment=none"
    )
    other = config.model_copy(update={"label_smoothing": 0.2})
    heard = Heard()
    outcomes = fit_heads([config, other], prepare(config), tmp_path, heard)
    assert [each[:3] for each in heard.said] == [(0, 2, [1.0, 1.0]), (1, 2, [1.0, 1.0])]
    assert [outcome.test().logits.shape for outcome in outcomes] == [(6, 3), (6, 3)]
    assert outcomes[0].history[-1]["train/loss"] != outcomes[1].history[-1]["train/loss"]
