"""The best of results: what no other beats in the targets, found anew from what is new, as a table and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from matterstack.core.text import neutral
from matterstack.notebook.columns import Columns


class Front(NamedTuple):
    """Places of the results that no other beats, of the first so many.

    Attributes
    ----------
    goal : mapping of str to {'max', 'min'}
    edition, looked : int
        Of the columns, and how many results there were, when they were looked through.
    places : list of int
    """

    goal: Mapping[str, str]
    edition: int
    looked: int
    places: list[int]


class Best(NamedTuple):
    """The best results.

    Attributes
    ----------
    targets : mapping of str to {'max', 'min'}
    goal : mapping of str to {'max', 'min'}
        What makes a result one of the best. Of one target over time that is both: these are the best so far.
    places : list of int
        Of the results, the best in the first target first.
    """

    targets: Mapping[str, str]
    goal: Mapping[str, str]
    places: list[int]


def front_of(data: Columns, goal: Mapping[str, str], known: Front | None, count: int) -> Front:
    """Return the results that no other beats; where that was known before, only what is new is looked at."""
    if known is None or known.goal != goal or known.edition != data.edition or known.looked > count:
        known = Front(goal, data.edition, 0, [])
    columns = [column for name in goal if (column := data.column(name)) is not None and column.kind == "number"]
    if known.looked == count or not columns or len(columns) < len(goal):
        return known._replace(looked=count)
    import numpy

    from matterstack.optimizers.pareto import undominated

    values = [column.values(count) for column in columns]
    some = [*known.places, *range(known.looked, count)]
    gains = numpy.array([[value[place] for value in values] for place in some], float)
    gains *= [1.0 if direction == "max" else -1.0 for direction in goal.values()]
    there = numpy.flatnonzero(numpy.isfinite(gains).all(axis=1)).tolist()
    return known._replace(looked=count, places=[some[there[at]] for at in undominated(gains[there])])


def stairs(points: Sequence[tuple[float, float]], *, is_late: bool) -> list[tuple[float, float]]:
    """Return the corners of the line between what is beaten and what is not yet there.

    Parameters
    ----------
    points : sequence of (float, float)
        By x.
    is_late : bool
        Whether the line leaves a point along x first, as time does: what is at the right of a point is beaten by it.

    Examples
    --------
    >>> stairs([(0.0, 1.0), (2.0, 3.0)], is_late=True)
    [(0.0, 1.0), (2.0, 1.0), (2.0, 3.0)]
    >>> stairs([(0.0, 3.0), (2.0, 1.0)], is_late=False)
    [(0.0, 3.0), (0.0, 1.0), (2.0, 1.0)]
    """
    corners = list(points[:1])
    for (x, y), (next_x, next_y) in pairwise(points):
        corners += [(next_x, y) if is_late else (x, next_y), (next_x, next_y)]
    return corners


def heads_of(best: Best, axes: Mapping[str, Any]) -> list[str]:
    """Return the columns of the table of the best: the targets, and what is drawn besides."""
    drawn = (axes[axis] for axis in ("x", "y", "colour") if axes[axis])
    return list(dict.fromkeys([*best.targets, *drawn]))


def rows_of(data: Columns, best: Best, axes: Mapping[str, Any], most: int) -> list[list[str]]:
    """Return the table of the best: a task per row, and its values as texts."""
    heads = heads_of(best, axes)
    return [[data.names[place], *(value_text(data, name, place) for name in heads)] for place in best.places[:most]]


def value_text(data: Columns, name: str, place: int) -> str:
    """Return a value of a result as text; empty where it is missing."""
    column = data.column(name)
    value = math.nan if column is None else column.values(place + 1)[place]
    if column is None or math.isnan(value):
        return ""
    return neutral(list(column.words)[int(value)]) if column.kind == "word" else f"{value:.6g}"


def best_text(data: Columns, best: Best, most: int) -> str:
    """Return in words what is the best so far, of how many results; with several targets, so many of them by name."""
    of = f"{len(data)} results" if len(data) != 1 else "1 result"
    if not best.targets:
        return of
    wanted = ", ".join(f"{neutral(name)} {direction}" for name, direction in best.targets.items())
    if not best.places:
        return f"{of}, none with {wanted}"
    if len(best.targets) == 1:
        (name,) = best.targets
        first = best.places[0]
        return f"best so far: {neutral(name)} {value_text(data, name, first)} ({neutral(data.names[first])}), of {of}"
    lines = [f"{len(best.places)} of {of} that no other beats ({wanted})"]
    for place in best.places[:most]:
        values = ", ".join(f"{neutral(name)} {value_text(data, name, place)}" for name in best.targets)
        lines.append(f"{neutral(data.names[place])}: {values}")
    if most and len(best.places) > most:
        lines.append(f"... and {len(best.places) - most} more")
    return "\n".join(lines)


def best_html(data: Columns, best: Best, axes: Mapping[str, Any], most: int) -> str:
    """Return the best as static HTML: in words, and as a table."""
    said = f"<p>{escape(best_text(data, best, most=0))}</p>"
    if not best.places:
        return said
    figure = "style='text-align:right;padding-left:16px'"
    heads = "".join(f"<th {figure}>{escape(neutral(name))}</th>" for name in heads_of(best, axes))
    lines = []
    for name, *values in rows_of(data, best, axes, most):
        cells = "".join(f"<td {figure}>{escape(value)}</td>" for value in values)
        lines.append(f"<tr><td style='text-align:left'>{escape(neutral(name))}</td>{cells}</tr>")
    more = f"<p>and {len(best.places) - most} more</p>" if len(best.places) > most else ""
    head = f"<tr><th style='text-align:left'>task</th>{heads}</tr>"
    return f"{said}<table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>{more}"
