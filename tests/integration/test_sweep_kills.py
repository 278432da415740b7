"""Sweeps that are killed at random moments and started again end as the sweep that was never stopped.

`make test-kills SWEEPS=5 FIRST=10 ARGS="-k sweep"` goes through the rounds 10 to 14; each is drawn from its number.
"""

import os

import pytest
from killed_sweeps import KilledSweeps, use_forks

pytestmark = pytest.mark.kills
SWEEPS, FIRST = (int(os.environ.get(name, default)) for name, default in (("KILL_SWEEPS", "20"), ("KILL_FIRST", "0")))


def test_a_killed_sweep_goes_on_to_the_end_of_an_undisturbed_one(tmp_path, monkeypatch):
    use_forks(monkeypatch)
    killed = KilledSweeps(tmp_path)
    print(f"\na sweep: {killed.seconds:.1f} s undisturbed", flush=True)
    wrong = {}
    for number in range(FIRST, FIRST + SWEEPS):
        story, found = killed.round(number)
        print(f"  round {number}: {story}{'' if not found else ': WRONG'}", flush=True)
        if found:
            wrong[number] = (story, *found)
    assert not wrong, f"{len(wrong)} of {SWEEPS} rounds: {wrong}"
