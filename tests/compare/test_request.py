"""What `thawlab compare` is asked for, as it is typed."""

import subprocess
import sys

import pytest

from thawlab.compare.select.request import Request, parse
from thawlab.config.schema import ConfigError

RUN = "b55a9c9fa0e6408a85d03d4001ab0d44"


def test_without_a_word_the_latest_sweep_is_compared():
    assert parse([]) == Request(sweep="latest")
    assert parse(["metric=test/f1_macro"]) == Request(sweep="latest", metric="test/f1_macro", log=False)


def test_only_the_whole_sweep_as_it_is_goes_to_its_parent_run_by_itself():
    assert all(parse(typed).log for typed in ([], ["sweep=abc"], ["by=[freeze]", "log=true"]))
    assert not any(parse([typed]).log for typed in ("by=[freeze]", "filter=a", "baseline=freeze=0", "metric=test/ece"))


def test_everything_can_be_said_in_one_line():
    typed = [
        f"runs=[{RUN}, abc]", "filter=params.freeze = '4'", "by=[freeze,backbone.name]", "metric=test/loss",
        "baseline=freeze=0,optimizer.lr=0.01", "uri=http://host:5000", "out=report",
        "log=false",
    ]  # fmt: skip
    assert parse(typed) == Request(
        runs=(RUN, "abc"),
        filter="params.freeze = '4'",
        by=("freeze", "backbone.name"),
        metric="test/loss",
        baseline={"freeze": "0", "optimizer.lr": "0.01"},
        uri="http://host:5000",
        out="report",
        log=False,
    )


def test_a_filter_alone_is_asked_of_the_whole_store():
    assert parse(["filter=metrics.`test/acc` > 0.8"]) == Request(filter="metrics.`test/acc` > 0.8", log=False)


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        ("freeze=0", {"freeze": "0"}),
        ("strategy.name=scratch", {"strategy.name": "scratch"}),
        ("freeze=0 optimizer.lr=0.01", {"freeze": "0", "optimizer.lr": "0.01"}),
        ("[freeze=0, optimizer.lr=0.01]", {"freeze": "0", "optimizer.lr": "0.01"}),
        (
            "optimizer.options={betas: [0.9, 0.95]},freeze=1",
            {"optimizer.options": "{betas: [0.9, 0.95]}", "freeze": "1"},
        ),
    ],
)
def test_a_baseline_is_named_by_its_settings(typed, settings):
    request = parse([f"baseline={typed}"])
    assert (request.baseline, request.baseline_run) == (settings, None)


def test_two_stores_are_one_too_many():
    with pytest.raises(ConfigError, match=r"^root=here uri=http://host:5000: each of these names a store; use one$"):
        parse(["root=here", "uri=http://host:5000"])


def test_a_baseline_is_named_by_one_of_its_runs():
    assert parse([f"baseline={RUN}"]) == Request(sweep="latest", baseline_run=RUN, log=False)


def test_all_mistakes_are_told_at_once():
    typed = ["swep=latest", "latest", "sweep=a", "experiment=b", "by=[freeze", "runs=[,]", "log=yes"]
    with pytest.raises(ConfigError) as error:
        parse([*typed, "baseline=nothing", "metric="])
    assert str(error.value).splitlines() == [
        "swep=latest: there is no setting swep; did you mean sweep=latest? there are sweep, experiment, runs, filter, "
        "by, metric, baseline, root, uri, out, log",
        "latest: expected key=value, for instance sweep=latest",
        "by=[freeze: expected a list; write by=[freeze,backbone.name]",
        "runs=[,]: expected a list; write runs=[ID,ID]",
        "log=yes: expected true or false; use log=true or log=false",
        "baseline=nothing: expected settings of one configuration or a run's id; write baseline=freeze=0, "
        "baseline=freeze=0,optimizer.lr=0.01 or baseline=RUN_ID",
        "metric=: nothing was given; give a value or leave metric out",
        "sweep=a experiment=b runs=[,]: each of these chooses the runs on its own; use one, and filter=… to "
        "restrict it",
    ]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["sweep=a", "sweep=b"], "sweep=b: sweep was given twice; leave out sweep=a or sweep=b"),
        (["by=[seed]"], "by=[seed]: runs that differ in their seed are what is averaged; leave seed out"),
        (["by=[freeze,freeze]"], "by=[freeze,freeze]: freeze stands there twice; name each once"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed, message):
    with pytest.raises(ConfigError) as error:
        parse(typed)
    assert str(error.value) == message


def test_reading_a_request_loads_nothing_heavy():
    program = (
        "import sys, thawlab.compare.select.request; "
        "print([n for n in ('torch', 'mlflow', 'pandas') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
