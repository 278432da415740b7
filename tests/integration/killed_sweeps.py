"""Sweeps whose outer process is killed, and which are started again until they end.

The outer process and each of its jobs are forked from this one, which has everything loaded; what lies between them
(process groups, environment, who ends with whom) is as in processes that are started anew.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from killed_runs import Kill, attempt, prepare
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from thawlab.config.job import values
from thawlab.config.schema import Config
from thawlab.launch import sweep_checks, warm, warm_process
from thawlab.launch.sweep_inputs import weights_key
from thawlab.launch.weights_digests import weights_digests

SWEPT = ("-m", "freeze=0,2,all", "strategy=finetune", "epochs=3", "cache=off")
JOBS = 3
_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NONE = ("has no sweep to go on with", "has no sweep of these jobs")


class Forked:
    """In the place of `subprocess.Popen`: the process that the jobs are forked from is a fork itself."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], stdin: Any, pass_fds: Sequence[int], process_group: int
    ) -> None:
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(command, env, pass_fds, process_group)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


def _serve(command: Sequence[str], environment: dict[str, str], kept: Sequence[int], process_group: int) -> None:
    code = 1
    try:
        os.setpgid(0, process_group)
        for signum in _CAUGHT:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
        line = os.dup(kept[0])
        os.closerange(3, line)
        os.closerange(line + 1, 1024)  # the other end of the line, which would never be closed
        for engine in SqlAlchemyStore._engine_map.values():  # those of the outer process
            engine.dispose(close=False)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [warm_process.__file__, str(line)]
        warm_process.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def use_forks(monkeypatch: Any) -> None:
    """Start jobs by forks; read weights here, and check no depths, which have no part in what is tested."""
    monkeypatch.setattr(warm, "subprocess", SimpleNamespace(Popen=Forked, DEVNULL=subprocess.DEVNULL))
    monkeypatch.setattr(sweep_checks, "begin", lambda configs, goes_on: Weights(list(configs) if goes_on else ()))


class Weights:
    """In the place of `sweep_checks.Checking`: without a process of its own."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self._configs = configs

    def finish(self) -> Mapping[str, str]:
        found, wrong = weights_digests({str(weights_key(each)): values(each) for each in self._configs})
        assert not wrong, wrong
        return found

    def stop(self) -> None:
        """There is nothing to wait for."""


def outcome(folder: Path) -> dict[str, Any]:
    """What a sweep left: statuses, the results of each job, and whether it was compared."""
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
        runs = store.execute("select run_uuid, status from runs order by start_time").fetchall()
        parents = dict(store.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
        depths = dict(store.execute("select run_uuid, value from params where key = 'freeze_depth'").fetchall())
        rows = store.execute(
            "select run_uuid, key, value from latest_metrics where key in ('best/val_acc', 'test/acc', 'test/loss')"
        ).fetchall()
        errors = [row[0] for row in store.execute("select value from tags where key = 'error'")]
        compared = store.execute("select count(*) from tags where key = 'summary.conclusion'").fetchone()[0]
    outer = [run_id for run_id, _ in runs if run_id not in parents]
    return {
        "sweeps": len(outer),
        "statuses": [status for _, status in runs],
        "in the sweep": sorted(depths[each] for each in parents if parents[each] == outer[0]),
        "metrics": sorted((depths[run_id], key, value) for run_id, key, value in rows if run_id in parents),
        "errors": errors,
        "compared": compared,
        "reports": len(list((folder / "mlruns").glob("**/comparison/report.html"))),
        "folders": len(list((folder / "outputs").glob("*"))),
    }


class KilledSweeps:
    """The sweep that was never stopped, and rounds that are held against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arguments = [*SWEPT, *prepare(folder)]
        self.store = folder / "mlruns" / "mlflow.db"
        self.undisturbed = self._new("undisturbed")
        began = time.monotonic()
        code, output, _ = attempt(self.undisturbed, self.arguments)
        assert code == 0, output
        self.seconds = time.monotonic() - began
        self.expected = outcome(self.undisturbed)
        assert self.expected["statuses"] == ["FINISHED"] * (1 + JOBS), self.expected
        assert (self.expected["compared"], self.expected["reports"]) == (1, 1), self.expected

    def round(self, number: int) -> tuple[str, list[str]]:
        """What was done, and what is wrong then: nothing if all is right."""
        rng = random.Random(number)
        folder = self._new(str(number))
        story, wrong, output = [], [], ""
        kills: list[Kill | None] = [self._draw(rng), *([self._draw(rng)] if rng.random() < 0.4 else []), None, None]
        resume, over = False, False
        for kill in kills:
            code, output, _ = attempt(folder, [*self.arguments, *(["resume=true"] if resume else [])], kill)
            story.append(f"{'resumed, ' if resume else ''}{kill or 'let go'}: {code}")
            if "Traceback" in output:
                wrong.append(f"{story[-1]}: {output}")
            if resume and any(each in output for each in _NONE):  # it was killed before it was recorded
                resume = False
                shutil.rmtree(folder / "outputs", ignore_errors=True)
                kills.append(None)
                continue
            resume, over = True, code == 0
            if over:
                break
        if not over:
            return "; ".join(story), [*wrong, f"not ended: {output}"]
        found = outcome(folder)
        wrong += [f"{key}: {found[key]}, not {value}" for key, value in self.expected.items() if found[key] != value]
        if not wrong:
            shutil.rmtree(folder)
        return "; ".join(story), wrong

    def _draw(self, rng: random.Random) -> Kill:
        return Kill(seconds=rng.uniform(0.0, self.seconds * 1.05))

    def _new(self, name: str) -> Path:
        folder = self.folder / name
        (folder / "mlruns").mkdir(parents=True)
        for path in self.store.parent.glob(self.store.name + "*"):
            shutil.copyfile(path, folder / "mlruns" / path.name)
        return folder
