"""A sweep whose jobs run side by side, on an MLflow server that keeps its runs in PostgreSQL."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from mlflow.artifacts import download_artifacts
from mlflow.tracking import MlflowClient
from processes import free_port, started
from real_runs import TINY, train

USER = "thawlab"
PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


def program(name: str) -> str | None:
    """A program of PostgreSQL: Debian keeps them out of the way."""
    return shutil.which(name) or (shutil.which(name, path=str(PROGRAMS)) if PROGRAMS else None)


pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(program("initdb") is None, reason="PostgreSQL is not installed (no initdb)"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    """The address of an empty database in a PostgreSQL server of the test's own, on loopback."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install psycopg2-binary")
    owner = _owner()
    # Not below pytest's folder, which belongs to the user of the tests alone.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True, user=owner).strip())
    port = free_port()
    try:
        _postgres(owner, "initdb", "-D", str(folder / "data"), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync")
        # Nothing of it is to outlive the test, so that it need not wait for the disk.
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        control = ("pg_ctl", "-D", str(folder / "data"), "-w", "-t", "120")
        _postgres(owner, *control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            _postgres(owner, "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "runs")
            # The driver is named: SQLAlchemy 2.1 takes psycopg by default, and earlier ones take psycopg2.
            yield f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/runs"
        finally:
            _postgres(owner, *control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _owner() -> int:
    """Who runs the server: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return os.getuid()
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user postgres to run it as")


def _postgres(owner: int, name: str, *arguments: str) -> None:
    # pg_ctl's server keeps what it inherits as its output, so that a pipe would never end.
    done = subprocess.run(
        [str(program(name)), *arguments],
        user=owner,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, f"{name} {arguments}: exit code {done.returncode}"


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[str]:
    """The address of an MLflow server on that database, which takes the artifacts itself."""
    folder = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{free_port()}"
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "2"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]

    def answers(_: str) -> bool:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return True
        except OSError:
            return False

    with started(command, folder, answers):
        yield address


@pytest.fixture(scope="module")
def swept(server, tmp_path_factory) -> Path:
    """The folder in which the sweep was started, when it is over."""
    folder = tmp_path_factory.mktemp("swept")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=4")
    result = train(folder, "-m", *launcher, "freeze=0,all", "seed=0,1", *TINY, "epochs=1", f"tracking.uri={server}")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def family(server: str):
    """The sweep's parent and its children, in the order of their numbers."""
    runs = MlflowClient(server).search_runs(["1"], max_results=100)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert 1 + len(children) == len(runs)
    return parent, sorted(children, key=lambda run: int(Path(run.data.tags["output_dir"]).name))


def test_four_jobs_at_once_are_four_finished_runs_below_one_parent(swept, server):
    parent, children = family(server)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    settings = [(run.data.params["freeze"], run.data.params["seed"]) for run in children]
    assert settings == [("0", "0"), ("0", "1"), ("all", "0"), ("all", "1")]
    assert all(run.data.metrics["test/acc"] >= 0 and "best/val_acc" in run.data.metrics for run in children)
    assert {path.name for path in swept.iterdir()} == {"outputs"}  # no store of its own beside the server's


def test_their_files_are_had_from_the_server(swept, server, tmp_path):
    parent, children = family(server)
    for run in children:
        assert str(run.info.artifact_uri).startswith("mlflow-artifacts:")
        local = Path(download_artifacts(run_id=run.info.run_id, tracking_uri=server, dst_path=str(tmp_path)))
        for path in ("config/config.yaml", "predictions/test.parquet", "stages.json", "environment/requirements.txt"):
            assert (local / path).stat().st_size > 0
        kept = torch.load(local / "checkpoints" / "best.ckpt", weights_only=True)
        assert kept["architecture"] == "test_resnet"
        shutil.rmtree(local)
    jobs = download_artifacts(
        run_id=parent.info.run_id, artifact_path="sweep/jobs.json", tracking_uri=server, dst_path=str(tmp_path)
    )
    assert [row["run_id"] for row in json.loads(Path(jobs).read_text())] == [run.info.run_id for run in children]


def test_one_of_them_can_be_repeated_from_the_server(swept, server):
    _, children = family(server)
    program = ("-c", "from thawlab.cli.main import main; main()", "rerun")
    result = train(swept, children[-1].info.run_id, f"uri={server}", program=program)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "agrees" in result.stdout
    (repeated,) = [
        run
        for run in MlflowClient(server).search_runs(["1"])
        if run.data.tags.get("rerun_of") == children[-1].info.run_id
    ]
    assert repeated.info.status == "FINISHED"
    MlflowClient(server).delete_run(repeated.info.run_id)


def test_the_sweep_is_compared_over_the_server(swept, server):
    program = ("-c", "from thawlab.cli.main import main; main()", "compare")
    result = train(swept, "sweep=latest", f"uri={server}", program=program)
    assert result.returncode == 0, result.stdout + result.stderr
    parent, _ = family(server)
    kept = [each.path for each in MlflowClient(server).list_artifacts(parent.info.run_id, "comparison")]
    assert "comparison/report.html" in kept
    assert "**Result**" in parent.data.tags["mlflow.note.content"]


def test_its_page_is_named_and_nothing_is_started(swept, server):
    program = ("-c", "from thawlab.cli.main import main; main()", "ui")
    result = train(swept, f"uri={server}", program=program)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"digits: {server}/#/experiments/1/runs?" in result.stdout
    assert "is a server, which shows its page itself" in result.stdout
