"""The table of all strategies for a terminal, and as the page docs/strategies.md."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from thawlab.cli.strategies import BACKBONES, CLASSES, EPOCHS, IMAGE_SIZE, Row

COLUMNS = ("strategy", "what is trained when", "rate", *BACKBONES, "paper")

_INTRO = f"""\
# Strategies

A strategy says how training moves through the layers: it makes one or more phases out of a network's stages, each a fit
of its own with a fixed set of trained parameters, its own optimizer and its own schedule. `strategy=NAME` chooses one,
and `conf/strategy/NAME.yaml` explains its settings.

This page is made from the code by `thawlab strategies --markdown`, for `epochs={EPOCHS}`, `freeze=0` and the settings
as shipped; `thawlab strategies` prints the table in a terminal. Phases and rates are those of EfficientNet-Lite0 (of
ViT-S where a strategy needs a transformer). Rates are shares of `optimizer.lr`: of the head, and of all that is trained
below it. The columns named after a network say how many parameters are trained, over all phases, for {CLASSES} classes
at {IMAGE_SIZE} pixels; “–” where a strategy does not apply.
"""

_COMBINED = """\
## With freeze, transfer and bn

- `freeze=k` holds for every strategy: the stem and stages 1…k stay as they are, bit for bit, and the strategy moves
  through what is above. A freeze depth that leaves nothing but the head is refused, except by `finetune` and
  `linear_probe`. `scratch` and `transplant` take no freeze depth.
- `transfer=k` keeps the source's weights in the stem and stages 1…k; those above start from random weights.
  `transplant` reads it as what is copied, `scratch` refuses it, `l2_sp` and `delta` hold on to what is
  transferred, and `co_tuning` and `lwf` need all of it.
- `bn=train` and `bn=eval` say whether BatchNorm layers that are trained normalise by the batch or by their running
  statistics, in every phase and whatever the strategy does by itself (`bn=auto`): `linear_probe`, `lp_ft`, `bitfit`,
  `norm_only`, `lora` and `adapter` keep the statistics, the others move them. Those of frozen layers never move.
- `epochs` is the budget of all phases together, and a head that is solved for counts as one epoch. Only the base
  network of `transplant strategy.source=target` comes on top.
"""


def print_table(rows: Iterable[Row]) -> None:
    """Print the table as wide as the terminal is."""
    table = Table(*COLUMNS, title=f"Strategies, for epochs={EPOCHS} and freeze=0", show_lines=True)
    for row in rows:
        table.add_row(row.name, "\n".join(row.phases), row.rates, *row.parameters, row.paper)
    Console().print(table)


def markdown(rows: Iterable[Row]) -> str:
    """The page."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for row in rows:
        name, _, rest = row.name.partition(", ")
        shown = f"`{name}`" + (f", `{rest}`" if rest else "")
        lines.append(_line([shown, "<br>".join(row.phases), row.rates, *row.parameters, _linked(row.paper)]))
    return "\n".join([_INTRO, *lines, "", _COMBINED])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _linked(paper: str) -> str:
    text, _, number = paper.partition("arXiv:")
    return f"{text}[arXiv:{number}](https://arxiv.org/abs/{number})" if number else paper
