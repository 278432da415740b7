import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import thawlab
from thawlab.api import results, training
from thawlab.launch import typed_words

ENDED = {"run_id": "a" * 32, "metrics": {"test/acc": 0.5}, "folder": "outputs/1", "config": {}, "parent_id": None}
FINISHED = {**ENDED, "status": "FINISHED", "overrides": ["freeze=4"], "error": None}
FAILED = {**ENDED, "status": "FAILED", "overrides": [], "error": "RuntimeError: the disk is full"}


def test_importing_thawlab_loads_next_to_nothing() -> None:
    program = "import sys, thawlab; thawlab.train; thawlab.Result; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "mlflow", "pandas", "numpy", "hydra", "rich", "pytorch_lightning", "timm"} & set(loaded)


def test_compare_is_the_function_whether_or_not_the_package_of_its_name_is_loaded() -> None:
    from thawlab.compare.comparison import Comparison

    assert Comparison.__module__ == "thawlab.compare.comparison"
    assert thawlab.compare.__module__ == "thawlab.api.comparing"


def test_what_a_command_refuses_is_raised_and_nothing_else_is_said(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(thawlab.ConfigError) as refused:
        thawlab.train("epochs=0", seed=-1)
    assert str(refused.value).splitlines() == [
        "epochs=0: use a value greater than or equal to 1",
        "seed=-1: use a value greater than or equal to 0",
    ]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (4, "key=4"),
        (0.001, "key=0.001"),
        (True, "key=true"),
        (None, "key=null"),
        ("resnet50.a1_in1k", "key=resnet50.a1_in1k"),
        (Path("/photos/2024"), "key=/photos/2024"),
        ("a=b, c (1)", "key='a=b, c (1)'"),
        ("2024", "key='2024'"),
        ("null", "key='null'"),
        ("it's", 'key="it\'s"'),
        ("${HOME}", "key='\\${HOME}'"),
        ([1e-3, "a,b", None], "key=[0.001,'a,b',null]"),
        ({"betas": (0.9, 0.95)}, "key={betas:[0.9,0.95]}"),
    ],
)
def test_a_value_is_written_so_that_it_is_read_as_it_is(value, word) -> None:
    assert training._words({"key": value}, {}) == [word]


def test_a_text_is_no_list_of_values_to_go_through_and_a_sweep_has_them_by_key() -> None:
    words = training._words({"dataset": "folder", "dataset.root": "a,b"}, {"freeze": [0, "all"], "seed": range(2)})
    assert typed_words.read(["-m", *words]) == [
        "-m",
        "dataset=folder",
        "dataset.root='a,b'",
        "freeze=0,all",
        "seed=0,1",
    ]


def test_what_cannot_be_a_setting_is_refused() -> None:
    with pytest.raises(thawlab.ConfigError, match="a setting cannot be of the type object"):
        thawlab.train(freeze=object())


def test_a_run_is_a_result_and_several_are_a_list() -> None:
    result = results.results_of(0, {"store": "sqlite://", "runs": [FINISHED]})
    assert isinstance(result, thawlab.Result)
    assert (result.run_id, result.folder, result.overrides) == ("a" * 32, Path("outputs/1"), ("freeze=4",))
    assert repr(result) == f"<Result {'a' * 32}: FINISHED, test/acc=0.5000; freeze=4>"
    several = results.results_of(1, {"store": "sqlite://", "runs": [FINISHED, FAILED], "parent_id": "p"})
    assert isinstance(several, thawlab.Results)
    assert (several.parent_id, [run.status for run in several]) == ("p", ["FINISHED", "FAILED"])
    assert several.frame()[["status", "freeze", "test/acc"]].values.tolist()[0] == ["FINISHED", "4", 0.5]


@pytest.mark.parametrize(
    ("code", "told", "message"),
    [
        (1, {"store": "", "runs": [FAILED]}, "RuntimeError: the disk is full"),
        (
            1,
            {"store": "", "runs": [FAILED], "error": "DivergedError", "message": "use a smaller lr"},
            "use a smaller lr",
        ),
        (137, {}, "it was ended by signal 9 before it was recorded"),
    ],
)
def test_a_run_that_fails_raises_why(code, told, message) -> None:
    with pytest.raises(thawlab.RunError) as failed:
        results.results_of(code, told)
    assert str(failed.value) == message
    assert [run.run_id for run in failed.value.results] == [run["run_id"] for run in told.get("runs", ())]


def test_an_interrupt_ends_the_training_and_leaves_the_caller_as_it_was(tmp_path, monkeypatch) -> None:
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\ntrap 'touch {tmp_path}/interrupted; exit 130' INT TERM\nsleep 60 & wait\n")
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    before = signal.getsignal(signal.SIGINT)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        thawlab.train()
    assert (tmp_path / "interrupted").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_training_says_goes_to_where_print_does(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with training._output() as (output, environment):
        assert output is not None
        subprocess.run(["echo", "epoch 1/5"], stdout=output, check=True)
    assert capsys.readouterr().out == "epoch 1/5\n"
    assert "FORCE_COLOR" not in environment
