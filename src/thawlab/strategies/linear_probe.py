"""Linear probe: the head alone, on features that never change; solved for, or stepped to by gradients.

Kornblith et al. fit a logistic regression by L-BFGS to the features of a fixed network and choose its regularisation
on validation data; `solver=lbfgs` does the same. `solver=gradient` trains the head as any other layer.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from thawlab.config.kinds import Earlier
from thawlab.config.schema import Section
from thawlab.strategies.phases import Layers, Logistic, Phase, head_group

PAPER = "Kornblith et al. 2019, arXiv:1805.08974"


class LogisticSettings(Section):
    """How a logistic regression is solved for; other strategies that begin with a probe take these keys too."""

    strengths: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    max_iterations: int = Field(ge=1)

    @property
    def logistic(self) -> Logistic:
        """The same, for a phase."""
        return Logistic(tuple(self.strengths), self.max_iterations)


def _chosen(solver: str) -> str:
    """Of one head, "auto" is the better and the quicker solver; lists of heads are another, `launch/head_lists.py`."""
    return "lbfgs" if solver == "auto" else solver


class Settings(LogisticSettings):
    """Settings of the strategy; its solver is never "auto", which stands for one of the others."""

    name: Literal["linear_probe"]
    lr_scale: float = Field(gt=0)
    solver: Annotated[Literal["auto", "lbfgs", "gradient"], AfterValidator(_chosen), Earlier("gradient")]


def phases(layers: Layers, settings: Settings, epochs: int) -> list[Phase]:
    """One phase with the head as its only group, whatever the freeze depth."""
    if settings.solver == "lbfgs":
        return [solved(layers, settings)]
    return [Phase("linear_probe", epochs, (head_group(layers, settings.lr_scale),), batch_norm="eval")]


def solved(layers: Layers, settings: LogisticSettings) -> Phase:
    """A phase that solves for the head; it counts as one epoch."""
    return Phase("linear_probe", 1, (head_group(layers),), batch_norm="eval", logistic=settings.logistic)
