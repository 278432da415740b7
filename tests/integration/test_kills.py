"""Runs that are killed at random moments, and at chosen ones, end as the run that was never stopped.

`make test-kills ROUNDS=20 FIRST=40` goes through the rounds 40 to 59; each is drawn from its number alone.
"""

import os

import pytest
from killed_runs import STRATEGIES, Killed, prepare

pytestmark = pytest.mark.kills
ROUNDS, FIRST = (int(os.environ.get(name, default)) for name, default in (("KILL_ROUNDS", "200"), ("KILL_FIRST", "0")))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    return folder, prepare(folder)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_run_goes_on_to_the_end_of_an_undisturbed_one(strategy, prepared):
    folder, arguments = prepared
    place = list(STRATEGIES).index(strategy)
    numbers = [number for number in range(FIRST, FIRST + ROUNDS) if number % len(STRATEGIES) == place]
    if not numbers:
        pytest.skip("no round is left for it")
    killed = Killed(strategy, folder / str(place), arguments, folder / "mlruns" / "mlflow.db")
    print(f"\n{strategy}: {killed.seconds:.1f} s undisturbed, {killed.files} files", flush=True)
    wrong = {}
    for number in numbers:
        story, found = killed.round(number)
        print(f"  round {number}: {story}{'' if not found else ': WRONG'}", flush=True)
        if found:
            wrong[number] = (story, *found)
    assert not wrong, f"{len(wrong)} of {len(numbers)} rounds of {strategy}: {wrong}"
