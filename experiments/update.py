"""Writes the results of studies into their pages anew, from the runs in the store.

    python experiments/update.py freeze_depth low_data         the latest sweep of each
    python experiments/update.py freeze_depth root=mlruns sweep=ID

In `experiments/NAME.md` all between the two markers is replaced by what `thawlab compare` finds, and the picture in
`docs/NAME.png` with it. Without names: all pages whose studies are in the store.
"""

import sys
import tempfile
from pathlib import Path

from thawlab.compare.compare_runs import compare_runs
from thawlab.compare.plots.matplotlib_charts import write_pictures
from thawlab.compare.report.tables import markdown
from thawlab.compare.select.request import Request, parse
from thawlab.config.schema import ConfigError
from thawlab.tracking.store import Store, open_store
from thawlab.tracking.sweeps import latest_studies

HERE = Path(__file__).parent
START, END = "<!-- results: made by experiments/update.py -->", "<!-- end of results -->"
PICTURES = ("depth_freeze", "depth_transfer", "configurations")  # the first that there is


def main(arguments: list[str]) -> int:
    """Update the pages; returns the exit code."""
    names = [each for each in arguments if "=" not in each]
    try:
        return _update_all(names, [each for each in arguments if "=" in each])
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _update_all(names: list[str], settings: list[str]) -> int:
    if odd := [each for each in settings if each.partition("=")[0] not in ("root", "uri", "sweep")]:
        raise ConfigError(f"{odd[0]}: a page shows all of its sweep; there are root=, uri= and sweep=")
    request = parse(settings)
    if request.sweep != "latest" and len(names) != 1:
        raise ConfigError(f"sweep={request.sweep}: name the one page that it is for")
    pages = {page.stem for page in HERE.glob("*.md") if START in page.read_text(encoding="utf-8")}
    if unknown := [name for name in names if name not in pages]:
        raise ConfigError(f"{unknown[0]}: no page with a place for results; there are {', '.join(sorted(pages))}")
    store = open_store(request.uri or "", Path(request.root))
    sweeps = {name: str(request.sweep) for name in names} if request.sweep != "latest" else latest_studies(store)
    missing = [name for name in names if name not in sweeps]
    for name in missing:
        way = f"python train.py -m experiment={name}" if (HERE / f"{name}.yaml").is_file() else "sweep=ID names one"
        print(f"error: {name}: no sweep of this study that went through in {store.uri}; {way}", file=sys.stderr)
    for name in [each for each in names or sorted(sweeps) if each in sweeps and each in pages]:
        update(store, HERE / f"{name}.md", sweeps[name])
        print(f"{HERE / name}.md: written from sweep {sweeps[name]}")
    return 1 if missing else 0


def update(store: Store, page: Path, sweep: str) -> None:
    """Replace the results in one page, and its picture."""
    text = page.read_text(encoding="utf-8")
    comparison, _ = compare_runs(store, Request(sweep=sweep))
    with tempfile.TemporaryDirectory() as folder:
        made = {path.name: path for path in write_pictures(comparison, Path(folder))}
        name = next(f"{each}.png" for each in PICTURES if f"{each}.png" in made)
        picture = HERE.parent / "docs" / f"{page.stem}.png"
        picture.write_bytes(made[name].read_bytes())
    parts = [markdown(comparison), f"![{comparison.metric} of each configuration](../docs/{picture.name})"]
    before, rest = text.split(START)
    after = rest.split(END)[1]
    body = "\n\n".join(part.strip() for part in parts if part.strip())
    if root := comparison.grouping.constants.get("dataset.root"):
        body = body.replace(root, "photos")  # where the images lie is nobody's business
    page.write_text(f"{before}{START}\n\n{body}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
