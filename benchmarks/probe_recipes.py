"""Recipes of a linear probe on features that are computed once: how each does in testing, and what it costs.

python benchmarks/probe_recipes.py features FILE.npz VIEWS KEY=VALUE …    computes plain features and random views
python benchmarks/probe_recipes.py measure FILE.npz …                     trains on them, keeps what came out
python benchmarks/probe_recipes.py                                        prints the table of docs/linear_probe.md
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from thawlab.backbones.linear_head import as_vectors, note_features
from thawlab.config.small_data import rule_for
from thawlab.data.samplers import TrainSampler, batch_sizes
from thawlab.launch.compose import compose
from thawlab.strategies.phases import Schedule
from thawlab.training.best_epoch import Best, rank
from thawlab.training.logistic import solutions
from thawlab.training.optimizers import create_schedule
from thawlab.training.preparation import prepare
from thawlab.training.strength_choice import best_strength

KEPT = Path(__file__).parent / "results" / "selection" / "probe_recipes.json"
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}
TRAIN_SHARES = (1.0, 0.25, 0.1)
SEEDS = (0, 1, 2)


def features(target: Path, views: int, overrides: list[str]) -> None:
    """Keep what the classifier is given for all images: (N, D), and (views, N, D) with random changes."""
    with tempfile.TemporaryDirectory() as folder:
        job = compose([*overrides, f"hydra.run.dir={folder}/run"], "probe_recipes.py")
    assert job is not None
    prepared = prepare(job.config)
    model = prepared.network.model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found, labels = [], []
    for view in [None, *range(views)]:
        seen: list[Tensor] = []
        hook, vectors, labels = note_features(model, seen), [], []
        for part in ("train", "val", "test"):
            for images, label, _ in prepared.loaders.ordered_batches(getattr(prepared.data, part), view):
                with torch.no_grad():
                    model(images.contiguous(memory_format=torch.channels_last))
                vectors.append(as_vectors(seen.pop(), len(images)).clone())
                labels.append(label)
        hook.remove()
        found.append(torch.cat(vectors).numpy())
    np.savez(target, plain=found[0], views=np.array(found[1:]), labels=torch.cat(labels).numpy())


class Data:
    """Features of a data set, split by a seed; `share` of the training images are used."""

    def __init__(self, path: Path, seed: int, share: float) -> None:
        with np.load(path) as kept:
            labels = torch.from_numpy(kept["labels"]).long()
            plain, views = torch.from_numpy(kept["plain"]), torch.from_numpy(kept["views"])
        self.classes = int(labels.max()) + 1
        places = _split(labels.numpy(), seed, share)
        self.labels = {part: labels[where] for part, where in places.items()}
        self.plain = {part: plain[where] for part, where in places.items()}
        self.views = views[:, places["train"]] if len(views) else None

    def accuracy(self, part: str, head: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Accuracy and loss."""
        logits, labels = F.linear(self.plain[part], *head), self.labels[part]
        return float((logits.argmax(1) == labels).float().mean()), float(F.cross_entropy(logits, labels))


