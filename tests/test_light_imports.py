"""Help, the composed configuration and a refusal come without loading torch: they take well under two seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from thawlab.cli.main import train
try:
    code = train(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
heavy = {"torch", "torchvision", "timm", "pytorch_lightning", "mlflow", "sklearn", "pandas", "matplotlib"}
print("\\nloaded:", code, *sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["freez=3"], 2),
        (["optimizer.lr=fast"], 2),
        (["backbone=resnet5"], 2),
        (["-m", "seed=0,1", "epochs=none"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_nothing_heavy_is_imported_before_a_run_starts(arguments: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1:] == [f"loaded: {code}"], result.stdout + result.stderr
