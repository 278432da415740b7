"""Full fine-tuning against a plain training loop, written by hand on timm's loader: same network, images and settings.

timm's own train.py takes part where the environment variable TIMM_TRAIN says where it lies, and the images are files.
By itself it prints a line of JSON for each round, and one for the result:
`python benchmarks/full.py [KEY=VALUE …] [--data FOLDER]`.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import common
import timm_train
from clock import Clock, Clocked
from common import Settings, Table, alternately, load_data, place, prepare, ratio, say, spread, subset, with_cache
from plain_loop import PlainLoop
from thawlab.config.job import Job
from thawlab.config.schema import name_of
from thawlab.data.cpu_and_memory import auto_workers
from thawlab.training.preparation import Prepared
from thawlab.training.trainer import quiet_lightning

# Random crops and mirror images, as augment=light, on top of the benchmarks' augment=none.
_SETTINGS = ("freeze=0", "epochs=1", "augment.crop_scale=0.5", "augment.hflip=0.5")
_WARM = 3  # steps before the clock starts: workers start, kernels are chosen
_TIMM = "timm train.py"


class _Rounds:
    """The same steps in each way; of all but timm's own program it is kept what they took.

    Attributes:
        clocks: of each round.
        images: that each round's clock ran for.
    """

    def __init__(self, settings: Settings, job: Job, prepared: Prepared, steps: int, warm: int) -> None:
        self.settings, self.job, self.prepared, self.steps, self.warm = settings, job, prepared, steps, warm
        self.plain = PlainLoop(job, prepared)
        self.clocks: dict[str, list[Clock]] = {"thawlab": [], "plain": []}
        self.images: dict[str, list[int]] = {"thawlab": [], "plain": []}

    def by_thawlab(self) -> float:
        """Images a second of a run."""
        clock, made_watches = Clock(), list[Clocked]()

        def watch(limit: int | None) -> Clocked:
            made = Clocked(limit)
            made.clock, made.warm, made.count = clock, self.warm, 0
            made_watches.append(made)
            return made

        with patch.object(common, "Watch", watch):
            common.fit(self.settings.again(self.job), self.prepared, limit=self.steps)
        return self._kept("thawlab", clock, made_watches[0].count)

    def by_hand(self) -> float:
        """Images a second of the plain loop."""
        clock = Clock()
        return self._kept("plain", clock, self.plain.run(self.steps, clock, self.warm))

    def by_timm(self, program: Path) -> float:
        """Images a second of timm's own program."""
        folder, on_gpu = self.settings.folder("timm"), self.plain.device.type == "cuda"
        return timm_train.images_per_second(program, self.job, self.prepared, on_gpu, folder)

    def ways(self) -> dict[str, Callable[[], float]]:
        """Those that can be measured here."""
        ways: dict[str, Callable[[], float]] = {"thawlab": self.by_thawlab, "plain": self.by_hand}
        program = timm_train.program()
        if program is None:
            say(f"without timm's train.py, which is not at hand; {timm_train.VARIABLE} says where it lies")
        elif name_of(self.job.config.dataset) == "folder":
            ways[_TIMM] = lambda: self.by_timm(program)
        return ways

    def cpu(self) -> dict[str, list[float]]:
        """Milliseconds of processor time an image."""
        pairs = {name: zip(self.clocks[name], self.images[name], strict=True) for name in self.clocks}
        return {name: [1e3 * clock.cpu / images for clock, images in own] for name, own in pairs.items()}

    def _kept(self, name: str, clock: Clock, images: int) -> float:
        self.clocks[name].append(clock)
        self.images[name].append(images)
        return images / clock.seconds


def measure(settings: Settings) -> dict[str, Any]:
    """Images a second of both in turn, and what they cost in processor time; on a GPU also in its memory."""
    data = load_data(settings)
    job = with_cache(settings.job(*_SETTINGS), "off")
    on_gpu, size = place(job.config)[0].type == "cuda", job.config.batch_size
    workers = job.config.trainer.workers
    # Two batches of each worker lie ready when a GPU begins: the clock starts when those are used up.
    warm = _WARM + (2 * (auto_workers(1) if workers == "auto" else workers) if on_gpu else 0)
    steps = warm + settings.chosen(40, 15, 2)
    if on_gpu and len(data.train) < steps * size:
        data = subset(data, steps * size, len(data.val))
    steps = min(steps, len(data.train) // size)  # timm's loader leaves the last batch out
    warm = min(warm, steps - 1)
    rounds = _Rounds(settings, job, prepare(job.config, data), steps, warm)
    speeds = alternately(rounds.ways(), settings.chosen(7, 3 if on_gpu else 5, 1), "full fine-tuning, images a second")
    cpu = rounds.cpu()
    found = {
        "images_per_second": speeds,
        "cpu_ms_per_image": cpu,
        "thawlab/plain": ratio(speeds["thawlab"], speeds["plain"]),
        "cpu thawlab/plain": ratio(cpu["thawlab"], cpu["plain"]),
        "steps": steps - warm,
        "first_step_seconds": {name: [each.first_step for each in own] for name, own in rounds.clocks.items()},
    }
    if _TIMM in speeds:
        found["thawlab/timm"] = ratio(speeds["thawlab"], speeds[_TIMM])
    if on_gpu:
        found["gpu_memory_mb"] = {name: max(each.memory_mb for each in own) for name, own in rounds.clocks.items()}
    return found


def table(results: Mapping[str, Any]) -> Table:
    """A row for each, and their ratio."""
    speeds, cpu, memory = results["images_per_second"], results["cpu_ms_per_image"], results.get("gpu_memory_mb", {})
    columns = ["", "images/s", "CPU ms an image", *(["GPU memory, MB"] if memory else [])]
    rows = []
    for name, values in speeds.items():
        row = [name, f"{statistics.median(values):,.1f}", f"{statistics.median(cpu[name]):.1f}" if name in cpu else ""]
        rows.append([*row, f"{memory[name]:,.0f}" if name in memory else ""][: len(columns)])
    ratios = [["thawlab / plain", spread(results["thawlab/plain"]), spread(results["cpu thawlab/plain"])]]
    if "thawlab/timm" in results:
        ratios.append(["thawlab / timm train.py", spread(results["thawlab/timm"]), ""])
    rows += [[*row, ""][: len(columns)] for row in ratios]
    return Table("Full fine-tuning against a plain loop on timm's loader", columns, rows)


def main(arguments: list[str]) -> int:
    """Measure by itself and print JSON lines."""
    parser = argparse.ArgumentParser(prog="full.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, help="folder of photographs, one folder a class; without it the digits")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs")
    given = parser.parse_intermixed_args(arguments)
    quiet_lightning()
    dataset = ["dataset=folder", f"dataset.root={given.data.resolve()}"] if given.data else []
    with tempfile.TemporaryDirectory(prefix="full_") as scratch:
        settings = Settings((*dataset, *given.overrides), "images", given.quick, given.smoke, Path(scratch))
        results = measure(settings)
    speeds, cpu = results["images_per_second"], results["cpu_ms_per_image"]
    for number, (one, other) in enumerate(zip(speeds["thawlab"], speeds["plain"], strict=True)):
        costs = {"thawlab_cpu_ms": cpu["thawlab"][number], "plain_cpu_ms": cpu["plain"][number]}
        print(json.dumps({"round": number + 1, "thawlab": one, "plain": other, "ratio": one / other, **costs}))
    print(json.dumps({key: results[key] for key in ("thawlab/plain", "cpu thawlab/plain", "steps")}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
