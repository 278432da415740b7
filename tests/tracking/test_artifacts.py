import re

import numpy as np
import pandas as pd
import pytest

from thawlab.tracking.artifacts import environment
from thawlab.tracking.prediction_files import write_predictions


def test_predictions_are_a_table_of_names_and_one_probability_a_class(tmp_path):
    path = tmp_path / "predictions/test.parquet"
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    write_predictions(path, [0, 1, 2], ["a.png", "b.png", "c.png"], [0, 1, 1], probabilities, ["cat", "dog"])
    expected = pd.DataFrame(
        {
            "id": [0, 1, 2],
            "path": ["a.png", "b.png", "c.png"],
            "label": ["cat", "dog", "dog"],
            "predicted": ["cat", "cat", "dog"],
            "p/cat": np.float32([0.75, 0.5, 0.125]),
            "p/dog": np.float32([0.25, 0.5, 0.875]),
        }
    )
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected)
    paths = ["a.png", "b.png", "c.png"]
    write_predictions(path, [0, 1, 2], paths, [0, 1, 1], probabilities, ["cat", "dog"], ["0a", "1b", "2c"])
    assert pd.read_parquet(path)["hash"].tolist() == ["0a", "1b", "2c"]


def test_predictions_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape("probabilities (2, 2), 1 ids, 1 paths, 1 labels and 2 classes")):
        write_predictions(tmp_path / "x.parquet", [0], ["a"], [0], np.ones((2, 2)), ["cat", "dog"])


def test_the_environment_names_versions_and_nothing_of_where_they_came_from(tmp_path):
    environment(tmp_path / "environment/requirements.txt")
    header, *lines = (tmp_path / "environment/requirements.txt").read_text().splitlines()
    assert re.fullmatch(r"# Python 3\.\d+\.\d+\S* on \S+", header)
    assert all(re.fullmatch(r"[\w.\-]+==[\w.+!\-]+", line) for line in lines)
    assert {"mlflow", "torch", "thawlab"} <= {line.split("==")[0] for line in lines}
