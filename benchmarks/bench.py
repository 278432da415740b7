"""All benchmarks: `python benchmarks/bench.py [NAME …] [KEY=VALUE …]`; see README.md beside this file."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import rich.table

# Each module has measure(Settings) -> results and table(results) -> Table.
BENCHMARKS = {
    "depths": "depths",
    "probe": "probe",
    "cached_probe": "cached_probe",
    "sweep": "sweep",
    "jobs": "jobs",
    "full": "full",
    "ddp": "ddp",
    "heads": "many_heads",
    "filling": "filling",
    "growth": "growth",
    "startup": "startup",
    "compare": "compare_growth",
    "coverage": "coverage",
}
RESULTS = Path(__file__).parent / "results"
_SMOKE = ("backbone=test_resnet", "backbone.pretrained=false", "batch_size=8", "trainer.workers=0", "trainer=cpu")
_SMOKE += ("trainer.min_steps=0",)


def main(arguments: list[str]) -> int:
    """Measure what is named, all without a name; returns the exit code."""
    given = _parsed(arguments)
    if given.markdown:
        print("\n\n".join(_markdown(given.out)))
        return 0
    unknown = [name for name in given.names if name not in BENCHMARKS and "=" not in name]
    if unknown:
        print(f"{unknown[0]}: no such benchmark; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    names = [name for name in given.names if "=" not in name] or list(BENCHMARKS)
    overrides = tuple(name for name in given.names if "=" in name)
    if given.scratch is not None:
        Path(given.scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_", dir=given.scratch) as scratch:
        for name in names:
            _measure(name, given, overrides, Path(scratch) / name)
    return 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME or KEY=VALUE", help=f"{', '.join(BENCHMARKS)}; settings")
    parser.add_argument("--data", type=Path, help="folder of photographs, one folder a class; without it the digits")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (128)")
    parser.add_argument("--quick", action="store_true", help="fewer depths, rounds and epochs")
    parser.add_argument("--smoke", action="store_true", help="only see that it runs: a tiny network, a few images")
    parser.add_argument(
        "--label", help="told of the images in the results, where settings alone would not tell them apart"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--scratch", type=Path, help="where checkpoints and caches lie meanwhile: some GB")
    parser.add_argument("--markdown", action="store_true", help="measure nothing, print the results that are there")
    return parser.parse_intermixed_args(arguments)


def _measure(name: str, given: argparse.Namespace, overrides: tuple[str, ...], scratch: Path) -> None:
    import machine  # PyTorch loads here, which --help need not wait for
    from common import Settings, console, say
    from thawlab.training.trainer import quiet_lightning

    quiet_lightning()
    dataset = ["dataset=folder", f"dataset.root={given.data.resolve()}"] if given.data else []
    smoke = _SMOKE if given.smoke else ()
    size = 32 if given.smoke else given.size
    arguments = (f"image_size={size}", *dataset, *smoke, *overrides)
    data = given.data.resolve().name if given.data else "digits"
    data += f"-{given.label}" if given.label else ""
    settings = Settings(arguments, data, given.quick, given.smoke, scratch)
    console.rule(f"[bold]{name}")
    backbone = settings.job().config.backbone.name
    about, load, begun = machine.describe(), machine.load(), time.perf_counter()
    module = import_module(BENCHMARKS[name])
    results = module.measure(settings)
    shown = {"data": data, "size": size, "quick": given.quick, "smoke": given.smoke, "overrides": [*smoke, *overrides]}
    content = {
        "benchmark": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": about,
        "load_before": load,
        "load_after": machine.load(),
        "settings": {**shown, "backbone": backbone},
        "seconds": round(time.perf_counter() - begun, 1),
        "results": _rounded(results),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{name}_{data}_{machine.slug(about)}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    made = module.table(results)
    _show(made, console)
    say(f"{name}: {content['seconds']:.0f} s, kept in {path}")


def _show(made: Any, console: Any) -> None:
    table = rich.table.Table(title=made.title, title_justify="left")
    for number, column in enumerate(made.columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in made.rows:
        table.add_row(*row)
    console.print(table)


def _rounded(value: Any) -> Any:
    """Four digits say all there is to say."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _markdown(folder: Path) -> Iterator[str]:
    """The results that are kept, as Markdown, in the order of the benchmarks."""
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    for content in sorted(kept, key=lambda each: (each["settings"]["data"], list(BENCHMARKS).index(each["benchmark"]))):
        made = import_module(BENCHMARKS[content["benchmark"]]).table(content["results"])
        settings, machine = content["settings"], content["machine"]
        yield "\n".join(
            [
                f"### {content['benchmark']}: {made.title}",
                "",
                f"{settings['backbone']}, {settings['data']} at {settings['size']} pixels"
                + "".join(f", {each}" for each in settings["overrides"])
                + (", `--quick`" if settings["quick"] else "")
                + f"; {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, torch "
                f"{machine['packages']['torch']}; {content['date']}, load {content['load_before'][0]} before and "
                f"{content['load_after'][0]} after.",
                "",
                "| " + " | ".join(made.columns) + " |",
                "|---" + "|---:" * (len(made.columns) - 1) + "|",
                *("| " + " | ".join(row) + " |" for row in made.rows),
            ]
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
