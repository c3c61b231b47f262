"""A scatter of results, live: two columns against each other, what no other beats, and the task behind each point."""

from __future__ import annotations

import math
import threading
import weakref
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import traitlets

from matterstack.core.targets import targets_of
from matterstack.core.text import did_you_mean, neutral
from matterstack.errors import PlotError
from matterstack.notebook.assets import PANEL, script
from matterstack.notebook.best import Best, Front, best_html, best_text, front_of, heads_of, rows_of, stairs
from matterstack.notebook.board import News
from matterstack.notebook.columns import ORDERS, Column, Columns, title_of
from matterstack.notebook.follower import Follower
from matterstack.notebook.palette import GROUPS, HIGHLIGHT, RAMP
from matterstack.notebook.scatter_still import Picture, scatter_svg
from matterstack.notebook.views import PanelView

if TYPE_CHECKING:
    from matterstack.run import Run

#: The last so many results are sent to a page at once; what is best is found among all of them.
MOST_SHOWN = 20_000
_MOST_LISTED = 20
_MOST_ON_LINE = 500
_MOST_NAMED = 5
_AXES = ("x", "y", "colour")
_columns: weakref.WeakKeyDictionary[Follower, Columns] = weakref.WeakKeyDictionary()


def columns_of(follower: Follower) -> Columns:
    """Return the results of a run, which all views of it in this kernel share."""
    return _columns.setdefault(follower, Columns(follower.run.store))


