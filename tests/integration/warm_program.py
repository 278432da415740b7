"""Runs `thawlab` and `train.py`, each in a process forked from this one, which has everything loaded.

Reads a line of JSON for each: folder, file for its standard output, file for its errors, the program and its arguments.
Answers with its exit code.
"""

import json
import os
import sys
import traceback

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (loaded here once)

import thawlab.runs.run  # noqa: F401
from thawlab.cli import main


def run(folder: str, out: str, err: str, program: str, arguments: list[str]) -> None:
    """The command in this process, which ends with it."""
    code = 1
    try:
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
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


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
