"""Many runs of two processes, each with workers that load the images: none waits for ever, and all end alike.

`make test-ddp-stress RUNS=100`; a run that does not end in SECONDS=300 hangs.
"""

import os
import time
from collections import Counter

import pytest
from ddp_runs import prepare, run

RUNS, SECONDS = int(os.environ.get("DDP_RUNS", "100")), float(os.environ.get("DDP_SECONDS", "300"))


@pytest.mark.ddp_stress
def test_no_run_of_two_processes_with_workers_waits_for_ever(tmp_path):
    config, ends, hung = prepare(tmp_path), Counter(), []
    for number in range(1, RUNS + 1):
        began, folder = time.monotonic(), tmp_path / str(number)
        found = run(config, folder, SECONDS)
        if found is None:
            hung.append((number, *((folder / f"log{rank}").read_text()[-2000:] for rank in (0, 1))))
        else:
            ends.update(found)
        said = "hangs" if found is None else "ended"
        print(f"run {number} of {RUNS} {said} after {time.monotonic() - began:.1f} s; {len(hung)} hang", flush=True)
    assert not hung
    assert not [end for end in ends if end.startswith("Traceback")]
    assert len(ends) == 1  # all processes of all runs ended with the same network and the same answers