class ScatterView(PanelView):
    """Results as points, a task each, drawn over two of their columns; a click on one tells all about its task.

    Pages that show the same scatter share its axes.

    Parameters
    ----------
    run : Run
    x, y : str, optional
        Columns; by default those that the targets make of interest.
    colour : str, optional
    best : mapping of str to {'max', 'min'}, optional
        The targets; by default those of the run.
    at_once : bool
        Read all results now. Else none before a page shows the view, and then so many at each look.

    Raises
    ------
    PlotError
        No result has such a column, or a target makes no sense.
    """

    _esm = script(*PANEL, "scatter.js")
    ramp: Any = traitlets.List(list(RAMP)).tag(sync=True)
    series: Any = traitlets.List(list(GROUPS)).tag(sync=True)
    highlight: Any = traitlets.Unicode(HIGHLIGHT).tag(sync=True)
    #: By which results can be told apart: names, and how they are written.
    columns: Any = traitlets.List().tag(sync=True)
    axes: Any = traitlets.Dict().tag(sync=True)
    #: Results when these axes were chosen: later ones come as messages, and are never sent twice.
    tasks: Any = traitlets.List().tag(sync=True)
    values: Any = traitlets.Dict().tag(sync=True)
    best: Any = traitlets.Dict().tag(sync=True)
    page_may_change = PanelView.page_may_change | {"axes"}

    def __init__(
        self,
        run: Run,
        x: str | None = None,
        y: str | None = None,
        colour: str | None = None,
        best: Mapping[str, str] | None = None,
        *,
        at_once: bool = True,
    ) -> None:
        self.run = run
        self._attach()
        self.targets = targets_of(run.target if best is None else best, "best", PlotError)
        self.data = columns_of(self.follower)
        self._wanted = at_once
        self._turn = threading.RLock()  # some kernels call back in threads of their own
        self._front: Front | None = None
        self._drawn: list[str | None] = []
        self._edition = self._sent = self._from = self._number = 0
        while at_once and self.data.refresh():
            pass
        for name in (x, y, colour, *(best or ())):
            self._require(name)
        first = {"x": x or "", "y": y or "", "colour": colour or "", "log_x": False, "log_y": False}
        super().__init__(run, axes=first)
        self._show_anew()

    def _require(self, name: str | None) -> None:
        if name is not None and len(self.data) and self.data.column(name) is None:
            known = map(str, self.data.offered)
            raise PlotError(f"no result has a column {name!r} of numbers or words{did_you_mean(name, known)}")

    # -- what is new ------------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Tell of the selected task what changed; `glance` is called next, and sees new results."""
        if self.selected and any(card.name == self.selected for card in news.changed):
            self._tell()

    def glance(self, news: News) -> None:
        """Show results that are new."""
        super().glance(news)
        if self._wanted:
            self.read()

    def read(self) -> None:
        """Read results that are new, so many at a time, and go on with that at each look."""
        with self._turn:
            self._wanted = True
            self.data.refresh()
            self._show()

    def _show(self) -> None:
        count, sent = len(self.data), self._sent
        is_new = self.data.edition != self._edition or count - self._from > 2 * MOST_SHOWN
        if is_new or not self._drawable() or self._kinds() != self._drawn:
            if is_new or count > sent:
                self._show_anew()
        elif count > sent:
            self._sent = count
            self._send_more(sent)
            self._show_best()

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        if message.get("seen"):
            self.read()
        after = message.get("after")
        with self._turn:
            if isinstance(after, dict) and after.get("number") == self._number and isinstance(after.get("count"), int):
                self._send_more(min(max(self._from, after["count"]), self._sent))

    def _show_anew(self) -> None:
        """Send all results along the axes."""
        count = self._sent = len(self.data)
        self._edition, self._from, self._number = self.data.edition, max(0, count - MOST_SHOWN), self._number + 1
        with self.hold_sync():
            if not self._drawable():
                self.axes = {**self.axes, **self._of_interest()}
            self._drawn = self._kinds()
            self.tasks = self.data.names[self._from :]
            along = {axis: values.tobytes() for axis, values in self._along(self._from).items()}
            self.values = {**self._about(self._from), **along}
            self._show_best()

    def _send_more(self, first: int) -> None:
        """Send the results from a place on to the pages that are open."""
        more = {**self._about(first), "tasks": self.data.names[first : self._sent]}
        self.send({"more": more}, buffers=[values.tobytes() for values in self._along(first).values()])

    # -- along the axes ---------------------------------------------------------------------

    def _drawable(self) -> bool:
        return bool(self.axes["x"] and self.axes["y"])

    def _of_interest(self) -> dict[str, str]:
        """Return the axes that the targets make of interest; without any, what came first over time."""
        names = list(self.targets)
        if len(names) > 1:
            return dict(zip(_AXES, names, strict=False))
        given = (name for name, kind in self.data.offered.items() if kind == "number" and not self.data.is_order(name))
        y = names[0] if names else next(given, "")
        return {"x": "time", "y": y} if y else {}

    def _column(self, axis: str) -> Column | None:
        return self.data.column(self.axes[axis]) if self.axes[axis] else None

    def _kinds(self) -> list[str | None]:
        columns = (self._column(axis) for axis in _AXES)
        return [None if column is None else column.kind for column in columns]

    def _about(self, first: int) -> dict[str, Any]:
        columns = ((axis, self._column(axis)) for axis in _AXES)
        words = {axis: [neutral(word) for word in column.words] for axis, column in columns if _is_of_words(column)}
        return {"number": self._number, "first": first, "words": words}

    def _along(self, first: int) -> dict[str, array[float]]:
        """Return the values of the results from a place on; where there is no such column, missing ones."""
        missing = array("d", [math.nan]) * (self._sent - first)
        columns = {axis: self._column(axis) for axis in _AXES}
        return {
            axis: missing if column is None else column.values(self._sent)[first : self._sent]
            for axis, column in columns.items()
        }

    @traitlets.validate("axes")
    def _understood(self, proposal: Any) -> dict[str, Any]:
        """Return the axes that a page wants; what makes no sense in them stays as it was."""
        asked, known = proposal["value"], self.axes
        if not known:
            return dict(asked)  # it is being made
        found = {**known}
        for axis in _AXES:
            name = asked.get(axis)
            if isinstance(name, str) and (name in (*ORDERS, *self.targets) or self.data.column(name) is not None):
                found[axis] = name
            elif name == "" and axis == "colour":
                found[axis] = ""
        return found | {log: asked[log] for log in ("log_x", "log_y") if isinstance(asked.get(log), bool)}

    @traitlets.observe("axes")
    def _turned(self, change: Any) -> None:
        if self._number and change["old"] and any(change["old"][axis] != change["new"][axis] for axis in _AXES):
            with self._turn:
                self._show_anew()

    # -- what is best -----------------------------------------------------------------------

    def _goal(self) -> dict[str, str]:
        """Return what makes a result one of the best: of one target along what grows, what was the best so far."""
        if len(self.targets) == 1:
            for target, other in (("y", "x"), ("x", "y")):
                if self.axes[target] in self.targets and self.data.is_order(self.axes[other]):
                    return {self.axes[other]: "min", **self.targets}
        return dict(self.targets)

    def _best(self) -> Best:
        """Return the best results, the best in the first target first."""
        goal = self._goal()
        self._front = front_of(self.data, goal, self._front, self._sent)
        order = next(iter(self.targets), "")
        places = self._front.places
        column = self.data.column(order) if order and places else None
        if column is not None:
            values = column.values(self._sent)
            places = sorted(places, key=values.__getitem__, reverse=self.targets[order] == "max")
        return Best(self.targets, goal, places)

    def _show_best(self) -> None:
        self.columns = [
            {"name": name, "label": neutral(name), "title": title_of(self.data, name), "kind": kind}
            for name, kind in self.data.offered.items()
        ]
        best = self._best()
        line = self._line(best)
        self.best = {
            "said": best_text(self.data, best, most=0),
            "heads": [neutral(name) for name in heads_of(best, self.axes)],
            "rows": rows_of(self.data, best, self.axes, _MOST_LISTED),
            "total": len(best.places),
            "places": best.places[:_MOST_ON_LINE],
            "line": line,
            "goes_on": bool(line) and self.data.is_order(self.axes["x"]),
        }

    def _line(self, best: Best) -> list[tuple[float, float]]:
        """Return the corners of the stairs along the best; none where the axes are not what they are the best in."""
        x, y = self._column("x"), self._column("y")
        if {self.axes["x"], self.axes["y"]} != set(best.goal) or x is None or y is None:
            return []
        along, up = x.values(self._sent), y.values(self._sent)
        points = sorted({(along[place], up[place]) for place in best.places})
        step = math.ceil(len(points) / _MOST_ON_LINE) or 1
        return stairs(points[::-step][::-1], is_late=best.goal[self.axes["x"]] == "min")

    # -- on a page without a kernel -----------------------------------------------------------

    def twin_html(self) -> str:
        """Return the points as SVG, in the colours of their page, and a table of the best."""
        best = self._best()
        picture = Picture(
            along={axis: values for axis, values in self._along(0).items() if self.axes[axis]},
            titles={axis: title_of(self.data, self.axes[axis]) for axis in _AXES if self.axes[axis]},
            words=self._about(0)["words"],
            logs={axis for axis in ("x", "y") if self.axes[f"log_{axis}"]},
            best=best.places,
            line=self._line(best),
        )
        listed = best_html(self.data, best, self.axes, _MOST_LISTED)
        return f"<div style='overflow-x:auto'>{scatter_svg(picture)}</div>{listed}"

    def twin_text(self) -> str:
        """Return the best so far in words."""
        return best_text(self.data, self._best(), most=_MOST_NAMED)


def _is_of_words(column: Column | None) -> TypeGuard[Column]:
    return column is not None and column.kind == "word"
