"""Views of a run as widgets, each with a static twin for pages without a kernel; and its graph as one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from matterstack.errors import PlotError, UnknownTaskError
from matterstack.notebook.assets import CSS, PANEL, script
from matterstack.notebook.audience import may_have_page
from matterstack.notebook.board import Board, Card, News
from matterstack.notebook.desk import Desk
from matterstack.notebook.details import details_html, group_html, outputs, structure_of
from matterstack.notebook.drawing import LONG_PAGE, PAGE, Drawing, Node, Room, Shape, describe
from matterstack.notebook.follower import Follows, follower_of
from matterstack.notebook.grouping import COLLAPSE
from matterstack.notebook.statuses import BY_CODE, LOOKS
from matterstack.notebook.still import drawing_html
from matterstack.notebook.structures import AT_ONCE, MOST_ATOMS

if TYPE_CHECKING:
    import networkx

    from matterstack.run import Run

_MOST_ROWS = 200
_MOST_LISTED = 40
#: Looks in the order in which one asks for them: what went wrong, what needs somebody, what goes on, and the rest.
_FIRST = "FWXQRBNSC"
#: No page has more columns, or rows.
_MOST_ROOM = 1000
#: Looks of tasks of which more may be told though nothing changes.
_UNDER_WAY = frozenset("QXW")
_LOOKS = [look._asdict() for look in LOOKS]


class View(anywidget.AnyWidget, Follows):
    """A widget of a run that follows it.

    Parameters
    ----------
    run : Run
    """

    _css = CSS
    looks: Any = traitlets.List().tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    #: What a page may change, by `change` in shared.js.
    page_may_change: ClassVar[frozenset[str]] = frozenset({"selected"})

    def __init__(self, run: Run, **traits: Any) -> None:
        self.run = run
        self._attach()
        super().__init__(looks=_LOOKS, **traits)
        self.on_msg(self._heard)

    def _attach(self) -> None:
        """Follow the run; a view that needs its tasks to be made does so before all else, and is not told twice."""
        if not hasattr(self, "follower"):
            follower_of(self.run).attach(self)

    @property
    def board(self) -> Board:
        """What is shown."""
        return self.follower.board

    def _heard(self, _: object, message: Any, __: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("here"):
            self.here()
        heed(self, message, self.page_may_change)

    def twin_html(self) -> str:
        """Return the same as static HTML."""
        raise NotImplementedError

    def twin_text(self) -> str:
        """Return the same as text."""
        return describe(dict(self.board.counts))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return with_twin(super()._repr_mimebundle_(**options), self.twin_html(), self.twin_text())


def heed(view: Any, message: Mapping[str, Any], may_change: frozenset[str]) -> None:
    """Set what a page changes of a view, where it may."""
    if isinstance(change := message.get("change"), dict):
        with view.hold_sync():
            for name in may_change & change.keys():
                with suppress(traitlets.TraitError):  # it makes no sense: the view stays as it is
                    view.set_trait(name, change[name])


def with_twin(bundle: Any, html: str, text: str) -> Any:
    """Return a widget's bundle with what shows where no widget can be; that alone where no page is there."""
    twin = {"text/html": html, "text/plain": text}
    if not may_have_page():
        return twin
    if isinstance(bundle, tuple):
        return ({**bundle[0], **twin}, bundle[1])
    return {**(bundle or {}), **twin}


