"""The commands of `thawlab`. Nothing heavy is imported until one runs."""

import argparse
import sys
from collections.abc import Sequence

from thawlab.system import surroundings

_USAGE = """\
usage: thawlab COMMAND ...

  thawlab train …    train, test and record one run, or a sweep with -m; `thawlab train --help` explains it
  thawlab sweeps     the sweeps of a store: what varied, runs done, failed, missing, and the answer; experiment=NAME
  thawlab compare    which configuration of a sweep is best, by how much, how sure; `thawlab compare --help` explains it
  thawlab rerun ID   a recorded run once more, and whether its result agrees; `thawlab rerun --help` explains it
  thawlab ui         MLflow's page on the runs; --root FOLDER (mlruns), --uri ADDRESS, --port PORT (5000)
  thawlab strategies what each strategy trains, when and at which rate; --markdown for docs/strategies.md
  thawlab cache ls   what is cached: size, hits, age; `cache rm` removes, `cache verify` checks it; --root FOLDER
  thawlab --version
"""
_COMMANDS = ("train", "sweeps", "compare", "rerun", "ui", "strategies", "cache")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    surroundings.prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    if command == "train":
        sys.exit(train(rest, program="thawlab train"))
    if command == "sweeps":
        from thawlab.cli.sweeps import sweeps

        sys.exit(sweeps(rest))
    if command == "compare":
        from thawlab.cli.compare import compare

        sys.exit(compare(rest))
    if command == "rerun":
        from thawlab.cli.rerun import rerun

        sys.exit(rerun(rest))
    if command == "ui":
        from thawlab.cli.ui import ui

        sys.exit(ui(rest))
    if command == "strategies":
        sys.exit(strategies(rest))
    if command == "cache":
        from thawlab.cli.cache import cache

        sys.exit(cache(rest))
    if command == "--version":
        import thawlab

        print(thawlab.__version__)
        return
    print(_USAGE, end="")
    if command not in ("--help", "-h"):
        print(f"\nerror: {surroundings.shown(command)}: no such command; use {', '.join(_COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def train(arguments: Sequence[str], program: str = "train.py") -> int:
    """Compose the configuration, then train; return the exit code."""
    surroundings.prepare()
    from thawlab.launch import ending, ranks

    ranks.forget_strangers()
    with ending.told():
        return _train(arguments, program)


def _train(arguments: Sequence[str], program: str) -> int:
    from thawlab.config.schema import ConfigError
    from thawlab.launch import process, sweep, sweep_end
    from thawlab.launch.compose import compose

    try:
        job = compose(arguments, program)
    except ConfigError as error:
        return process.refuse(error)
    except KeyboardInterrupt as stop:
        if not sweep.is_running():
            raise
        return sweep_end.finish(stopped_by=stop)
    except Exception:
        if sweep.is_running():  # a launcher broke down: its parent run is closed before that is told
            sweep_end.finish()
        raise
    if sweep.is_running():
        return sweep_end.finish()
    return process.start(job) if job else 0


def strategies(arguments: Sequence[str]) -> int:
    """Print the table of all strategies."""
    parser = argparse.ArgumentParser("thawlab strategies", description="All strategies, planned on two networks.")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/strategies.md")
    options = parser.parse_args(arguments)
    from thawlab.cli.strategies import rows
    from thawlab.cli.strategies_page import markdown, print_table

    if options.markdown:
        print(markdown(rows()), end="")
    else:
        print_table(rows())
    return 0
