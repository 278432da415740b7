"""The end of a sweep: what was lost is closed, and the runs are compared."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thawlab.launch import warm
from thawlab.launch.owners import forget_owners
from thawlab.launch.sweep_jobs import FOLDER_VARIABLE, sweep_facts
from thawlab.system.surroundings import shown

if TYPE_CHECKING:
    from thawlab.tracking.run import Status
    from thawlab.tracking.store import Store


def finish(stopped_by: KeyboardInterrupt | None = None) -> int:
    """Close the sweep of this process: end what was lost, show the comparison; return the exit code."""
    from thawlab import console
    from thawlab.tracking.store import Store

    folder = Path(os.environ.pop(FOLDER_VARIABLE))
    forget_owners()
    warm.end()
    sweep = sweep_facts(folder)
    store = Store(sweep["uri"], None)
    if stopped_by:
        _wait_for_jobs(folder, sweep)
    rows = outcomes(folder, sweep)
    if not stopped_by:  # a job that says nothing is one that could not
        rows = [rows.get(number, _silent(number, sweep)) for number in range(1, sweep["jobs"] + 1)]
    else:
        rows = [rows[number] for number in sorted(rows)]
    failed = [row for row in rows if row["status"] != "FINISHED"]
    complete = len(rows) == sweep["jobs"] and not failed
    _close(store, sweep["parent_id"], "FINISHED" if complete else "KILLED" if stopped_by else "FAILED", rows)
    done = [row for row in rows if row["status"] == "FINISHED"]
    if stopped_by or len(done) < 2 or not _compare(store, sweep["parent_id"], folder):
        console.show_sweep(rows, sweep["title"])
    console.terminal.print(f"parent run {sweep['parent_id']}   look at it: {store.ui_command}", markup=False)
    if failed and not stopped_by:
        named = "; ".join(f"run {row['number']} ({row['label']}): {row['status']}" for row in failed)
        print(shown(f"error: {len(failed)} of {sweep['jobs']} runs did not finish: {named}"), file=sys.stderr)
    _tell_ways_on(rows, sweep["jobs"])
    return getattr(stopped_by, "exit_code", 128 + signal.SIGINT) if stopped_by else 0 if complete else 1


def _tell_ways_on(rows: list[dict[str, Any]], jobs: int) -> None:
    statuses = {row["status"] for row in rows}
    if len(rows) < jobs or statuses - {"FINISHED", "FAILED"}:
        print("go on with what is missing: the same command with resume=true", file=sys.stderr)
    if "FAILED" in statuses:
        print("try again what failed: the same command with resume=true retry=failed", file=sys.stderr)


def _close(store: "Store", parent_id: str, status: "Status", rows: list[dict[str, Any]]) -> None:
    from thawlab.tracking.dead_runs import close_lost
    from thawlab.tracking.store import plain_messages
    from thawlab.tracking.sweeps import end_parent

    try:
        with plain_messages(store):
            close_lost(store, parent_id)
            end_parent(store, parent_id, status, rows)
    except (OSError, ValueError) as error:
        print(shown(f"error: the end of the sweep {parent_id} was not recorded: {error}"), file=sys.stderr)


def _silent(number: int, sweep: dict[str, Any]) -> dict[str, Any]:
    row = {"number": number, "label": sweep["labels"][number - 1], "status": "FAILED", "seconds": 0.0}
    return {**row, "run_id": "", "metrics": {}}


def _compare(store: "Store", parent_id: str, folder: Path) -> bool:
    """Compare the runs as `thawlab compare` does; False if that is not possible, which is told and fails nothing."""
    from thawlab import console
    from thawlab.compare.compare_runs import compare_runs
    from thawlab.compare.publish import publish
    from thawlab.compare.select.request import Request

    try:
        with console.terminal.status("comparing the runs"):
            comparison, _ = compare_runs(store, Request(sweep=parent_id), f"thawlab compare sweep={parent_id}")
        publish(store, comparison, parent_id, folder / "comparison")
    except Exception as error:  # the runs are recorded; what is made of them can be made again
        console.show_note(f"the runs were not compared ({error}); `thawlab compare sweep={parent_id}` tries again")
        return False
    return True


def _wait_for_jobs(folder: Path, sweep: dict[str, Any], seconds: float = 20.0) -> None:
    """Give the jobs that were stopped along with a parallel launcher's workers the time to close their runs."""
    deadline = time.monotonic() + seconds
    began = (folder / "sweep.json").stat().st_mtime  # older ones are of an earlier start
    while time.monotonic() < deadline:
        begun = [path.parent for path in _files(folder, sweep, "job.json") if path.stat().st_mtime >= began]
        if all((each / "exit_code").is_file() for each in begun):
            return
        time.sleep(0.1)


def outcomes(folder: Path, sweep: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What came of each job by its number: label, status, seconds, metrics and run id (where it got so far)."""
    rows: dict[int, dict[str, Any]] = {}
    began = (folder / "sweep.json").stat().st_mtime
    for path in _files(folder, sweep, "outcome.json"):
        row = _json(path)
        if row and path.stat().st_mtime >= began:
            rows[row["number"]] = {"metrics": {}, "run_id": "", **row, **_left(path.parent)}
    for number, part in sweep["plan"].items():
        if "run_id" in part:  # done, or failed, before
            status = "FAILED" if part.get("failed") else "FINISHED"
            row = {"number": int(number), "label": sweep["labels"][int(number) - 1], "status": status}
            rows[int(number)] = {**row, **{key: part[key] for key in ("seconds", "run_id", "metrics")}}
        elif part.get("failed_heads") and int(number) in rows and rows[int(number)]["status"] == "FINISHED":
            rows[int(number)]["status"] = "FAILED"  # the heads that were left did not
    return rows


def _files(folder: Path, sweep: dict[str, Any], name: str) -> list[Path]:
    """What the jobs left, in folders below the sweep's, or in those that they had in an earlier one."""
    earlier = [Path(part["folder"]) / name for part in sweep["plan"].values() if part.get("folder")]
    return [*folder.glob(f"*/{name}"), *(path for path in earlier if path.parent.parent != folder and path.is_file())]


def _left(folder: Path) -> dict[str, Any]:
    """What the run itself left in its folder."""
    run_id, found = folder / "run_id", {}
    if run_id.is_file():
        found["run_id"] = run_id.read_text(encoding="utf-8")
    if result := _json(folder / "result.json"):
        found["metrics"] = result["metrics"]
    if job := _json(folder / "job.json"):
        found["overrides"] = job["overrides"]
    return found


def _json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing if it is not there, or was cut off on a full disk."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
