"""The end of a sweep: what was lost is closed, and the runs are compared."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawlab.sweep import FOLDER_VARIABLE

if TYPE_CHECKING:
    from thawlab.tracking.store import Store


def finish(stopped_by: KeyboardInterrupt | None = None) -> int:
    """Close the sweep of this process: end what was lost, show the comparison; return the exit code."""
    from thawlab import report
    from thawlab.tracking.store import Store
    from thawlab.tracking.sweeps import close_lost, end_parent

    folder = Path(os.environ.pop(FOLDER_VARIABLE))
    sweep = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    store = Store(sweep["uri"], None)
    if stopped_by:
        _wait_for_jobs(folder)
    close_lost(store, sweep["parent_id"])
    rows = outcomes(folder)
    failed = [row for row in rows if row["status"] != "FINISHED"]
    complete = len(rows) == sweep["jobs"] and not failed
    status = "KILLED" if stopped_by else "FINISHED" if complete else "FAILED"
    end_parent(store, sweep["parent_id"], status, rows)
    done = [row for row in rows if row["status"] == "FINISHED"]
    if stopped_by or len(done) < 2 or not _compare(store, sweep["parent_id"], folder):
        report.show_sweep(rows, sweep["title"])
    report.console.print(f"parent run {sweep['parent_id']}   look at it: {store.ui_command}")
    if failed and not stopped_by:
        named = "; ".join(f"run {row['number']} ({row['label']}): {row['status']}" for row in failed)
        print(f"error: {len(failed)} of {sweep['jobs']} runs did not finish: {named}", file=sys.stderr)
    return getattr(stopped_by, "exit_code", 128 + signal.SIGINT) if stopped_by else 0 if complete else 1


def _compare(store: "Store", parent_id: str, folder: Path) -> bool:
    """Compare the runs as `thawlab compare` does; False if that is not possible, which is told and fails nothing."""
    from thawlab import report
    from thawlab.compare.assembly import compare_runs
    from thawlab.compare.request import Request
    from thawlab.compare_command import publish

    try:
        with report.console.status("comparing the runs"):
            comparison, _ = compare_runs(store, Request(sweep=parent_id), f"thawlab compare sweep={parent_id}")
        publish(store, comparison, parent_id, folder / "comparison")
    except Exception as error:  # the runs are recorded; what is made of them can be made again
        report.show_note(f"the runs were not compared ({error}); `thawlab compare sweep={parent_id}` tries again")
        return False
    return True


def _wait_for_jobs(folder: Path, seconds: float = 20.0) -> None:
    """Give the jobs that were stopped along with a parallel launcher's workers the time to close their runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        begun = [path.parent for path in folder.glob("*/job.json")]
        if all((each / "exit_code").is_file() for each in begun):
            return
        time.sleep(0.1)


def outcomes(folder: Path) -> list[dict[str, Any]]:
    """What came of each job: number, label, status, seconds, metrics and run id (where it got so far)."""
    rows = []
    for path in folder.glob("*/outcome.json"):
        row = json.loads(path.read_text(encoding="utf-8"))
        result, run_id = path.parent / "result.json", path.parent / "run_id"
        row |= {"metrics": {}, "run_id": run_id.read_text() if run_id.is_file() else ""}
        if result.is_file():
            row["metrics"] = json.loads(result.read_text(encoding="utf-8"))["metrics"]
        if (path.parent / "job.json").is_file():
            row["overrides"] = json.loads((path.parent / "job.json").read_text(encoding="utf-8"))["overrides"]
        if (path.parent / "stages.json").is_file():
            row |= json.loads((path.parent / "stages.json").read_text(encoding="utf-8"))
        rows.append(row)
    return sorted(rows, key=lambda row: row["number"])
