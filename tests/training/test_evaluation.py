"""Test metrics against scikit-learn's, and that every sample is counted once."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

import thawlab  # noqa: F401  (its import hook lets torchmetrics import torchvision)

# isort: split
import torch.distributed as dist

from thawlab.training import evaluation


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Share-weighted gap between confidence and accuracy in bins of equal width (Guo et al. 2017)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0.0
    for low, high in zip(np.linspace(0, 1, bins + 1)[:-1], np.linspace(0, 1, bins + 1)[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def literal(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    classes, predicted, probabilities = logits.shape[1], logits.argmax(1), softmax(logits.astype(np.float64))
    metrics = {
        "test/acc": accuracy_score(labels, predicted),
        "test/balanced_acc": balanced_accuracy_score(labels, predicted),
        "test/f1_macro": f1_score(labels, predicted, average="macro"),
        "test/loss": log_loss(labels, probabilities, labels=range(classes)),
        "test/ece": calibration_error(probabilities, labels),
    }
    if classes > 5:
        metrics["test/acc_top5"] = top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes))
    return metrics


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("present", ["all", "some", "one"])
@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10])
def test_metrics_are_those_of_scikit_learn(classes, present):
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, {"all": classes, "some": max(classes // 2, 1), "one": 1}[present], 200)
    hints = 2 * np.eye(classes)[labels] * (rng.random((200, 1)) < 0.7)
    logits = (rng.normal(size=(200, classes)) + hints).astype(np.float32)
    assert evaluation.compute_test_metrics(logits, labels) == pytest.approx(literal(logits, labels), abs=1e-5)


def test_metrics_of_a_hand_made_case():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], dtype=np.float32))
    metrics = evaluation.compute_test_metrics(logits, np.array([0, 1, 1, 1]))
    assert metrics == pytest.approx(
        {
            "test/acc": 2 / 4,
            "test/balanced_acc": (1 + 1 / 3) / 2,  # class 2 does not occur
            "test/f1_macro": (2 / 3 + 2 / 4 + 0) / 3,  # class 2 was predicted, wrongly
            "test/loss": -np.log([0.7, 0.3, 0.8, 0.2]).mean(),
            "test/ece": (0.3 + 0.6 + 0.2 + 0.6) / 4,  # 0.7 and 0.8 in bins of their own, 0.6 twice in one: |0/2 - 0.6|
        },
        abs=1e-6,
    )


def batch(*positions: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(positions), np.array([[position, position + 0.5] for position in positions], dtype=np.float32)


def test_gathering_sorts_the_samples():
    assert evaluation.gather([batch(2, 0), batch(3), batch(1, 4)], 5)[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("parts", "size", "message"),
    [
        ([batch(0, 1), batch(1, 2)], 3, "tested 4 samples, 3 of them different; the split has 3"),
        ([batch(0, 1)], 3, "tested 2 samples, 2 of them different; the split has 3"),
        ([batch(0, 1), batch(1)], 3, "tested 3 samples, 2 of them different; the split has 3"),
        ([batch(0, 1, 3)], 3, "tested 3 samples, 3 of them different; the split has 3"),
        ([batch(0, 1, 2)], 2, "tested 3 samples, 3 of them different; the split has 2"),
    ],
)
def test_gathering_refuses_samples_that_were_tested_twice_or_never(parts, size, message):
    with pytest.raises(RuntimeError, match=message):
        evaluation.gather(parts, size)


def gather_in(rank: int, file: Path, parts: dict[int, list], answers) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    try:
        answers.put((rank, evaluation.gather(parts[rank], 5)[:, 0].tolist()))
    except RuntimeError as error:
        answers.put((rank, str(error)))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("second", "answer"),
    [
        ([batch(1, 4)], [0.0, 1.0, 2.0, 3.0, 4.0]),
        (
            [batch(1, 4), batch(0)],
            "tested 6 samples, 5 of them different; the split has 5",
        ),  # padded, as Lightning would
    ],
)
def test_two_processes_gather_all_samples_once(second, answer, tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    parts = {0: [batch(2, 0), batch(3)], 1: second}
    processes = [context.Process(target=gather_in, args=(rank, tmp_path / "store", parts, answers)) for rank in (0, 1)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=60) for _ in processes) == [(0, answer), (1, answer)]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
