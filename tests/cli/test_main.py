import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

import thawlab
from thawlab.cli import main
from thawlab.data.feature_store.store import Array, FeatureStore

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THAWLAB_TRACEBACK", raising=False)


def test_help_fits_a_screen_and_lists_groups_and_keys(capsys):
    with pytest.raises(SystemExit) as stopped:  # Hydra ends by itself here
        main.train(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert len(lines) <= 50
    for word in ("augment", "backbone", "dataset", "optimizer", "scheduler", "strategy", "tracking", "trainer"):
        assert any(line.strip().startswith(word) for line in lines), word
    for word in ("efficientnet_lite0", "linear_probe", "freeze", "transfer", "resume", "-m", "--cfg job"):
        assert word in text


def test_cfg_job_prints_every_setting_without_hydra(capsys):
    assert main.train(["--cfg", "job", "freeze=4", "optimizer=lamb"]) == 0
    text = capsys.readouterr().out
    assert "freeze: 4" in text
    assert "name: lamb" in text
    assert "searchpath" not in text
    assert list(Path().iterdir()) == []


def test_the_package_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "thawlab", "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: thawlab COMMAND")


def test_a_mistake_is_one_message_without_a_traceback(capsys):
    assert main.train(["epochs=0", "seed=-1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "error: epochs=0: use a value greater than or equal to 1",
        "       seed=-1: use a value greater than or equal to 0",
    ]


def test_the_traceback_of_a_mistake_is_there_for_those_who_ask(capsys, monkeypatch):
    monkeypatch.setenv("THAWLAB_TRACEBACK", "1")
    assert main.train(["epochs=0"]) == 2
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].endswith("epochs=0: use a value greater than or equal to 1")


def test_a_mistake_in_one_job_of_a_sweep_starts_nothing(capsys, tmp_path):
    assert main.train(["-m", "freeze=0,4", "epochs=1,0", "seed=0,-1", f"tracking.root={tmp_path}/mlruns"]) == 2
    captured = capsys.readouterr()
    assert "run 1" not in captured.out
    assert captured.err.splitlines() == [
        "error: seed=-1: use a value greater than or equal to 0",
        "       epochs=0: use a value greater than or equal to 1",
    ]
    assert not (tmp_path / "mlruns").exists()
    assert "THAWLAB_SWEEP" not in os.environ


def test_a_sweep_over_a_choice_that_is_not_there_starts_nothing(capsys, tmp_path):
    assert main.train(["-m", "dataset=digits,foldr", f"tracking.root={tmp_path}/mlruns"]) == 2
    assert capsys.readouterr().err.startswith("error: dataset=foldr: no such dataset; nearest: folder")
    assert not (tmp_path / "mlruns").exists()


def test_a_sweep_over_a_key_that_is_not_there_starts_nothing(capsys, tmp_path):
    assert main.train(["-m", "freez=0,4", f"tracking.root={tmp_path}/mlruns"]) == 2
    assert capsys.readouterr().err == "error: freez=0,4: no such key; nearest: freeze, resume\n"
    assert not (tmp_path / "mlruns").exists()


def test_the_command_says_what_it_can(capsys):
    main.main(["--version"])
    assert capsys.readouterr().out.strip() == thawlab.__version__
    main.main([])
    assert capsys.readouterr().out.startswith("usage: thawlab COMMAND")
    with pytest.raises(SystemExit) as stopped:
        main.main(["trian"])
    assert stopped.value.code == 2
    assert "trian: no such command; use train, sweeps, compare, rerun, ui, strategies, cache" in capsys.readouterr().err


HEAVY = """
import sys
from thawlab.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("loaded:", end.code, *sorted({"torch", "timm", "pytorch_lightning", "mlflow", "pandas"} & set(sys.modules)))
"""


@pytest.fixture
def cached() -> list[str]:
    """Entries at three depths in outputs/cache, the deepest used last; their names."""
    store = FeatureStore(Path("outputs/cache"), 10**9)
    names = []
    for depth in (1, 2, 3):
        key = {"backbone": "resnet18", "depth": depth, "dataset": "digits", "split": "train", "views": 4}
        with store.writing(key, 1000, [Array("0", (25,), "float32")]) as writer:
            writer.write(0, [np.zeros((1000, 25), np.float32)])
        names.append(store.name(key))
        moment = time.time() - 86_400 * (4 - depth)
        os.utime(store.root / names[-1] / "used", (moment, moment))
    return names


