"""The benchmarks run, keep what they measured, and print it as a table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "bench.py"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results of one benchmark, on a few tiny images."""
    folder = tmp_path_factory.mktemp("results")
    result = bench("depths", "--smoke", "--out", folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cached / bound" in " ".join(result.stdout.split())
    return folder


def test_a_benchmark_keeps_its_ratios_with_what_they_were_measured_on(kept):
    (path,) = kept.iterdir()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert path.name.startswith("depths_digits_")
    assert [row["freeze"] for row in content["results"]["depths"]] == ["1", "2", "4"]
    for row in content["results"]["depths"]:
        assert row["cached/bound"].keys() == {"median", "low", "high"}
        assert all(speed > 0 for speeds in row["images_per_second"].values() for speed in speeds)
    assert content["machine"]["cores"] > 0
    assert content["settings"]["smoke"] is True


def test_no_result_names_a_path_of_the_machine(kept):
    (path,) = kept.iterdir()
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
    assert str(kept) not in path.read_text(encoding="utf-8")


def test_what_was_kept_is_printed_as_markdown(kept):
    result = bench("--markdown", "--out", kept)
    assert result.returncode == 0, result.stderr
    assert "| freeze | bound | cached | uncached |" in result.stdout
    assert result.stdout.count("| 4 (layer4) |") == 1


def test_an_unknown_name_is_answered_by_those_that_there_are():
    result = bench("speed")
    assert result.returncode == 2
    names = "depths, probe, cached_probe, sweep, jobs, full, ddp, heads, filling, growth, startup, compare, coverage"
    assert result.stderr == f"speed: no such benchmark; there are {names}\n"
