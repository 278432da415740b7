import shlex
import shutil
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from thawlab.config.schema import ConfigError
from thawlab.launch.command_line import split
from thawlab.launch.known_keys import known_keys, text_keys
from thawlab.launch.quoting import literal, split_at_commas, typed_literal
from thawlab.launch.typed_words import read

STRANGE = ["my photos (1)", "a=b", "a,b", "a#1", "O'Brien", 'say "a"', "a & b", "a[1]", "a{1}", "a;b", "a!b", "~/x"]
STRANGE += [
    "données 写真",
    "C:\\photos",
    "a\\",
    "\\",
    "a$b",
    "${x}",
    "a`b",
    "<x>",
    "%",
    "x  y",
    "'",
    '"',
    "=",
    "tab\tx",
]
NUMBERS = ["2024", "007", "1e5", "12e4567", "-1", ".5", "1_000", "nan", "inf", "true", "[x]", "{a: 1}", "photos(1)"]


def refused(*arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(arguments)
    return str(caught.value)


def as_hydra_takes(key: str, word: str) -> object:
    """The value that a key has after Hydra and OmegaConf have read the setting."""
    found = OverridesParser.create().parse_override(word)
    assert found.key_or_group == key
    value = found.value()
    return OmegaConf.to_container(OmegaConf.create({"value": getattr(value, "text", value)}), resolve=True)["value"]


@pytest.mark.parametrize("text", [*STRANGE, *NUMBERS, "null", "on"])
def test_text_in_quotes_is_that_text_to_hydra(text):
    assert as_hydra_takes("dataset.root", f"dataset.root={literal(text)}") == text


@pytest.mark.parametrize("text", [each for each in [*STRANGE, *NUMBERS] if each not in ("a,b", "=", "${x}")])
def test_a_key_that_takes_text_gets_what_was_typed(text):
    (word,) = read([f"dataset.root={text}"])
    assert as_hydra_takes("dataset.root", word) == text


@pytest.mark.parametrize("text", STRANGE)
def test_what_a_message_says_to_type_is_that_text_in_a_shell(text):
    typed = typed_literal("dataset.root", text)
    for shell in filter(shutil.which, ("bash", "zsh")):
        shown = subprocess.run([shell, "-c", f"printf %s {typed}"], capture_output=True, text=True, check=True).stdout
        assert as_hydra_takes("dataset.root", shown) == text


def test_words_of_hydra_stay_its_own_where_a_key_takes_them():
    assert read(["resume=true", "experiment_name=null"]) == ["resume=true", "experiment_name=null"]
    assert read(["-m", "dataset.root=a#1,b c(2)", "seed=range(0,3)"]) == [
        "-m",
        "dataset.root='a#1','b c(2)'",
        "seed=range(0,3)",
    ]
    assert read(["freeze=blocks.3", "dataset.root=${oc.env:HOME}/x"]) == [
        "freeze=blocks.3",
        "dataset.root=${oc.env:HOME}/x",
    ]


def test_options_may_stand_anywhere():
    assert read(["freeze=0", "-m", "seed=0,1", "--cfg", "job"]) == ["-m", "--cfg", "job", "freeze=0", "seed=0,1"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("freeze==4", "freeze==4: one = is enough: freeze=4"),
        ("freeze 4", "freeze 4: write it with a = and without blanks: freeze=4"),
        ("freeze = 4", "freeze = 4: write it without blanks: freeze=4"),
        ("freeze= 4", "freeze= 4: write it without blanks: freeze=4"),
        ("freeze =4", "freeze =4: write it without blanks: freeze=4"),
        ("'freeze = 4'", "freeze = 4: write it without blanks: freeze=4"),
        ("freeze:4", "freeze:4: a setting is written with a =: freeze=4"),
        ("freeze: 4", "freeze: 4: a setting is written with a =: freeze=4"),
        ("--freeze 4", "--freeze 4: a setting is written without dashes and with a =: freeze=4"),
        ("--freeze=4", "--freeze=4: a setting is written without dashes: freeze=4"),
        ("-freeze=4", "-freeze=4: a setting is written without dashes: freeze=4"),
        ("--image-size 64", "--image-size 64: a setting is written without dashes and with a =: image_size=64"),
        ("-cache=off", "-cache=off: a setting is written without dashes: cache=off"),
        ("--resume", "--resume: a setting is written without dashes: resume=…"),
        ("--cfg", "--cfg: use --cfg job or hydra or all"),
        ("-m", "-m: a sweep needs values to go through, such as: -m freeze=0,2,4 seed=0,1"),
        ("freeze", "freeze: has no value; give one as freeze=…"),
        ("freeze=", "freeze=: nothing stands after the =; give a value, freeze=…, or leave it out"),
        ("-m freeze=", "freeze=: nothing stands after the =; give a value, freeze=…, or leave it out"),
        ("backbone=", "backbone=: nothing stands after the =; give a value, backbone=…, or leave it out"),
        ("+freeze=4", "+freeze=4: no + is needed: freeze=4"),
        ("'~freeze'", "~freeze: a setting cannot be taken away; give it another value, freeze=…"),
        ("seed=0, 1, 2", "seed=0, 1, 2: write it without blanks: seed=0,1,2"),
        (
            "optimizer.lr=[1e-3, 1e-2]",
            "optimizer.lr=[1e-3, 1e-2]: write it without blanks: 'optimizer.lr=[1e-3,1e-2]'",
        ),
        (
            "dataset.root=my photos",
            "photos: expected KEY=VALUE, such as freeze=4; if it belongs to dataset.root=my, put quotes around both: "
            "'dataset.root=my photos'",
        ),
        ("freeze=0,4", "freeze=0,4: several values need a sweep: python train.py -m freeze=0,4; a decimal point is a "
         "point: freeze=0.4"),
        (
            "dataset.root=a,b",
            "dataset.root=a,b: several values need a sweep: python train.py -m dataset.root=a,b; if it belongs to the "
            "text, quote it: 'dataset.root=\"a,b\"'",
        ),
        ("-m seed=0,1 seed=2,3", "seed=0,1 seed=2,3: seed is given twice, and Hydra would use the last alone; write it "
         "once, such as seed=0,1,2,3"),
        (
            "dataset=my/photos",
            "dataset=my/photos: no such dataset; for your images: dataset=folder dataset.root=my/photos",
        ),
        (
            "backbone=mine.pth",
            "backbone=mine.pth: a backbone is named as timm does; for weights of yours: backbone=NAME "
            "backbone.checkpoint_path=mine.pth",
        ),
    ],
)  # fmt: skip
def test_a_slip_is_answered_by_what_to_type(typed, message):
    assert refused(*shlex.split(typed)) == message


