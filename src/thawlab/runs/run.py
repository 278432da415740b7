"""A run, or the runs of heads that are trained together, from their configuration to their test metrics."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from thawlab.config.job import Job
from thawlab.config.schema import Config
from thawlab.runs.family import Family
from thawlab.runs.member import Member
from thawlab.runs.showing import show_end, show_start
from thawlab.tracking.checkpoints import checkpoint_of
from thawlab.tracking.lifecycle import tracked
from thawlab.tracking.store import Store, open_store
from thawlab.training.fit import fit
from thawlab.training.heads.features import Source, check, stored
from thawlab.training.heads.fit import fit_heads
from thawlab.training.outcome import Outcome
from thawlab.training.preparation import Prepared, prepare, user_mistakes
from thawlab.training.trainer import quiet_lightning

# What a `backbone.checkpoint_path` begins with that names an earlier run.
_RUN = "run:"


def run(job: Job, source: Source = stored) -> Sequence[Member]:
    """Train, test and record one run, or those of `job.variants`; every process of a distributed run calls this.

    Args:
        job: what is to be trained.
        source: where the features of heads that are trained together come from.

    Returns:
        The runs with their metrics at the end. Of several, some may have failed; one alone raises what it failed with.

    Raises:
        ConfigError: before anything is recorded: what was asked for cannot be run.
        DivergedError: a loss, or what the network says of a test image, is not finite.
        FrozenMovedError: something frozen changed.
    """
    torch.set_float32_matmul_precision("high")
    quiet_lightning()
    with user_mistakes():
        store = open_store(job.config.tracking.uri, Path(job.config.tracking.root))
        weights_file = _weights_of_run(job.config, store)
    prepared = prepare(job.config, weights_file)
    if job.variants:
        check(job.config, prepared, list(dict.fromkeys(config.seed for config in job.variants)))
    family = Family(job, prepared, store)
    show_start(family)
    with tracked(family.runs):
        family.open()
        began = time.monotonic()
        outcomes = _train(job, prepared, family, source)
        family.is_trained(time.monotonic() - began)
        for member, outcome in zip(family.members, outcomes, strict=True):
            with family.isolated(member):
                family.test(member, outcome)
    family.close()
    show_end(family)
    return family.members


def _weights_of_run(config: Config, store: Store) -> Path | None:
    """The kept weights of the run that `backbone.checkpoint_path` names, if it names one."""
    path = config.backbone.checkpoint_path
    if path is None or not path.startswith(_RUN):
        return None
    return checkpoint_of(store, path.removeprefix(_RUN), "backbone.checkpoint_path")


def _train(job: Job, prepared: Prepared, family: Family, source: Source) -> Sequence[Outcome]:
    if job.variants:
        return fit_heads(job.variants, prepared, job.output_dir, family.events, source)
    resume = job.resume_id is not None
    return [fit(job.config, prepared, job.output_dir, family.events, run_id=family.members[0].id, resume=resume)]
