"""A comparison published: shown in the terminal, written as files, kept with the sweep in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from thawlab.compare.comparison import Comparison

if TYPE_CHECKING:
    from thawlab.tracking.store import Store


def publish(store: "Store", comparison: Comparison, parent_id: str | None, folder: Path) -> Path:
    """Show a comparison, write its files, and keep it with the sweep's parent run, if there is one; returns the report.

    Raises:
        ValueError: the store cannot be reached.
    """
    from thawlab import console
    from thawlab.compare.report.tables import markdown
    from thawlab.compare.report.terminal import show
    from thawlab.compare.report.write_files import write_all
    from thawlab.compare.wording.mlflow_summary import summary_metrics, summary_tags

    show(comparison, console.terminal)
    with console.terminal.status("writing the report"):
        written = write_all(comparison, folder)
        if parent_id is not None:
            from thawlab.tracking.comparison_artifacts import keep_comparison

            found = summary_metrics(comparison), summary_tags(comparison), markdown(comparison)
            keep_comparison(store, parent_id, folder, *found)
    console.terminal.print(f"report: {written[0]}", soft_wrap=True, markup=False)
    return written[0]