class PanelView(View):
    """A view with a panel that tells all about what is selected, also what it writes meanwhile.

    Parameters
    ----------
    run : Run
    """

    panel = traitlets.Unicode("").tag(sync=True)
    #: What the panel is about: a page shows no other panel beside what is selected.
    panel_of = traitlets.Unicode("").tag(sync=True)
    _told: Card | None = None
    _written: Sequence[tuple[str, str]] = ()

    @cached_property
    def desk(self) -> Desk:
        """Where its pages ask about logs and files."""
        return Desk(self.run, self.send)

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        self.desk.take(message)
        if isinstance(task := message.get("structure"), str):
            found = structure_of(self.run, card) if (card := self.board.find(task)) is not None else None
            most = MOST_ATOMS if message.get("all") is True else AT_ONCE
            self.send({"structure": task, "data": None if found is None else found.as_data(most)})

    def glance(self, news: News) -> None:
        """Show what the selected task has written since, and what is said of its attempt."""
        self.desk.look(news)
        told = self._told
        if told is None or told.code not in _UNDER_WAY:
            return
        if told.id in news.touched or outputs(self.run, told) != self._written:
            self._tell()

    @traitlets.observe("selected")
    def _tell(self, change: object = None) -> None:
        name = self.selected
        self._told = self.board.find(name)
        if self._told is not None:
            live = self._told.code in _UNDER_WAY
            self._written = outputs(self.run, self._told) if live else []
            html = details_html(self.run, self.board, name)
        else:
            html = self._group_html(name)
        with self.hold_sync():
            self.panel, self.panel_of = html, name

    def _group_html(self, key: str) -> str:
        """Return the panel of what is no task, where the view shows such a thing."""
        return ""


