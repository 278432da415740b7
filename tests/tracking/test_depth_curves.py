"""The picture of a sweep over depths."""

from pathlib import Path

import numpy as np
from PIL import Image

from thawlab.tracking.depth_curves import depth_curves

ROWS = [{"depth": k, "seed": s, "test/acc": 0.9 - k / 100 + s / 1000} for k in (0, 2, 4) for s in range(3)]
NAMES = ["layer1", "layer2", "layer3", "layer4"]


def colours(path: Path) -> int:
    """Different colours that at least 100 pixels have."""
    counts = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)[1]
    return int((counts >= 100).sum())


def test_a_curve_can_be_drawn_for_one_seed_several_and_a_failed_job(tmp_path):
    depth_curves([*ROWS, {"depth": 4, "seed": 3, "test/acc": np.nan}], tmp_path / "three.png", "freeze", NAMES)
    depth_curves(ROWS[::3], tmp_path / "one.png", "transfer")
    depth_curves(ROWS[:1], tmp_path / "single.png", "freeze", title="resnet18 on digits")
    depth_curves([{"depth": 0, "seed": 0}], tmp_path / "none.png", "freeze")
    assert colours(tmp_path / "three.png") > colours(tmp_path / "one.png") > 2


def test_each_setting_of_what_else_varies_has_a_line_of_its_own(tmp_path):
    depth_curves([{**row, "series": "frozen"} for row in ROWS[::3]], tmp_path / "one.png", "transfer", NAMES)
    two = [{**row, "series": series} for row in ROWS for series in ("frozen", "tuned")]
    two = [{**row, "test/acc": row["test/acc"] - 0.1 * (row["series"] == "tuned")} for row in two]
    depth_curves(two, tmp_path / "two.png", "transfer", NAMES)
    assert colours(tmp_path / "two.png") > colours(tmp_path / "one.png")
