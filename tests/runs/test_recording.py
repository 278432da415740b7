from types import SimpleNamespace

import numpy as np
import pytest

from thawlab.runs import recording


@pytest.mark.parametrize("what", ["learning_curves", "confusion_matrix"])
def test_a_picture_that_cannot_be_drawn_costs_a_run_none_of_its_numbers(tmp_path, monkeypatch, capsys, what):
    def fail(*_):
        raise ValueError("no such font")

    monkeypatch.setattr(recording.plots, what, fail)
    kept, files = {}, []
    tracker = SimpleNamespace(
        id="0" * 32, log_metrics=kept.update, log_artifact=lambda path, folder: files.append((path.name, folder))
    )
    data = SimpleNamespace(
        test=SimpleNamespace(ids=["a", "b"], paths=["", ""], labels=np.array([0, 1]), hashes=["x", "y"]),
        classes=["$x_{", "葉"],
    )
    prepared = SimpleNamespace(data=data)
    job = SimpleNamespace(output_dir=tmp_path, config=SimpleNamespace(tracking=SimpleNamespace(checkpoint=False)))
    metrics = {"test/acc": 0.5, "best/epoch": 0.0}
    recording.keep_predictions(prepared, tracker, np.eye(2, dtype=np.float32), tmp_path)
    recording.keep_result(job, prepared, tracker, metrics, [{"epoch": 0, "val/acc": 0.5, "val/loss": 1.0}])
    assert kept == metrics
    assert (tmp_path / "result.json").is_file()
    assert files == [("test.parquet", "predictions"), ("plots", "plots")]
    assert len(list((tmp_path / "plots").iterdir())) == 1
    assert "is left out: it could not be made (no such font)" in capsys.readouterr().out