@pytest.mark.parametrize(
    ("typed", "column", "told"),
    [
        ("freeze=0,1,", 11, "nothing stands after the comma: freeze=0,1"),
        ("freeze=0,,1", 9, "nothing stands before a comma: freeze=0,1"),
        ("freeze=(4)", 7, "write freeze=4"),
        ("epochs=5;", 8, "write epochs=5"),
        ("optimizer.lr=[1e-3", 18, "a [ is not closed: 'optimizer.lr=[1e-3]'"),
        ('freeze="4', 7, "a quote is not closed"),
        ("optimizer=adamw(lr=1)", 10, "there is no function adamw; a sweep can have choice(), range() and glob()"),
        ("freeze=4 seed=1", 13, "each setting is an argument of its own: freeze=4 seed=1"),
        (".freeze=4", 0, "this is no key; keys are words with dots between them, such as optimizer.lr=1e-3"),
    ],
)
def test_what_cannot_be_read_is_marked(typed, column, told):
    assert refused(typed) == f"{typed}: cannot be read from the mark on: {told}\n{typed}\n{' ' * column}^"


def test_all_slips_are_told_at_once():
    assert refused("freeze==4", "seed=", "epochs=3").splitlines() == [
        "freeze==4: one = is enough: freeze=4",
        "seed=: nothing stands after the =; give a value, seed=…, or leave it out",
    ]


def test_a_value_that_is_swept_twice_is_trained_once_and_told(capsys):
    assert read(["-m", "seed=0,1,0", "optimizer.lr=1e-3,0.001"]) == ["-m", "seed=0,1", "optimizer.lr=1e-3"]
    assert capsys.readouterr().err.splitlines() == [
        "note: seed=0,1,0: 0 is there twice, and is trained once",
        "note: optimizer.lr=1e-3,0.001: 0.001 is there twice, and is trained once",
    ]
    assert refused("-m", "seed=choice(0,0)") == "seed=choice(0,0): 0 is there twice; name each value once"


def test_of_a_key_that_is_given_twice_the_last_counts_and_that_is_told(capsys):
    assert read(["seed=1", "freeze=2", "seed=2"]) == ["seed=2", "freeze=2"]
    assert capsys.readouterr().err == "note: seed is given twice; the last counts: seed=2\n"


def test_values_are_split_at_commas_outside_of_quotes_and_brackets():
    assert split_at_commas("a, 'b,c',[d,e],f(g,h),O'Brien,i\\,j") == [
        "a", "'b,c'", "[d,e]", "f(g,h)", "O'Brien", "i\\,j",
    ]  # fmt: skip


def test_keys_that_take_text_are_those_that_take_no_number():
    assert {"dataset.root", "tracking.uri", "experiment_name", "resume"} <= text_keys().keys()
    assert not {"freeze", "seed", "optimizer.lr", "bn"} & text_keys().keys()


def test_the_words_of_a_command_line_are_options_and_settings():
    words = split(["-m", "--config-dir", "own", "freeze=0,1", "~optimizer.options.momentum"], known_keys)
    assert words.options == ("-m", "--config-dir", "own")
    assert words.settings == ("freeze=0,1", "~optimizer.options.momentum")
    assert words.multirun


def test_a_setting_of_a_repeated_run_is_text_where_its_key_takes_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from thawlab.cli import rerun
    from thawlab.config.job import values
    from thawlab.launch.compose import compose

    job = compose(["dataset=folder", "dataset.root=photos"], "train.py")
    assert job is not None
    changes = {"dataset.root": "12e4", "experiment_name": "null", "optimizer.lr": "1e-2", "tracking.root": "a${b}"}
    config = rerun._parse("ID", values(job.config), changes)
    assert (getattr(config.dataset, "root"), config.experiment_name) == ("12e4", None)  # noqa: B009
    assert (config.optimizer.lr, config.tracking.root) == (0.01, "a${b}")
