import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from thawlab.tracking.checkpoints import checkpoint_of
from thawlab.tracking.run import Run, start_run

KEY = "backbone.checkpoint_path"


def run_with(store, **params) -> Run:
    return start_run(store, "digits", name="one", params=params, tags={})


def keep(run: Run, folder: Path) -> None:
    (folder / "best.ckpt").write_bytes(b"weights")
    run.log_artifact(folder / "best.ckpt", "checkpoints")


def artifacts(run: Run) -> Path:
    uri = run.client.get_run(run.id).info.artifact_uri
    return Path(unquote(urlsplit(uri).path))


def test_a_local_runs_weights_are_the_very_file_that_it_kept(store, tmp_path):
    run = run_with(store)
    keep(run, tmp_path)
    run.end("FINISHED")
    path = checkpoint_of(store, run.id, KEY)
    assert path == artifacts(run) / "checkpoints" / "best.ckpt"
    assert path.read_bytes() == b"weights"


def test_an_unknown_run_is_told_with_those_there_are(store):
    run = run_with(store)
    with pytest.raises(ValueError, match=rf"^{re.escape(KEY)}=run:abc: there is no such run in .*{run.id}"):
        checkpoint_of(store, "abc", KEY)


@pytest.mark.parametrize("status", ["FAILED", "KILLED", None])
def test_a_run_that_did_not_end_well_has_no_weights(status, store):
    run = run_with(store)
    if status:
        run.end(status)
    with pytest.raises(ValueError, match=rf"^{re.escape(KEY)}=run:{run.id}: this run is {status or 'RUNNING'}, and"):
        checkpoint_of(store, run.id, KEY)


def test_a_run_that_was_told_to_keep_no_weights_is_told_from_one_that_lost_them(store, tmp_path):
    bare, lost = run_with(store, tracking={"checkpoint": False}), run_with(store, tracking={"checkpoint": True})
    keep(lost, tmp_path)
    shutil.rmtree(artifacts(lost) / "checkpoints")
    for run in (bare, lost):
        run.end("FINISHED")
    with pytest.raises(ValueError, match=r"since tracking\.checkpoint was false; use another run"):
        checkpoint_of(store, bare.id, KEY)
    with pytest.raises(ValueError, match=r"are not in .* any more; use another run"):
        checkpoint_of(store, lost.id, KEY)
