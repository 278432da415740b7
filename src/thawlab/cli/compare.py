"""`thawlab compare`: from runs to the answer, in the terminal, as files, and with the sweep in MLflow."""

import gc
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from thawlab.compare.publish import publish
from thawlab.compare.select.request import Request, parse
from thawlab.config.schema import ConfigError
from thawlab.system.redaction import redacted
from thawlab.system.surroundings import shown

if TYPE_CHECKING:
    from thawlab.compare.comparison import Comparison

USAGE = """\
usage: thawlab compare [KEY=VALUE ...]

which runs (the latest sweep unless you say more):
  sweep=latest              or the id of its parent run, or the name of its folder
  experiment=NAME           all runs of an MLflow experiment
  'runs=[ID,ID]'            these runs
  filter="params.freeze = '4'"   in MLflow's words; narrows down what the others choose

how they are compared:
  metric=test/acc           any metric that the runs have; seconds and parameters too: metric=cost/fit_seconds
  'by=[freeze,backbone.name]'    what tells configurations apart; unless given, all that varies except the seed
  baseline=freeze=0         what the others are held against besides the best: settings, or the id of a run

where:
  root=mlruns  uri=http://…      the store: a folder, or a server or database
  out=FOLDER                report.html, tables, plots; unless given, outputs/compare/…
  log=true                  keep it with the sweep in MLflow, as is done by itself unless filter, by, metric or
                            baseline is given; log=false does not
"""


def compare(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    if {"--help", "-h"} & set(arguments):
        print(USAGE, end="")
        return 0
    try:
        run(parse(arguments), redacted(shlex.join(["thawlab", "compare", *arguments])))
    except (ConfigError, ValueError) as error:
        for line in shown(str(error)).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def run(request: Request, command: str) -> tuple["Comparison", Path]:
    """Compare and publish what is asked for; `command` is told to do so again. Returns what was found, and the report.

    Raises:
        ConfigError: nothing can be compared as asked.
        ValueError: the runs cannot be found, or the store cannot be reached.
    """
    gc.disable()  # little of what is made here is garbage: to look for some takes a tenth of the time
    try:
        from thawlab import console  # these take a second or two, which a mistake in the arguments need not
        from thawlab.compare.compare_runs import compare_runs
        from thawlab.tracking.store import open_store

        with console.terminal.status("reading the runs"):
            store = open_store(request.uri or "", Path(request.root))
            found, parent_id = compare_runs(store, request, command)
        report = publish(store, found, parent_id if request.log else None, _folder(request, parent_id))
        if parent_id is not None and not request.log:
            console.terminal.print("not kept with the sweep in MLflow; log=true does that", style="dim")
        return found, report
    finally:
        gc.enable()


def _folder(request: Request, parent_id: str | None) -> Path:
    if request.out:
        return Path(request.out).expanduser()
    name = parent_id or request.experiment or "runs"
    return Path("outputs") / "compare" / "".join(each if each.isalnum() or each in "-_." else "_" for each in name)
