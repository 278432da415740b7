"""Numbers beside points that may lie close to each other: each on a side where there is room, or none at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thawlab.compare.comparison import Comparison
from thawlab.compare.plots import chart_data

# To the right and up, by the names that plotly has for them; the first that is free is taken.
SIDES = {
    "top center": (0, 1),
    "middle right": (1, 0),
    "bottom center": (0, -1),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}
# Of the area, between its border and the outermost points; above the highest there is room for a number.
_MARGIN_ACROSS = 0.06
_MARGIN_UP = 0.09
_ALL = 15  # numbers at most; of more rows the front and the best alone have one

Box = tuple[float, float, float, float]  # left, right, bottom, top


@dataclass(frozen=True)
class Room:
    """Sizes of what is drawn, all in pixels or all in points.

    Attributes:
        width: of the area within the axes.
        height: of the same.
        digit: width of a digit.
        line: height of a digit.
        mark: from the middle of a mark to its border.
        reach: from the middle of a mark to its number.
    """

    width: float
    height: float
    digit: float
    line: float
    mark: float
    reach: float


# Three plots side by side on a page, or one on a phone: where there is more room, points only lie farther apart.
ON_A_PAGE = Room(width=240, height=260, digit=7.5, line=11, mark=5.5, reach=7)
ON_PAPER = Room(width=320, height=200, digit=5.6, line=7, mark=5, reach=6)


def numbers(comparison: Comparison, cost: str, room: Room) -> dict[int, str]:
    """Side of its point on which the number of a row stands, by the row's place.

    The best comes first, then the front, then the others; those for which there is no room are left out.
    """
    rows, front = comparison.rows, chart_data.front(comparison, cost)
    known = [place for place, row in enumerate(rows) if math.isfinite(row.costs.get(cost, math.nan))]
    first = [place for place in known if rows[place].is_best]
    wanted = [*first, *front, *(known if len(rows) <= _ALL else ())]
    costs = [rows[place].costs[cost] for place in known]
    across = _shares([math.log(value) for value in costs] if chart_data.wants_log(costs) else costs, _MARGIN_ACROSS)
    up = _shares([rows[place].estimate.mean for place in known], _MARGIN_UP)
    points = {place: (room.width * x, room.height * y) for place, x, y in zip(known, across, up, strict=True)}
    return _placed(points, list(dict.fromkeys(wanted)), room)


def span(values: Sequence[float]) -> list[float] | None:
    """Ends of the upward axis that leave this room; None where all values are the same."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    more = (high - low) * _MARGIN_UP / (1 - 2 * _MARGIN_UP)
    return [low - more, high + more] if more else None


def _shares(values: Sequence[float], margin: float) -> list[float]:
    """Where values lie along an axis, from 0 to 1."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low == high:
        return [0.5] * len(values)
    return [margin + (1 - 2 * margin) * (value - low) / (high - low) for value in values]


def _placed(points: dict[int, tuple[float, float]], wanted: Sequence[int], room: Room) -> dict[int, str]:
    marks = {place: (x - room.mark, x + room.mark, y - room.mark, y + room.mark) for place, (x, y) in points.items()}
    taken: list[Box] = []
    result = {}
    for place in wanted:
        others = [mark for other, mark in marks.items() if other != place]
        for side, direction in SIDES.items():
            box = _box(points[place], direction, room.digit * len(str(place + 1)), room)
            inside = min(box[0], box[2]) >= 0 and box[1] <= room.width and box[3] <= room.height
            if inside and not any(_overlap(box, other) for other in (*taken, *others)):
                taken.append(box)
                result[place] = side
                break
    return result


def _box(point: tuple[float, float], direction: tuple[int, int], width: float, room: Room) -> Box:
    """Of a text beside a point: its near corner or the middle of its near side is `reach` away in each direction."""
    x = point[0] + direction[0] * (room.reach + width / 2)
    y = point[1] + direction[1] * (room.reach + room.line / 2)
    return x - width / 2, x + width / 2, y - room.line / 2, y + room.line / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
