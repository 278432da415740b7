"""The test images that one configuration gets right and another wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from thawlab.compare.comparison import Disagreement
from thawlab.metrics import Predictions

if TYPE_CHECKING:
    from thawlab.compare.select.aligned_predictions import PredictionSet

_LEAST = 0.5  # share of runs right in one, minus share right in the other
_OTHERS = 8  # configurations that the best is held against
_SHOWN = 6  # images for each of them and each direction


def disagreements(
    configurations: Sequence[Sequence[Predictions]],
    tested: "PredictionSet",
    best: int,
) -> tuple[Disagreement, ...]:
    """Where the best and each of some others differ most, in both directions.

    Args:
        configurations: of each, the predictions of its runs.
        tested: the test samples and their classes.
        best: place of the configuration that the others are held against.
    """
    labels = configurations[0][0].labels
    rights = [np.mean([run.predicted == labels for run in runs], axis=0) for runs in configurations]  # (N,) each
    found = []
    for other in [place for place in range(len(rights)) if place != best][:_OTHERS]:
        for right, wrong in ((best, other), (other, best)):
            margin = rights[right] - rights[wrong]
            order = np.argsort(-margin, kind="stable")[:_SHOWN]
            for sample in map(int, order[margin[order] >= _LEAST]):
                said = [int(run.predicted[sample]) for run in configurations[wrong]]
                errors = [each for each in said if each != labels[sample]]
                found.append(
                    Disagreement(
                        right=right,
                        wrong=wrong,
                        path=tested.paths[sample],
                        hash=tested.hashes[sample],
                        sample=tested.ids[sample],
                        label=tested.classes[int(labels[sample])],
                        predicted=tested.classes[max(set(errors), key=errors.count)],
                        margin=float(margin[sample]),
                    )
                )
    return tuple(found)
