import io
import os
import subprocess
import sys
import warnings

import pytest

from thawlab.system import surroundings


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What is set for the whole process, put back afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("PYTHONSAFEPATH", "")


def test_signs_that_a_terminal_lacks_fail_nothing(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    surroundings.prepare()
    print("▶ freeze 4 → depth 2, ±1 … 靴 caf\udce9")
    assert written.getvalue() == b"> freeze 4 -> depth 2, +-1 ... \\u9774 caf\\xe9\n"


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("", "")])
def test_what_the_user_set_for_the_search_of_modules_stays(monkeypatch, before, after):
    monkeypatch.delenv("PYTHONSAFEPATH")
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    surroundings.prepare()
    assert os.environ["PYTHONSAFEPATH"] == after


@pytest.mark.parametrize("asked", ["error", "e", "default,error::DeprecationWarning", "ignore:error message"])
def test_a_warning_of_a_dependency_ends_nothing(monkeypatch, capsys, asked):
    monkeypatch.setenv("PYTHONWARNINGS", asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surroundings.prepare()
        warnings.showwarning = lambda message, *_: print(message)
        warnings.warn("soon to be gone", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().out == "soon to be gone\n"
    now = os.environ["PYTHONWARNINGS"].split(",")
    assert now[0] in ("default", "ignore:error message")
    assert [each for each in now if each.startswith("e")] == []


def test_a_traceback_shows_neither_passwords_nor_orders_to_the_terminal(monkeypatch, capsys):
    surroundings.prepare()
    error = RuntimeError("no answer from http://ann:SECRET@host \x1b[2J")
    sys.excepthook(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: no answer from http://***@host \\x1b[2J\n"


def test_modules_in_the_working_folder_are_not_imported(tmp_path):
    for name in ("argparse", "hydra", "filelock", "thawlab_planted"):
        (tmp_path / f"{name}.py").write_text(f"open('ran_{name}', 'w').close()")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    seen = subprocess.run(
        [sys.executable, "-m", "thawlab", "train", "freze=1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no such key" in seen.stderr
    assert not list(tmp_path.glob("ran_*"))
