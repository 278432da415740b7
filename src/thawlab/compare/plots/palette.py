"""Colours of the plots: told apart by the colour-blind, on white and on dark, and by dashes and marks in grey."""

# Okabe and Ito's, without black and yellow, of which each vanishes on one of the backgrounds.
COLOURS = ("#2a7fc4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794")
BEST, LEVEL_WITH_BEST, REST = COLOURS[0], COLOURS[5], COLOURS[6]
DASHES = ("solid", "dash", "dot")  # as plotly calls them
DASHES_DRAWN = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # the same for matplotlib
MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down")
MARKS_DRAWN = ("o", "s", "D", "^", "P", "*", "v")
DIVERGING = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#f7f7f7"), (0.75, "#67a9cf"), (1.0, "#0b559f"))
# From worst to best: every colour can be told from white and from a dark page.
SEQUENTIAL = ((0.0, "#e69f00"), (0.35, "#cc79a7"), (0.7, "#5a6fc0"), (1.0, "#2a7fc4"))


def colour(place: int) -> str:
    """Of the n-th line."""
    return COLOURS[place % len(COLOURS)]


def turn(place: int) -> int:
    """How often the colours were used up before the n-th line: which dashes it gets."""
    return (place // len(COLOURS)) % len(DASHES)


def faded(shade: str, alpha: float) -> str:
    """The colour, so much of it let through."""
    red, green, blue = (int(shade[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
