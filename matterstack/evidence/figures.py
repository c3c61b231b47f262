"""Figures of a run as stills: its graph, its results, its time, and the structures that it gave."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matterstack.core.calls import VALUE, VALUE_ARRAYS
from matterstack.errors import UnsafeFileError
from matterstack.evidence.attempt_files import AttemptFiles
from matterstack.evidence.document import Figure
from matterstack.notebook.bars import Bars
from matterstack.notebook.best import Best, best_text, front_of, stairs
from matterstack.notebook.board import Board
from matterstack.notebook.columns import Columns, title_of
from matterstack.notebook.drawing import Drawing, Shape, describe
from matterstack.notebook.scatter_still import Picture, scatter_svg
from matterstack.notebook.still import drawing_html
from matterstack.notebook.structure_picture import picture_html
from matterstack.notebook.structures import Frames, frames_of_value
from matterstack.notebook.timeline_picture import timeline_html
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import AttemptRecord

MOST_STRUCTURES = 24
_MOST_VALUE_BYTES, _MOST_ARRAY_BYTES = 1_000_000, 10_000_000
_MOST_CORNERS = 500


def graph_of(store: StoreReader) -> Figure:
    """Return the tasks of a run and what they come after; where there are many, in groups."""
    board = Board(store)
    board.refresh()
    drawing = Drawing(Shape(board), "auto", ())
    return Figure(drawing_html(drawing), f"The tasks and what they come after: {describe(dict(drawing.counts))}.")


def results_of(store: StoreReader, targets: Mapping[str, str]) -> Figure | None:
    """Return the results as points, with what no other beats; None where there are no numbers to draw.

    Of one target the best so far over time; of two, one against the other.
    """
    data = Columns(store)
    while data.refresh():
        pass
    axes = _axes(data, targets)
    if axes is None:
        return None
    count = len(data)
    goal = dict(targets)
    if len(targets) == 1 and axes["x"] == "time":
        goal = {"time": "min", **targets}
    best = Best(targets, goal, _best(data, targets, goal, count))
    along = {axis: _values(data, name, count) for axis, name in axes.items()}
    picture = Picture(
        along=along,
        titles={axis: title_of(data, name) for axis, name in axes.items()},
        words={},
        logs=set(),
        best=best.places,
        line=_line(best, axes, along),
    )
    return Figure(scatter_svg(picture), f"Results: {axes['y']} over {axes['x']}; {best_text(data, best, most=0)}.")


def _best(data: Columns, targets: Mapping[str, str], goal: Mapping[str, str], count: int) -> list[int]:
    """Return the places of the results that no other beats, the best in the first target first."""
    first = next(iter(targets), None)
    column = data.column(first) if first is not None else None
    if first is None or column is None:
        return []
    values = column.values(count)
    places = front_of(data, goal, None, count).places
    return sorted(places, key=values.__getitem__, reverse=targets[first] == "max")


def _axes(data: Columns, targets: Mapping[str, str]) -> dict[str, str] | None:
    numbers = [name for name, kind in data.offered.items() if kind == "number" and not data.is_order(name)]
    named = [name for name in targets if name in numbers]
    if len(named) > 1:
        return {"x": named[0], "y": named[1]}
    y = named[0] if named else next(iter(numbers), None)
    return None if y is None or len(data) < 2 else {"x": "time", "y": y}


def _values(data: Columns, name: str, count: int) -> Sequence[float]:
    column = data.column(name)
    return [math.nan] * count if column is None else list(column.values(count)[:count])


def _line(best: Best, axes: Mapping[str, str], along: Mapping[str, Sequence[float]]) -> list[tuple[float, float]]:
    if {axes["x"], axes["y"]} != set(best.goal):
        return []
    points = sorted({(along["x"][place], along["y"][place]) for place in best.places})
    step = math.ceil(len(points) / _MOST_CORNERS) or 1
    return stairs(points[::-step][::-1], is_late=best.goal[axes["x"]] == "min")


def time_of(store: StoreReader, until: float) -> Figure | None:
    """Return when attempts waited and ran, up to a moment; None where none was submitted."""
    bars = Bars(store)
    bars.refresh()
    if not bars.bars:
        return None
    return Figure(
        timeline_html(bars, "function", until),
        f"{len(bars.bars)} attempts by function, each from its submission (pale) over its start to its end, in UTC.",
    )


def structures_of(files: AttemptFiles, records: Sequence[AttemptRecord]) -> tuple[list[Figure], int]:
    """Return pictures of the first structures that completed attempts gave, and how many of these gave one.

    Where ASE is not installed, there are none.
    """
    figures: list[Figure] = []
    count = 0
    for record in records:
        if record.attempt.status != "COMPLETED" or (found := _structure(files, record)) is None:
            continue
        count += 1
        if len(figures) < MOST_STRUCTURES:
            try:
                figures.append(Figure(picture_html(found), f"{record.name}: {found.formula}"))
            except ImportError:
                return [], 0
    return figures, count


def _structure(files: AttemptFiles, record: AttemptRecord) -> Frames | None:
    """Return the structure in what an attempt gave: in its data, or else in the value of its call."""

    def fetch(name: str) -> bytes:
        return files.read(record, files.results(record, f"{VALUE_ARRAYS}/{name}"), _MOST_ARRAY_BYTES)

    try:
        found = frames_of_value(json.loads(record.attempt.data or "null"))
        if found is None and '"call":' in record.spec:
            value: Any = json.loads(files.read(record, files.results(record, VALUE), _MOST_VALUE_BYTES))
            found = frames_of_value(value, fetch)
    except (OSError, UnsafeFileError, ValueError, RecursionError):
        return None
    return found
