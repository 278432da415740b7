"""A sweep with `resume=true` trains what is missing, and nothing else."""

import hashlib
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
import torch
from killed_runs import Kill, attempt, prepare
from killed_sweeps import use_forks

pytestmark = pytest.mark.slow
SWEPT = ("-m", "freeze=0,all", "seed=0,1,2,3", "strategy=finetune", "epochs=2", "cache=off")
MORE = tuple(each.replace("seed=0,1,2,3", "seed=0,1,2,3,4") for each in SWEPT)


class Folder:
    """A working folder with a store of its own, and the images and weights of all."""

    def __init__(self, path: Path, store: Path, inputs: list[str]) -> None:
        self.path, self.inputs = path, inputs
        (path / "mlruns").mkdir(parents=True)
        for each in store.parent.glob(store.name + "*"):
            shutil.copyfile(each, path / "mlruns" / each.name)

    def train(self, *arguments: str, kill: Kill | None = None) -> tuple[int, str]:
        """Run the command; its exit code and what it said."""
        code, output, _ = attempt(self.path, [*arguments, *self.inputs], kill)
        assert "Traceback" not in output, output
        return code, output

    def weights(self) -> dict[tuple[str, str], str]:
        """Digest of the kept weights by the values that were swept, of all finished runs."""
        found: dict[tuple[str, str], str] = {}
        with sqlite3.connect(self.path / "mlruns" / "mlflow.db") as store:
            rows = store.execute(
                "select f.value, s.value, r.artifact_uri from runs r join params f on f.run_uuid = r.run_uuid "
                "join params s on s.run_uuid = r.run_uuid join tags t on t.run_uuid = r.run_uuid "
                "where r.status = 'FINISHED' and f.key = 'freeze' and s.key = 'seed' and t.key = 'mlflow.parentRunId'"
            ).fetchall()
        for freeze, seed, place in rows:
            file = Path(place.removeprefix("file://")) / "checkpoints" / "best.ckpt"
            state = torch.load(file, weights_only=True)["state_dict"]
            content = b"".join(name.encode() + value.numpy().tobytes() for name, value in state.items())
            assert (freeze, seed) not in found, "trained twice"
            found[freeze, seed] = hashlib.sha256(content).hexdigest()
        return found

    def compared(self) -> list[float]:
        """How many runs the comparison of each sweep covers, the earliest first."""
        with sqlite3.connect(self.path / "mlruns" / "mlflow.db") as store:
            return [
                row[0]
                for row in store.execute(
                    "select m.value from latest_metrics m join runs r on r.run_uuid = m.run_uuid "
                    "where m.key = 'summary/runs' order by r.start_time"
                )
            ]


def trained(output: str) -> int:
    """How many jobs were started."""
    return output.count("▶ run ")


@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], ids=["basic", "joblib"]
)
def test_a_sweep_that_was_killed_goes_on_to_the_bits_of_an_undisturbed_one_and_takes_more_seeds(
    launcher, tmp_path, monkeypatch
):
    if not launcher:  # workers of another launcher are processes that nobody has given forks
        use_forks(monkeypatch)
    inputs = [*prepare(tmp_path), *launcher]
    store = tmp_path / "mlruns" / "mlflow.db"
    undisturbed, folder = (Folder(tmp_path / name, store, inputs) for name in ("undisturbed", "killed"))
    code, output = undisturbed.train(*SWEPT)
    assert (code, trained(output)) == (0, 8), output
    expected = undisturbed.weights()
    assert len(set(expected.values())) == len(expected) == 8

    code, output = folder.train(*SWEPT, kill=Kill(jobs=3))
    assert code == -signal.SIGKILL
    code, output = folder.train(*SWEPT, "resume=true")
    done = output.count("done before")
    assert done == 3 or (launcher and 3 <= done <= 5), output
    assert (code, trained(output)) == (0, 8 - done), output
    assert folder.weights() == expected
    assert folder.compared() == [8]

    code, output = folder.train(*SWEPT, "resume=true")
    assert (code, trained(output)) == (0, 0)
    assert "nothing to go on with" in output

    code, output = folder.train(*MORE, "resume=true")
    assert (code, trained(output), output.count("done before")) == (0, 2, 8), output
    assert folder.weights().items() > expected.items()
    assert folder.compared() == [8, 10]
