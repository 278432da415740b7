"""Runs `thawlab` and `train.py`, each in a process forked from this one, which has everything loaded.

Reads a line of JSON for each order. `["start", folder, file for its standard output, file for its errors, the program,
its arguments]` is answered with the process, `["wait", process]` with its exit code once it has ended and `["poll",
process]` with that or null.
"""

import json
import os
import signal
import sys
import traceback
from typing import Any

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (loaded here once)

import thawlab.runs.run  # noqa: F401
from thawlab.cli import main


def run(folder: str, out: str, err: str, program: str, arguments: list[str]) -> None:
    """The command in this process, which ends with it."""
    code = 1
    try:
        os.setsid()  # in a process group of its own, as a shell has it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = [program, *arguments]
        os.chdir(folder)
        code = main.train(arguments) if program == "train.py" else 0
        if program == "thawlab":
            main.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def obey(order: str, *words: Any) -> int | None:
    """What is answered to an order."""
    if order != "start":
        process, status = os.waitpid(words[0], os.WNOHANG if order == "poll" else 0)
        return os.waitstatus_to_exitcode(status) if process else None
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        run(*words)
    return process


for line in sys.stdin:
    print(json.dumps(obey(*json.loads(line))), flush=True)