def _split(labels: np.ndarray, seed: int, share: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    places: dict[str, list[int]] = {part: [] for part in SHARES}
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum([round(part * len(mine)) for part in SHARES.values()])
        train, val, test = np.split(mine, ends[:2])
        places["train"] += train[: max(1, round(share * len(train)))].tolist()
        places["val"] += val.tolist()
        places["test"] += test.tolist()
    return {part: np.array(sorted(where)) for part, where in places.items()}


def solved(data: Data) -> float:
    """The default: logistic regression to convergence, C by the rule of runs."""
    found = list(solutions(data.plain["train"], data.labels["train"], STRENGTHS, 1000, data.classes))
    heads = [(each.weight, each.bias) for each in found if each.bias is not None]
    results = [Best(acc, -i, Path(), loss) for i, (acc, loss) in enumerate(data.accuracy("val", h) for h in heads)]
    best = best_strength(_rule(data, solved_for=True), results)
    return data.accuracy("test", heads[best])[0]


def scikit(data: Data) -> float:
    """scikit-learn as one writes it: C by accuracy on the validation images, of equals the smallest."""
    solver, found = LogisticRegression(max_iter=1000, warm_start=True), []
    parts = {part: (data.plain[part].numpy(), data.labels[part].numpy()) for part in SHARES}
    for strength in STRENGTHS:
        solver.set_params(C=strength).fit(*parts["train"])
        found.append((float(solver.score(*parts["val"])), -strength, float(solver.score(*parts["test"]))))
    return max(found)[2]


def steps(epochs: int, views: int | None) -> Callable[[Data], float]:
    """The optimizer and schedule of runs by default; views are used in turn, None = the plain images."""

    def train(data: Data) -> float:
        inputs = data.plain["train"][None] if views is None else data.views[:views]  # type: ignore[index]
        count = inputs.shape[1]
        passes = max(1, -(-150 * 32 // (epochs * count)))
        torch.manual_seed(0)
        head = nn.Linear(inputs.shape[2], data.classes)
        groups = [{"params": [head.weight], "weight_decay": 0.05}, {"params": [head.bias], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=2e-3)
        sampler = TrainSampler(count, 32, 0, passes=passes)
        sizes = batch_sizes(len(sampler), 32)
        schedule = create_schedule(Schedule("cosine", 0.1, 0.0), optimizer, epochs * len(sizes))
        found = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            for keys in torch.tensor(list(sampler)).split(sizes):
                batch = inputs[keys[:, 0] % len(inputs), keys[:, 1]]
                optimizer.zero_grad()
                F.cross_entropy(head(batch), data.labels["train"][keys[:, 1]], label_smoothing=0.1).backward()
                nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            now = (head.weight.detach(), head.bias.detach())
            acc, loss = data.accuracy("val", now)
            found.append((rank(_rule(data), Best(acc, epoch, Path(), loss)), data.accuracy("test", now)[0]))
        return max(found)[1]

    return train


def _rule(data: Data, solved_for: bool = False) -> Any:
    rule = rule_for("auto", len(data.labels["val"]))
    return "loss" if solved_for and rule == "last" else rule


RECIPES: dict[str, Callable[[Data], float]] = {
    "solved for (default)": solved,
    "scikit-learn": scikit,
    "5 epochs, plain": steps(5, None),
    "5 epochs, 2 views": steps(5, 2),
    "5 epochs, 3 views": steps(5, 3),
    "5 epochs, 5 views": steps(5, 5),
    "12 epochs, plain": steps(12, None),
    "12 epochs, 2 views": steps(12, 2),
    "12 epochs, 4 views": steps(12, 4),
    "12 epochs, 6 views": steps(12, 6),
}


def measured(files: list[Path]) -> Iterator[dict[str, Any]]:
    """A row for each data set, share of the training images and recipe: test accuracies over the splits."""
    for path in files:
        for share in TRAIN_SHARES:
            splits = [Data(path, seed, share) for seed in SEEDS]
            for name, recipe in RECIPES.items():
                if "views" in name and (splits[0].views is None or len(splits[0].views) < int(name.split()[2])):
                    continue
                begun = time.process_time()
                accuracies = [recipe(data) for data in splits]
                seconds = (time.process_time() - begun) / len(SEEDS)
                row = {"data": path.stem, "train": len(splits[0].labels["train"]), "recipe": name}
                yield {**row, "test/acc": [round(each, 4) for each in accuracies], "cpu_seconds": round(seconds, 2)}
                print(path.stem, share, name, f"{100 * statistics.fmean(accuracies):.2f}", f"{seconds:.1f}", flush=True)


def tables(rows: list[dict[str, Any]]) -> str:
    """Mean test accuracy in percent, a column for each data set and number of training images."""
    columns = list(dict.fromkeys((row["data"], row["train"]) for row in rows))
    cells = {(row["recipe"], row["data"], row["train"]): 100 * statistics.fmean(row["test/acc"]) for row in rows}
    lines = [
        "| | " + " | ".join(f"{data}, {train}" for data, train in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for recipe in RECIPES:
        values = [cells.get((recipe, *column)) for column in columns]
        lines.append(f"| {recipe} | " + " | ".join("–" if each is None else f"{each:.1f}" for each in values) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """What the module says."""
    torch.set_num_threads(1)
    if arguments[:1] == ["features"]:
        features(Path(arguments[1]), int(arguments[2]), arguments[3:])
        return 0
    if arguments[:1] == ["measure"]:
        rows = list(measured([Path(each) for each in arguments[1:]]))
        KEPT.write_text(json.dumps({"splits": len(SEEDS), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(tables(json.loads(KEPT.read_text(encoding="utf-8"))["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
