import os
import socket

import pytest

from thawlab.launch import ranks

NAMES = (*ranks._RANKS, *ranks._OF_SCHEDULERS)


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what a test changes is put back
        monkeypatch.delenv(name)


def given(monkeypatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": "1"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"},
        {"RANK": "one"},
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"},
    ],
)
def test_ranks_that_torchrun_did_not_give_are_forgotten_with_a_note(monkeypatch, capsys, values):
    given(monkeypatch, **values)
    ranks.forget_strangers()
    assert not set(NAMES) & os.environ.keys()
    told = capsys.readouterr().err
    assert told.startswith("note: " + next(f"{name}={value}" for name, value in values.items() if value not in "0"))
    ranks.forget_strangers()
    assert capsys.readouterr().err == ""  # said once


def test_a_single_process_is_not_worth_a_note(monkeypatch, capsys):
    given(monkeypatch, RANK="0", WORLD_SIZE="1", NODE_RANK="0", MASTER_ADDR="127.0.0.1", SLURM_PROCID="3")
    ranks.forget_strangers()
    assert not set(NAMES) & os.environ.keys()
    assert capsys.readouterr().err == ""


def test_variables_of_a_torchrun_that_is_over_do_not_count_and_those_of_one_at_work_do(monkeypatch):
    of_torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "a"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        of_torchrun |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        given(monkeypatch, **of_torchrun, SLURM_PROCID="3")
        ranks.forget_strangers()
        assert of_torchrun.items() <= os.environ.items()
        assert "SLURM_PROCID" not in os.environ
    ranks.forget_strangers()
    assert not set(NAMES) & os.environ.keys()
