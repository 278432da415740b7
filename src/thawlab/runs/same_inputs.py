"""What a run shares with the earlier one that it continues or repeats: its images, and the weights it starts from."""

from collections.abc import Iterator, Mapping
from typing import Any

from thawlab.config.job import Job
from thawlab.config.schema import ConfigError
from thawlab.tracking.history import find_run, read_run
from thawlab.tracking.past_run import dataset_sizes
from thawlab.tracking.store import Store
from thawlab.training.preparation import Prepared


def check(job: Job, prepared: Prepared, store: Store) -> None:
    """Refuse to go on with a run or a sweep, or to repeat a run, on other images or from other weights.

    Raises:
        ConfigError: they have changed since.
        ValueError: the earlier run cannot be read.
    """
    if job.resume_id and read_run(store, job.resume_id).tags.get("dataset_digest") != prepared.data.digest:
        raise ConfigError(f"resume={job.resume_id}: the images have changed since; start a new run")
    if sister := job.sweep.get("sister"):
        _check_sister(sister, prepared, store)
    if job.rerun_of:
        mistakes = list(_differences(job, prepared, store))
        if mistakes:
            raise ConfigError("\n".join(mistakes))


def _check_sister(sister: Mapping[str, Any], prepared: Prepared, store: Store) -> None:
    """Refuse to complete a sweep with a run on other images, or from other weights, than those that it has."""
    tags = find_run(store, sister["run_id"]).data.tags
    now = {"dataset_digest": prepared.data.digest, "weights_digest": prepared.network.weights_digest}
    for tag, what in (("dataset_digest", "images"), ("weights_digest", "pretrained weights")):
        asked = tag == "dataset_digest" or sister["weights"]
        if asked and tags.get(tag, now[tag]) != now[tag]:
            raise ConfigError(
                f"resume=true: the {what} have changed since the run {sister['run_id']} of this sweep was trained; "
                "bring them back, or start a new sweep without resume"
            )


def _differences(job: Job, prepared: Prepared, store: Store) -> Iterator[str]:
    tags = read_run(store, str(job.rerun_of), "rerun").tags
    data = prepared.data
    then = tags.get("dataset_digest")
    if then != data.digest:
        before = dataset_sizes(store, str(job.rerun_of))
        now = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
        sizes = [f"{part} {before[part]:,} → {now[part]:,}" for part in now if before.get(part, now[part]) != now[part]]
        what = (
            f"images: {', '.join(sizes)}" if sizes else "as many images, but other ones, other labels or other splits"
        )
        yield (
            f"rerun={job.rerun_of}: the data set {data.name} is not the one of that run ({what}; digest {then} then, "
            f"{data.digest} now); bring its images back, name their folder by dataset.root=…, or start a new run with "
            "train.py"
        )
    then, now = tags.get("weights_digest"), prepared.network.weights_digest
    if then and then != now:
        yield (
            f"rerun={job.rerun_of}: the weights to start from ({prepared.weights}) are not those of that run (digest "
            f"{then} then, {now} now); bring them back, name their file by backbone.checkpoint_path=…, or start a new "
            "run with train.py"
        )