class DagView(PanelView):
    """The graph of a run's tasks.

    Parameters
    ----------
    run : Run
    shown : networkx.DiGraph, optional
        `Run.graph`, or a part of it, or one with other edges between the same tasks.
    collapse : {'auto', 'tasks', 'group', 'iteration'}
        What is drawn as one node.

    Raises
    ------
    UnknownTaskError
        The graph has a node that is no task of the run.
    PlotError
        ``collapse`` is none of these.
    """

    _esm = script("viewport.js", *PANEL, "dag.js")
    graph = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    collapse = traitlets.Enum(COLLAPSE, "auto").tag(sync=True)
    expanded = traitlets.List(traitlets.Unicode()).tag(sync=True)
    #: Columns and rows for which a page has room.
    room = traitlets.List(traitlets.Int(), list(PAGE), minlen=2, maxlen=2).tag(sync=True)
    page_may_change = View.page_may_change | {"collapse", "expanded", "room"}

    def __init__(self, run: Run, shown: networkx.DiGraph[str] | None = None, collapse: str = "auto") -> None:
        if collapse not in COLLAPSE:
            raise PlotError(f"collapse must be one of {', '.join(map(repr, COLLAPSE))}, not {collapse!r}")
        self.run = run
        self.shown = shown
        follower = follower_of(run)
        if shown is not None:
            follower.settle()
        self._attach()
        if shown is not None:
            names = set(map(self.board.name, range(len(self.board))))
            if strange := [node for node in shown if node not in names]:
                raise UnknownTaskError(
                    f"the graph has the node {strange[0]!r}, which is no task of the run; see run.graph",
                    task_id=str(strange[0]),
                )
        self._shape = None if shown is None else Shape(self.board, shown)
        self.drawing = Drawing(self.shape, collapse, ())
        self._drawn: tuple[str, list[str], Room] = (collapse, [], PAGE)
        super().__init__(run, collapse=collapse, graph=self._graph(), state=self._state())

    @property
    def shape(self) -> Shape:
        """What there is to be drawn: a part of the run, or all of it, which all graphs of it share."""
        return self._shape or self.follower.shape

    def take(self, news: News) -> None:
        """Show what changed: statuses in place, and a new drawing only when there are new tasks."""
        if news.grown and self.shown is None:
            self._draw()
        else:
            self.drawing.follow(card.id for card in news.changed)
            self.state = self._state()
        if self.selected and (news.grown or any(self._is_chosen(card) for card in news.changed)):
            self._tell()

    def _graph(self) -> dict[str, Any]:
        note = {"note": f"reading {self.board.counts.total()} tasks …"} if self.follower.reads else {}
        return self.drawing.graph() | note

    def _state(self) -> dict[str, Any]:
        counts = {"counts": dict(self.board.counts)} if self.follower.reads else {}
        return self.drawing.state() | counts

    def _is_chosen(self, card: Card) -> bool:
        return self.selected in (card.name, self.drawing.key_of(card.id))

    @traitlets.observe("collapse", "expanded", "room")
    def _redraw(self, change: object) -> None:
        room = Room(*(min(max(1, number), _MOST_ROOM) for number in self.room))
        wanted = (self.collapse, list(self.expanded), room)
        if wanted != self._drawn:
            self._drawn = wanted
            self._draw()

    def _draw(self) -> None:
        collapse, expanded, room = self._drawn
        self.drawing = Drawing(self.shape, collapse, expanded, room)
        with self.hold_sync():
            if self.selected and self._node(self.selected) is None and self.board.find(self.selected) is None:
                self.selected = ""
            self.graph, self.state = self._graph(), self._state()

    def _node(self, key: str) -> Node | None:
        return next((node for node in self.drawing.nodes if node.key == key), None)

    def _group_html(self, key: str) -> str:
        node = self._node(key)
        if node is None:
            return ""
        listed = itertools.islice(self.drawing.places_in(key, _FIRST), _MOST_LISTED)
        return group_html(node.label, self.drawing.counts_in(key), self.board.cards(list(listed)))

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        drawing = self.drawing
        if isinstance(text := message.get("find"), str):
            inside = Counter(drawing.nodes[drawing.node_of(number)].key for number in drawing.find(text))
            self.send({"find": text, "found": inside.total(), "inside": inside})
        if isinstance(text := message.get("open"), str):
            hidden = (number for number in drawing.find(text) if not drawing.nodes[drawing.node_of(number)].single)
            if (first := next(hidden, None)) is not None:
                self._show(self.board.cards([drawing.shape.chosen[first]])[0])
        if isinstance(task := message.get("show"), str) and (card := self.board.find(task)) is not None:
            self._show(card)

    def _show(self, card: Card) -> None:
        """Open what a task is drawn in, and select it."""
        around = self.drawing.closed_around(card.id)
        with self.hold_sync():
            self.expanded = [key for key in self.expanded if key not in around] + around
            self.selected = card.name

    def _still(self) -> Drawing:
        """Return the drawing for a page that can neither be moved nor opened: what has no room is drawn in groups."""
        if self.collapse == "tasks":
            if len(self.shape.chosen) <= LONG_PAGE.columns * LONG_PAGE.rows:
                every = Drawing(self.shape, "tasks", (), LONG_PAGE)
                if every.fits:
                    return every
            return Drawing(self.shape, "auto", ())
        if self.drawing.room == PAGE:
            return self.drawing
        return Drawing(self.shape, self.collapse, self.expanded)

    def twin_html(self) -> str:
        """Return the drawing as a picture, with its words as text."""
        if self.follower.reads:
            return f"<div>{describe(dict(self.board.counts))}; run the cell again for a picture of them</div>"
        return drawing_html(self._still())

    def twin_text(self) -> str:
        """Return the graph as lines, ``task <- what it waits for``."""
        shape, board = self.shape, self.board
        befores: dict[int, list[str]] = {}
        for before, after in zip(shape.befores, shape.afters, strict=True):
            if after >= _MOST_ROWS:
                break  # they are in the order of their ends
            befores.setdefault(after, []).append(board.names[shape.chosen[before]])
        lines = [describe(self._state()["counts"])]
        for number, place in enumerate(shape.chosen[:_MOST_ROWS]):
            said = f" <- {', '.join(befores[number])}" if number in befores else ""
            lines.append(f"{board.name(place)}: {BY_CODE[chr(board.codes[place])].name}{said}")
        if (more := len(shape.chosen) - _MOST_ROWS) > 0:
            lines.append(f"... and {more} more")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if not self.follower.reads:
            data["image/svg+xml"] = self._still().svg()  # for paper
        return bundle
