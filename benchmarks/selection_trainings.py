"""Trainings on a few images a class, with what each epoch's network says of validation and test images.

Needs torch and timm alone, so that it runs where the project is not installed. The recipe is that of the defaults:
EfficientNet-Lite0 with ImageNet weights, AdamW, cosine, label smoothing, random crops and mirror images. How an epoch
is chosen does not change a training, so that all rules are weighed on the same ones; validation images are many more
than the tool would have, and the rules see parts of them. Several seeds are trained side by side.
"""

import argparse
import json
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

with suppress(ImportError):
    import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import timm
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from selection_images import load, names

EPOCHS, BATCH = 5, 32
SIZES = (5, 10, 20, 50)  # training and validation images a class, of which the tool would split off a tenth
STEPS = (0, 50, 100, 200, 400)  # at least so many in all; 0 = one pass an epoch
FREEZES = ("0", "4", "all")
VALIDATION = (1, 2, 5, 10, 20, 30)  # images a class that a rule sees
TEST = 60  # images a class
LR, BACKBONE, DECAY, SMOOTHING, WARMUP, CLIP = 2e-3, 0.5, 0.05, 0.1, 0.1, 1.0


@dataclass(frozen=True)
class Cell:
    """What seeds have in common: data set, number of classes, images a class, freeze depth."""

    data: str
    classes: int
    images: int
    freeze: str


