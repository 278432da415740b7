"""Writes the results of studies into their pages anew, from the runs in the store.

    python experiments/update.py freeze_depth low_data         the latest sweep of each
    python experiments/update.py freeze_depth root=mlruns sweep=ID

In `experiments/NAME.md` all between the two markers is replaced by what `thawlab compare` finds, and the picture in
`docs/NAME.png` with it. Without names: all pages whose studies are in the store.
"""

import sys
import tempfile
from pathlib import Path

from thawlab.compare.assembly import compare_runs
from thawlab.compare.output.pictures import write_pictures
from thawlab.compare.output.tables import markdown
from thawlab.compare.request import Request, parse
from thawlab.tracking.store import Store, open_store
from thawlab.tracking.sweeps import latest_studies

HERE = Path(__file__).parent
START, END = "<!-- results: made by experiments/update.py -->", "<!-- end of results -->"
PICTURES = ("depth_freeze", "depth_transfer", "configurations")  # the first that there is


def main(arguments: list[str]) -> int:
    """Update the pages; returns the exit code."""
    names = [each for each in arguments if "=" not in each]
    request = parse([each for each in arguments if "=" in each])
    store = open_store(request.uri or "", Path(request.root))
    sweeps = latest_studies(store)
    missing = [name for name in names if name not in sweeps and request.sweep == "latest"]
    for name in missing:
        print(f"error: {name}: no sweep of this study in {store.uri}; python train.py -m experiment={name}")
    for name in names or sorted(sweeps):
        page = HERE / f"{name}.md"
        if name in missing or not page.is_file():
            continue
        chosen = request.sweep if request.sweep != "latest" else sweeps[name]
        update(store, page, str(chosen))
        print(f"{page}: written from sweep {chosen}")
    return 1 if missing else 0


def update(store: Store, page: Path, sweep: str) -> None:
    """Replace the results in one page, and its picture.

    Raises:
        ValueError: the page has no place for them.
    """
    text = page.read_text(encoding="utf-8")
    if START not in text or END not in text:
        raise ValueError(f"{page}: no place for results; add the lines {START} and {END}")
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
