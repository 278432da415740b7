"""What a comparison says of runs on few images, and of those that diverged."""

from thawlab.compare.select.grouping import group
from thawlab.compare.wording.small_data import notes
from thawlab.tracking.run_record import RunRecord


def run(name: str, lr: str, seed: int, status: str = "FINISHED", **tags: str) -> RunRecord:
    params = {"optimizer.lr": lr, "seed": str(seed)}
    metrics = {"test/acc": 0.8} if status == "FINISHED" else {}
    return RunRecord(name, name, "1", status, seed, params, metrics, tags, "")


def test_a_run_that_diverged_is_left_out_by_that_word_and_its_configuration_is_marked():
    records = [
        run("a", "0.1", 0),
        run("b", "0.1", 1, "FAILED", diverged="epoch 1, step 3"),
        run("c", "0.01", 0),
        run("d", "0.01", 1, "FAILED", error="RuntimeError: the disk is full"),
        run("e", "0.1", 2, nonfinite="train/loss=nan at step 0"),  # by a version that let it finish
    ]
    grouping = group(records)
    assert {each.run.run_id: each.reason for each in grouping.excluded} == {
        "b": "diverged: its loss was not finite (epoch 1, step 3)",
        "d": "failed",
        "e": "diverged: its loss was not finite (train/loss=nan at step 0)",
    }
    assert {each.label: each.diverged for each in grouping.configurations} == {
        "optimizer.lr=0.01": 0,
        "optimizer.lr=0.1": 2,
    }
    (said,) = notes(grouping, {})
    assert said.startswith("runs diverged: lr=0.1 (2 of 3); the values are those of the runs that did not")


def test_few_images_and_steps_and_an_accuracy_that_never_moved_are_told_with_the_way_out():
    tags = {"images.val": "3", "steps": "10", "images.rare": "oak (2)"}
    grouping = group([run("a", "0.1", 0, **tags), run("b", "0.01", 0, **{**tags, "images.val": "500"})])
    histories = {"a": [(0, 0.5), (1, 0.5)], "b": [(0, 0.5), (1, 0.6)]}
    validation, steps, rare, still = notes(grouping, histories)
    assert validation.startswith("1 of 2 runs had few validation images (from 3), which tell little")
    assert steps.startswith("all runs took few optimizer steps (from 10)")
    assert rare.startswith("fewer than 5 training images: oak (2); add images")
    assert still.startswith("in 1 of 2 runs val acc was the same in every epoch")


def test_a_comparison_says_where_runs_of_an_earlier_version_may_have_kept_another_epoch():
    def noted(select: str, images: str, accuracies: list[float]) -> list[str]:
        now = run("b", "0.01", 0, **{"images.val": images, "steps": "150"})
        now.params["trainer.select"] = select
        histories = {"a": [*enumerate(accuracies)], "b": [(0, 0.6), (1, 0.7)]}
        return notes(group([run("a", "0.1", 0), now]), histories)

    assert noted("acc", "50", [0.5, 0.8, 0.6]) == []
    (equals,) = noted("acc", "50", [0.5, 0.8, 0.8])
    assert equals == (
        "1 of 2 runs are of an earlier version, which kept the first epoch with the highest val acc, and the others "
        "of equals the one with the lowest loss; train them again to compare like with like"
    )
    (loss,) = noted("loss", "50", [0.5, 0.8, 0.6])
    assert "and the others that of trainer.select=loss; train" in loss


def test_runs_of_an_earlier_version_say_nothing_of_their_images():
    grouping = group([run("a", "0.1", 0), run("b", "0.01", 0)])
    assert notes(grouping, {"a": [(0, 0.5)]}) == []
