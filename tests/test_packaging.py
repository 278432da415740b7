"""A wheel works from any folder; and so do the examples that CONTRIBUTING.md gives for adding to it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


@pytest.fixture(scope="module")
def extended(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installation plus every example of CONTRIBUTING.md."""
    target = tmp_path_factory.mktemp("extended") / "site"
    shutil.copytree(installed, target)
    for path, text in examples().items():
        file = target / "thawlab" / path.removeprefix("src/thawlab/")
        assert file.parent.is_dir(), path
        assert not file.exists(), path
        file.write_text(text, encoding="utf-8")
    with (target / "thawlab" / "metrics.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{metric_example()}")
    return target


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def thawlab(site: Path, folder: Path, *arguments: str) -> str:
    """Output of the console script of an installation, started in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(site / "bin" / "thawlab"), *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def examples() -> dict[str, str]:
    """The files that CONTRIBUTING.md shows, by path."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)^```$", text, flags=re.M | re.S))


def metric_example() -> str:
    """The entry that CONTRIBUTING.md adds at the end of `metrics.py`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.partition("At the end of `src/thawlab/metrics.py`:\n\n```python\n")[2].partition("```\n")[0]


def test_a_wheel_holds_the_package_its_configuration_and_its_studies_and_nothing_else(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{place}{path.relative_to(folder).as_posix()}"
        for folder, place in [
            (ROOT / "src", ""),
            (ROOT / "conf", "thawlab/conf/"),
            (ROOT / "experiments", "thawlab/experiments/"),
        ]
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected


def test_an_installed_wheel_composes_its_configuration_in_any_folder(installed: Path, tmp_path: Path) -> None:
    composed = yaml.safe_load(thawlab(installed, tmp_path, "train", "--cfg", "job", "backbone=resnet50", "freeze=4"))
    assert (composed["backbone"]["name"], composed["dataset"]["name"], composed["freeze"]) == ("resnet50", "digits", 4)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_wheel_lists_its_studies(installed: Path, tmp_path: Path) -> None:
    assert "freeze_depth" in thawlab(installed, tmp_path, "train", "--help")


def test_the_examples_for_contributors_are_choices_as_soon_as_their_files_exist(extended: Path, tmp_path: Path) -> None:
    choices = ["backbone=small_resnet", "optimizer=gentle_lion", "dataset=stripes", "strategy=top_stage"]
    composed = yaml.safe_load(thawlab(extended, tmp_path, "train", "--cfg", "job", *choices))
    given = {path: yaml.safe_load(text) for path, text in examples().items() if path.startswith("conf/")}
    assert {path: composed[path.split("/")[1]] for path in given} == given
    study = thawlab(extended, tmp_path, "train", "--cfg", "hydra", "experiment=stripes_rates")
    assert yaml.safe_load(study)["hydra"]["sweeper"]["params"] == {"strategy.lr_scale": "0.1,1.0", "seed": "0,1"}


def test_the_examples_for_contributors_train(extended: Path, tmp_path: Path) -> None:
    choices = ["backbone=small_resnet", "optimizer=gentle_lion", "dataset=stripes", "strategy=top_stage"]
    printed = thawlab(
        extended, tmp_path, "train", *choices, "epochs=1", "trainer=cpu", "trainer.workers=0", "trainer.min_steps=0"
    )
    assert "test" in printed
    assert "kappa" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns", "outputs"]