def cache(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main.main(["cache", *arguments])
    return stopped.value.code, *capsys.readouterr()  # type: ignore[return-value]


def remaining() -> set[str]:
    return {path.name for path in Path("outputs/cache").iterdir() if path.is_dir()}


def test_the_cache_is_listed_with_what_was_used_last_first(cached, capsys):
    FeatureStore(Path("outputs/cache"), 0).find(
        {"backbone": "resnet18", "depth": 2, "dataset": "digits", "split": "train", "views": 4}
    )
    code, out, _ = cache(capsys, "ls", "--max-gb", "0.001")
    assert code == 0
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [row[0] for row in cells] == [cached[number][:12] for number in (1, 2, 0)]
    assert [row[2] for row in cells] == ["2", "3", "1"]
    assert cells[2][1:-1] == ["resnet18", "1", "digits", "train", "4", "1,000", "100.1 kB", "0", "3 d ago"]
    assert cells[0][7:9] == ["100.1 kB", "1"]
    assert re.fullmatch(r"0\.\d s", cells[0][-1])
    assert out.splitlines()[-1] == "3 entries, 300.4 kB, 30 % of 0.001 GB"


@pytest.mark.parametrize("arguments", [["ls"], ["verify"], ["rm", "--all"], ["rm", "--older-than", "0"]], ids=" ".join)
def test_a_cache_with_nothing_in_it_says_so_in_a_line(capsys, arguments):
    said = (0, "outputs/cache: nothing is cached there\n", "")
    assert cache(capsys, *arguments) == said
    assert not Path("outputs").exists()
    Path("outputs/cache").mkdir(parents=True)
    assert cache(capsys, *arguments) == said


def test_entries_are_removed_by_name_or_how_it_begins(cached, capsys):
    code, out, _ = cache(capsys, "rm", cached[0], cached[2][:9])
    assert code == 0
    assert remaining() == {cached[1]}
    assert out.splitlines() == [
        f"removed {cached[0]}: resnet18, depth 1, digits, train, 100.1 kB",
        f"removed {cached[2]}: resnet18, depth 3, digits, train, 100.1 kB",
        "2 entries removed, 200.3 kB freed",
    ]


def test_entries_that_were_not_used_for_some_days_are_removed(cached, capsys):
    assert cache(capsys, "rm", "--older-than", "1.5")[0] == 0
    assert remaining() == {cached[2]}
    assert cache(capsys, "rm", "--older-than", "1.5")[1] == "0 entries removed, 0 bytes freed\n"
    assert cache(capsys, "rm", "--all", "--root", "outputs/cache")[1].endswith("1 entry removed, 100.1 kB freed\n")
    assert remaining() == set()


def test_a_name_that_is_not_there_is_refused_before_anything_is_removed(cached, capsys):
    wrong = cached[1][:11] + "x"
    code, out, error = cache(capsys, "rm", cached[0], wrong)
    assert (code, out, error) == (2, "", f"error: {wrong}: no such entry; nearest: {cached[1][:12]}\n")
    assert cache(capsys, "verify", "?")[::2] == (2, "error: ?: no such entry; `thawlab cache ls` lists them\n")
    assert remaining() == set(cached)


def test_a_beginning_that_several_names_share_is_refused(cached, capsys):
    folder = Path("outputs/cache")
    (folder / cached[1]).rename(folder / (cached[0][:23] + ("0" if cached[0][23] != "0" else "1")))
    code, _, error = cache(capsys, "rm", cached[0][:23])
    assert code == 2
    assert error.startswith(f"error: {cached[0][:23]}: several entries begin so: {cached[0][:23]}")


@pytest.mark.parametrize("arguments", [[], ["x", "--all"], ["--all", "--older-than", "3"]], ids=" ".join)
def test_what_is_to_be_removed_is_said_in_one_way(cached, capsys, arguments):
    message = "error: rm: say which entries: NAME …, --all, or --older-than DAYS\n"
    assert cache(capsys, "rm", *arguments) == (2, "", message)
    assert remaining() == set(cached)


def test_a_damaged_entry_is_found_and_removed_only_when_asked(cached, capsys):
    ok = [f"{name}: resnet18, depth {depth}, digits, train: ok" for depth, name in enumerate(cached, 1)]
    assert cache(capsys, "verify") == (0, "\n".join(reversed(ok)) + "\n", "")
    with Path("outputs/cache", cached[1], "0.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    damaged = f"{ok[1].removesuffix('ok')}damaged: 0.npy differs from its checksum in rows 0 to 999 (block 0)\n"
    assert cache(capsys, "verify") == (1, f"{ok[2]}\n{damaged}{ok[0]}\n", "")
    assert cache(capsys, "verify", cached[2]) == (0, f"{ok[2]}\n", "")
    assert cache(capsys, "verify", cached[1]) == (1, damaged, "")
    assert remaining() == set(cached)
    code, out, _ = cache(capsys, "verify", "--remove")
    assert code == 1
    assert out.endswith("1 entry removed, 100.1 kB freed\n")
    assert remaining() == {cached[0], cached[2]}


def test_an_entry_whose_description_is_lost_is_listed_found_and_removed(cached, capsys):
    Path("outputs/cache", cached[0], "meta.json").write_text("{")
    code, out, _ = cache(capsys, "ls")
    assert code == 0
    assert re.search(rf"│ {cached[0][:12]} │ – +│ – +│ – +│ – +│ – +│ +0 │ 100.1 kB │", out)
    assert f"{cached[0]}: unknown: damaged: meta.json is not JSON" in cache(capsys, "verify")[1]
    assert f"removed {cached[0]}: unknown, 100.1 kB" in cache(capsys, "rm", cached[0])[1]


def test_what_is_being_filled_is_mentioned_and_not_removed(cached, capsys):
    store = FeatureStore(Path("outputs/cache"), 10**9)
    with store.writing({"depth": 9}, 1, [Array("0", (), "float32")]) as writer:
        assert cache(capsys, "ls")[1].endswith("3 entries, 300.4 kB; 1 being filled at this moment\n")
        assert cache(capsys, "rm", "--all")[1].endswith("300.4 kB freed; 1 being filled at this moment\n")
        said = "outputs/cache: nothing is cached there; 1 being filled at this moment\n"
        assert cache(capsys, "verify")[1] == said
        writer.write(0, [np.zeros(1, np.float32)])
    assert cache(capsys, "verify")[0] == 0


@pytest.mark.parametrize("arguments", [["ls"], ["verify"], ["rm", "--all"], ["rm", "x"], ["--help"]], ids=" ".join)
def test_nothing_heavy_is_loaded_to_look_into_the_cache(cached, arguments):
    command = [sys.executable, "-c", HEAVY, "cache", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == f"loaded: {2 if 'x' in arguments else 0}", result.stdout + result.stderr


def test_train_py_and_the_command_are_the_same():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"thawlab": "thawlab.cli.main:main"}
    result = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "freez=4"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: freez=4: no such key; nearest: freeze, resume\n"
