"""The digests of images and weights that the jobs of a sweep would have are those that their runs record."""

import json
import subprocess
import sys
from io import StringIO

import pytest
import torch

from thawlab.backbones.weights import build
from thawlab.config.job import values
from thawlab.config.schema import ConfigError
from thawlab.data.sources.contract import SOURCES
from thawlab.launch import sweep_checks
from thawlab.launch.compose import compose
from thawlab.launch.sweep_inputs import Inputs, InputsNow, weights_key
from thawlab.launch.weights_digests import weights_digests
from thawlab.tracking.run_record import RunRecord


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configs(*jobs: str):
    made = [compose(["backbone=test_vit", *job.split()], "train.py") for job in jobs]
    return [job.config for job in made if job]


def test_images_are_read_once_for_all_jobs_that_share_them(monkeypatch):
    loaded = []
    digits = SOURCES.load("digits")
    monkeypatch.setattr(digits, "load", lambda settings, load=digits.load: loaded.append(1) or load(settings))
    jobs = configs(*(f"backbone.pretrained=false seed={seed} freeze={seed}" for seed in range(3)))
    inputs = InputsNow(dict, "1.2.3")
    found = {inputs.of(each) for each in jobs}
    assert len(loaded) == 1
    (one,) = found
    assert (one.data, one.weights, one.version) == (digits.load(jobs[0].dataset).digest, None, "1.2.3")


def test_images_that_cannot_be_read_are_one_message():
    (job,) = configs("dataset=folder dataset.root=nowhere")
    with pytest.raises(ConfigError, match=r"dataset\.root=nowhere: "):
        InputsNow(dict, "1").of(job)


def test_weights_are_read_once_for_all_jobs_that_load_the_same():
    seeds = configs(*(f"seed={seed} freeze={seed}" for seed in range(3)))
    assert len({weights_key(each) for each in seeds}) == 1
    others = configs("image_size=32", "backbone=test_vit2", "backbone.checkpoint_path=x", "dataset.split_seed=1")
    assert len({weights_key(each) for each in (*seeds, *others)}) == 5
    assert weights_key(configs("backbone.pretrained=false")[0]) is None


def test_the_digest_is_that_of_the_network_of_a_run(tmp_path):
    torch.manual_seed(3)
    model = build("test_vit", 7, pretrained=False, image_size=64).model
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    jobs = configs("backbone.checkpoint_path=weights.pt", "backbone.checkpoint_path=gone.pt")
    run = build("test_vit", 10, pretrained=True, checkpoint_path="weights.pt", image_size=64)  # as digits are
    found, mistakes = weights_digests({str(place): values(each) for place, each in enumerate(jobs)})
    assert found == {"0": run.weights_digest}
    assert mistakes == ["backbone.checkpoint_path=gone.pt: no such file"]


def test_the_process_beside_reads_them_for_a_sweep_that_goes_on(tmp_path, monkeypatch, capsys):
    torch.save(build("test_vit", 2, pretrained=False, image_size=64).model.state_dict(), tmp_path / "weights.pt")
    (job,) = configs("backbone.checkpoint_path=weights.pt")
    assert sweep_checks.begin([job]) == sweep_checks.Checking(None)
    asked = {"networks": [], "weights": {weights_key(job): values(job)}}
    monkeypatch.setattr("sys.stdin", StringIO(json.dumps(asked)))
    sweep_checks.main()
    answer = json.loads(capsys.readouterr().out)
    assert (answer["mistakes"], list(answer["weights"])) == ([], [weights_key(job)])


def test_a_process_beside_that_breaks_down_is_told_where_its_answer_is_needed():
    for needed in (False, True):
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE, text=True)
        checking = sweep_checks.Checking(process, needed)
        if not needed:
            assert checking.finish() == {}
            continue
        with pytest.raises(ConfigError, match=r"resume=true: the pretrained weights could not be read .* exit code 3"):
            checking.finish()


def test_a_run_whose_views_were_stored_by_another_rule_stands_for_no_job():
    tags = {"thawlab_version": "0.1.0", "dataset_digest": "d", "weights_digest": "w"}

    def difference(params):
        return Inputs("d", "w", "0.1.0").difference(RunRecord("a", "", "1", "FINISHED", 0.0, params, {}, tags, ""))

    assert difference({"cache.views": "auto"}) == "cache.views=auto stood for what cache.views=all is now"
    assert difference({"cache.views": "auto", "cache.compute": "float32"}) is None
    assert difference({"cache.views": "2"}) is None
