"""benchmarks/gpu.sh: each part has a limit of its own, and what failed is said at the end."""

import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.sh"
# In the place of Python: says what it was asked to run, and does what a test wants of it.
STUB = """#!/usr/bin/env bash
[[ $1 == -c ]] && { [[ $2 == *prefix* ]] && echo "$STUB_PREFIX" || echo "a GPU"; exit 0; }
echo "ran: $*"
[[ $* == *startup* ]] && { sleep 60 & echo $! > "$STUB_PREFIX/sleeping"; wait; }
[[ $* == *" ddp "* ]] && exit 3
exit 0
"""


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, **environment}
    )


def is_at_work(pid: int) -> bool:
    """Whether the process is there, and not merely waiting for a parent to read its exit code."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


@pytest.fixture
def stub(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "python"
    path.write_text(STUB)
    path.chmod(0o755)
    return {"PYTHON": str(path), "STUB_PREFIX": str(tmp_path)}


def test_a_part_that_hangs_or_fails_loses_nothing_but_itself(stub, tmp_path):
    begun = time.monotonic()
    result = run("--out", tmp_path / "results", "--minutes", 8, **stub, GPU_SH_MOST="2")
    assert time.monotonic() - begun < 40
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert "failed: ddp with one device: it ended with exit code 3" in failed
    assert "failed: start to first step: it took longer than 2 s" in failed
    for network in ("resnet50", "efficientnet_lite0"):
        assert f"full --quick --size 224 --out {tmp_path / 'results'}" in result.stdout
        assert f"--label {network} backbone={network}" in result.stdout
    assert "trainer.precision=bf16" in result.stdout
    assert not is_at_work(int((tmp_path / "sleeping").read_text()))


def test_photographs_are_measured_on_beside_synthetic_images(stub, tmp_path):
    (tmp_path / "photos").mkdir()
    result = run("--cpu", "--smoke", "--data", tmp_path / "photos", **stub, GPU_SH_MOST="1")
    assert result.stdout.count(" full --smoke ") == 4
    assert result.stdout.count(f"--data {tmp_path / 'photos'}") == 3
    assert "trainer=gpu" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fast"], "gpu.sh: --fast: no such option; see --help"),
        (["--data"], "gpu.sh: --data wants a value"),
        (["--wheels", "nowhere"], "gpu.sh: --wheels nowhere: there is no such thing"),
    ],
    ids=["option", "value", "folder"],
)
def test_what_is_mistyped_is_said_before_anything_runs(arguments, said, stub):
    result = run(*arguments, **stub)
    assert (result.returncode, result.stderr, result.stdout) == (2, f"{said}\n", "")


def test_help_explains_every_option(stub):
    result = run("--help", **stub)
    assert result.returncode == 0
    assert all(f"--{name}" in result.stdout for name in ("wheels", "data", "timm", "out", "minutes", "cpu", "smoke"))


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu_with_tiny_networks(tmp_path):
    result = run("--cpu", "--smoke", "--out", tmp_path, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stdout + result.stderr
    kept = sorted(path.name.partition("_")[0] for path in tmp_path.glob("*.json"))
    assert kept == ["cached", "ddp", "full", "full", "startup"]