class Group:
    """Networks of several seeds, one beside the other; on a GPU each step of each is a graph on a stream of its own."""

    def __init__(self, cell: Cell, seeds: int, weights: Path, archive: Path, device: str) -> None:
        self.cell, self.device = cell, torch.device(device)
        images, labels = load(archive, cell.data)
        self.side = 64 if cell.data == "digits" else 96
        self.parts = [_parts(labels, cell, seed) for seed in range(seeds)]
        self.images = torch.from_numpy(images).to(self.device)
        state = torch.load(weights, map_location="cpu", weights_only=True)
        self.models = [_network(state, cell, seed).to(self.device) for seed in range(seeds)]
        self.start = [{name: value.clone() for name, value in each.state_dict().items()} for each in self.models]
        self.rates = [torch.tensor(0.0, device=self.device) for _ in range(2)]  # of the backbone, of the head
        self.optimizers = [_optimizer(each, self.rates, self.device) for each in self.models]
        self.inputs = torch.zeros(seeds, BATCH, 3, self.side, self.side, device=self.device)
        self.targets = torch.zeros(seeds, BATCH, dtype=torch.long, device=self.device)
        self.steps: dict[int, list[Any]] = {}
        self.streams = [torch.cuda.Stream() for _ in self.models] if device == "cuda" else []
        evaluated = len(self.parts[0]["val"]) + len(self.parts[0]["test"])
        self.seen = torch.zeros(evaluated, 3, self.side, self.side, device=self.device)
        # One after the other: they can share their memory.
        pool = torch.cuda.graph_pool_handle() if device == "cuda" else None
        self.evaluations = [self._captured(lambda m=each: self._logits(m), pool=pool) for each in self.models]

    def train(self, passes: int) -> np.ndarray:
        """Logits (epochs, seeds, validation and test images, classes) after each epoch of so many passes."""
        self._reset()
        bounds = _bounds(len(self.parts[0]["train"]), passes)
        total, taken, found = EPOCHS * len(bounds), 0, []
        rng = np.random.default_rng(passes)
        for _ in range(EPOCHS):
            orders = [[rng.permutation(part["train"]) for _ in range(passes)] for part in self.parts]
            order = np.stack([np.concatenate(each) for each in orders])  # (seeds, images of all passes)
            chosen = torch.from_numpy(order).to(self.device)
            labels = torch.from_numpy(np.stack([p["labels"][o] for p, o in zip(self.parts, order, strict=True)]))
            labels = labels.to(self.device)
            for start, stop in bounds:
                self._rate(taken, total)
                self._fill(chosen[:, start:stop], rng)
                self.targets[:, : stop - start].copy_(labels[:, start:stop])
                self._step(stop - start)
                taken += 1
            found.append(self._evaluated())
        return np.stack(found)

    def _reset(self) -> None:
        for model, start, optimizer in zip(self.models, self.start, self.optimizers, strict=True):
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    value.copy_(start[name])
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def _rate(self, step: int, total: int) -> None:
        rising = round(WARMUP * total)
        share = min((step - rising) / max(total - rising, 1), 1.0)
        factor = (step + 1) / (rising + 1) if step < rising else 0.5 * (1 + math.cos(math.pi * share))
        for rate, scale in zip(self.rates, (BACKBONE, 1.0), strict=True):
            rate.fill_(LR * scale * factor)

    def _fill(self, positions: Tensor, rng: np.random.Generator) -> None:
        """Random crops of half the area or more, mirrored where that keeps the label."""
        flat = positions.flatten()
        count, side = len(flat), self.images.shape[1]
        area, ratio = rng.uniform(0.5, 1, count), np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), count))
        width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
        left, top = (rng.uniform(-1, 1, count) * (1 - each) for each in (width, height))
        mirrored = np.where(rng.random(count) < (0.0 if self.cell.data == "digits" else 0.5), -1, 1)
        zero = np.zeros(count)
        theta = np.stack([np.stack([width * mirrored, zero, left], 1), np.stack([zero, height, top], 1)], 1)
        boxes = torch.from_numpy(theta.astype(np.float32)).to(self.device)
        grid = F.affine_grid(boxes, [count, 3, self.side, self.side], align_corners=False)
        assert side >= self.side
        crops = F.grid_sample(_normalised(self.images[flat]), grid, padding_mode="reflection", align_corners=False)
        self.inputs[:, : positions.shape[1]].copy_(crops.view(*positions.shape, *crops.shape[1:]))

    def _step(self, size: int) -> None:
        if size not in self.steps:
            pairs = enumerate(zip(self.models, self.optimizers, strict=True))
            self.steps[size] = [
                self._captured(lambda k=k, m=model, o=optimizer: self._descend(k, m, o, size), optimizer)
                for k, (model, optimizer) in pairs
            ]
        main = torch.cuda.current_stream() if self.streams else None
        for number, step in enumerate(self.steps[size]):
            if main is None:
                step()
                continue
            self.streams[number].wait_stream(main)
            with torch.cuda.stream(self.streams[number]):
                step()
        for stream in self.streams:
            assert main is not None
            main.wait_stream(stream)

    def _descend(self, number: int, model: nn.Module, optimizer: torch.optim.Optimizer, size: int) -> None:
        _modes(model, self.cell.freeze)
        images = self.inputs[number, :size].contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(images), self.targets[number, :size], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], CLIP)
        optimizer.step()

    def _captured(self, act: Any, optimizer: torch.optim.Optimizer | None = None, pool: Any = None) -> Any:
        """The act as a graph on a GPU; what it returns stays in one place. It is done a few times before."""
        if self.device.type != "cuda":
            return act
        saved = None
        if optimizer is not None:  # what the rehearsal moves is put back
            place = self.optimizers.index(optimizer)
            saved = {name: value.clone() for name, value in self.models[place].state_dict().items()}
            kept = {p: {n: v.clone() for n, v in state.items()} for p, state in optimizer.state.items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                act()
        torch.cuda.current_stream().wait_stream(side)
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        graph, out = torch.cuda.CUDAGraph(), None
        with torch.cuda.graph(graph, pool=pool):
            out = act()
        if optimizer is not None and saved is not None:
            with torch.no_grad():
                for name, value in self.models[place].state_dict().items():
                    value.copy_(saved[name])
                for parameter, state in optimizer.state.items():
                    for name, value in state.items():
                        value.copy_(kept[parameter][name]) if parameter in kept else value.zero_()

        def replay() -> Any:
            graph.replay()
            return out

        return replay

    @torch.no_grad()
    def _logits(self, model: nn.Module) -> Tensor:
        model.eval()
        return torch.cat([model(part) for part in self.seen.split(300)]).float()

    @torch.no_grad()
    def _evaluated(self) -> np.ndarray:
        found = []
        off = (self.images.shape[1] - self.side) // 2
        for part, evaluate in zip(self.parts, self.evaluations, strict=True):
            positions = torch.from_numpy(np.concatenate([part["val"], part["test"]])).to(self.device)
            images = self.images[positions, off : off + self.side, off : off + self.side]
            self.seen.copy_(_normalised(images))
            found.append(evaluate().cpu().numpy())
        return np.stack(found)


def _bounds(images: int, passes: int) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends: batches go on over the end of a pass, and all but one are full."""
    count = images * passes
    found = [(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
    # Of several passes the rest is left out: each size of a batch would be a graph of its own.
    return found[:-1] if len(found) > 1 and (passes > 1 or count % BATCH == 1) and count % BATCH else found


def _normalised(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _parts(labels: np.ndarray, cell: Cell, seed: int) -> dict[str, np.ndarray]:
    """Positions of training, validation and test images; `labels` are those of the chosen classes, from 0."""
    rng = np.random.default_rng([seed, cell.classes])
    chosen = np.sort(rng.permutation(labels.max() + 1)[: cell.classes])
    uneven = cell.data == "clothing" and cell.classes == 10  # as uneven as the data set is
    sizes = np.bincount(labels)[chosen]
    shares = sizes / sizes.sum() if uneven else np.full(len(chosen), 1 / len(chosen))
    test = TEST if uneven or cell.data != "clothing" else 30
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": [], "rank": []}
    for label, share in zip(chosen, shares, strict=True):
        fixed = np.random.default_rng(int(label)).permutation(np.flatnonzero(labels == label))
        tested = _share(test, share, cell)
        rest = rng.permutation(fixed[tested:])
        validated = _share(VALIDATION[-1], share, cell)
        trained = _share(cell.images - max(1, int(0.1 * cell.images + 0.5)), share, cell)
        assert validated + trained <= len(rest), (cell, label)
        parts["test"].append(fixed[:tested])
        parts["val"].append(rest[:validated])
        parts["train"].append(rest[validated : validated + trained])
        # The least number of validation images a class with which an image is among them.
        needed = [next(v for v in VALIDATION if place < _share(v, share, cell)) for place in range(validated)]
        parts["rank"].append(np.array(needed))
    mapped = np.full(labels.max() + 1, -1)
    mapped[chosen] = np.arange(len(chosen))
    return {name: np.concatenate(each) for name, each in parts.items()} | {"labels": mapped[labels]}


def _share(a_class: int, share: float, cell: Cell) -> int:
    return max(1, round(a_class * cell.classes * share))


def _network(state: dict[str, Tensor], cell: Cell, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=cell.classes)
    own = model.state_dict()
    pairs = zip(own, state.values(), strict=True)  # both list the same layers in the same order
    own |= {name: value for name, value in pairs if not name.startswith("classifier.")}
    model.load_state_dict(own)
    model.classifier.reset_parameters()  # as torch draws it, not timm  # type: ignore[operator, union-attr]
    frozen = _frozen(cell.freeze)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _frozen(freeze: str) -> tuple[str, ...]:
    depth = {"0": 0, "4": 4, "all": 7}[freeze]
    stem = ("conv_stem.", "bn1.") if depth else ()
    last = ("conv_head.", "bn2.") if depth == 7 else ()
    return (*stem, *last, *(f"blocks.{index}." for index in range(depth))) or ("none",)


def _modes(model: nn.Module, freeze: str) -> None:
    model.train()
    frozen = _frozen(freeze)
    for name, module in model.named_modules():
        if f"{name}.".startswith(frozen):
            module.eval()


def _optimizer(model: nn.Module, rates: list[Tensor], device: torch.device) -> torch.optim.Optimizer:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("classifier."), parameter.ndim > 1), []).append(parameter)
    made = [
        {"params": found, "lr": rates[head], "weight_decay": DECAY * decays} for (head, decays), found in groups.items()
    ]
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(made, fused=on_gpu, capturable=on_gpu, foreach=False if not on_gpu else None)


def _measured(group: Group, logits: np.ndarray) -> list[dict[str, Any]]:
    """For each seed, by epoch: test accuracy; accuracy, loss, balanced accuracy on parts of the validation images."""
    seeds = []
    for number, part in enumerate(group.parts):
        count = len(part["val"])
        truth = part["labels"][np.concatenate([part["val"], part["test"]])]
        epochs = logits[:, number]  # (epochs, images, classes)
        right = epochs.argmax(2) == truth
        shifted = epochs - epochs.max(2, keepdims=True)
        losses = np.log(np.exp(shifted).sum(2)) - np.take_along_axis(shifted, truth[None, :, None], 2)[..., 0]
        row: dict[str, Any] = {"test": right[:, count:].mean(1).round(5).tolist(), "val": {}}
        for each in VALIDATION:
            seen = np.flatnonzero(part["rank"] <= each)
            recalls = [right[:, seen[truth[seen] == c]].mean(1) for c in range(group.cell.classes)]
            values = [right[:, seen].mean(1), losses[:, seen].mean(1), np.mean(recalls, 0)]
            row["val"][each] = [len(seen), *(value.round(5).tolist() for value in values)]
        seeds.append(row)
    return seeds


def measure_cell(cell: Cell, given: Any) -> list[dict[str, Any]]:
    """All numbers of steps of a cell."""
    begun = time.perf_counter()
    group = Group(cell, given.seeds, given.weights, given.archive, given.device)
    count = len(group.parts[0]["train"])
    rows, known = [], {}
    for wanted in STEPS if given.steps is None else given.steps:
        passes = next(each for each in range(1, 10_000) if EPOCHS * len(_bounds(count, each)) >= wanted)
        if passes not in known:
            known[passes] = _measured(group, group.train(passes))
        what = {"min_steps": wanted, "passes": passes, "steps": EPOCHS * len(_bounds(count, passes)), "train": count}
        rows.append({**vars(cell), **what, "seconds": round(time.perf_counter() - begun, 1), "seeds": known[passes]})
    return rows


def _work(number: int, given: Any, cells: list[Cell], next_one: Any, begun: float) -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    with (given.out / f"trainings_{number}.jsonl").open("a", encoding="utf-8") as file:
        while time.time() - begun < given.seconds:
            with next_one.get_lock():
                place = next_one.value
                next_one.value += 1
            if place >= len(cells):
                return
            for row in measure_cell(cells[place], given):
                file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{time.time() - begun:6.0f} s  {place + 1}/{len(cells)}  {cells[place]}", flush=True)


def main() -> None:
    """Train all cells, in several processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True, help="what selection_images.py wrote")
    parser.add_argument("--weights", type=Path, required=True, help="of EfficientNet-Lite0, the file in its package")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no cell later than this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--classes", type=int, nargs="+", default=(10, 3))
    parser.add_argument("--freezes", nargs="+", default=FREEZES)
    parser.add_argument("--data", nargs="+")
    parser.add_argument("--steps", type=int, nargs="+")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    every = product(given.sizes, given.classes, given.freezes, given.data or names(given.archive))
    cells = [Cell(data, classes, images, freeze) for images, classes, freeze, data in every]
    context = mp.get_context("spawn")
    next_one, begun = context.Value("i", 0), time.time()
    workers = [
        context.Process(target=_work, args=(number, given, cells, next_one, begun)) for number in range(given.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{min(next_one.value, len(cells))} of {len(cells)} cells, {os.cpu_count()} cores", flush=True)


if __name__ == "__main__":
    main()
