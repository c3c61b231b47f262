"""Views of a run as widgets, each with a static twin for pages without a kernel; and its graph as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import traitlets

from matterstack.errors import UnknownTaskError
from matterstack.notebook.assets import CSS, PANEL, script
from matterstack.notebook.audience import may_have_page
from matterstack.notebook.board import Board, Card, News
from matterstack.notebook.desk import Desk
from matterstack.notebook.details import details_html, group_html, outputs, structure_of
from matterstack.notebook.drawing import LONG_PAGE, PAGE, Drawing, Room, describe
from matterstack.notebook.follower import Follows, follower_of
from matterstack.notebook.grouping import COLLAPSE
from matterstack.notebook.statuses import BY_CODE, LOOKS
from matterstack.notebook.still import drawing_html
from matterstack.notebook.structures import AT_ONCE, MOST_ATOMS

if TYPE_CHECKING:
    import networkx

    from matterstack.run import Run

_MOST_ROWS = 200
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
        self.run = run
        self.shown = shown
        self._attach()
        if shown is not None:
            names = {card.name for card in self.board.cards.values()}
            if strange := [node for node in shown if node not in names]:
                raise UnknownTaskError(
                    f"the graph has the node {strange[0]!r}, which is no task of the run; see run.graph",
                    task_id=str(strange[0]),
                )
        self.drawing = Drawing(self.board, collapse, (), shown)
        self._drawn: tuple[str, list[str], Room] = (collapse, [], PAGE)
        super().__init__(run, collapse=collapse, graph=self.drawing.graph(), state=self.drawing.state())

    def take(self, news: News) -> None:
        """Show what changed: statuses in place, and a new drawing only when there are new tasks."""
        if news.grown and self.shown is None:
            self._draw()
        else:
            self.state = self.drawing.state()
        if self.selected and (
            news.grown or not {card.id for card in news.changed}.isdisjoint(card.id for card in self._chosen())
        ):
            self._tell()

    @traitlets.observe("collapse", "expanded", "room")
    def _redraw(self, change: object) -> None:
        room = Room(*(min(max(1, number), _MOST_ROOM) for number in self.room))
        wanted = (self.collapse, list(self.expanded), room)
        if wanted != self._drawn:
            self._drawn = wanted
            self._draw()

    def _draw(self) -> None:
        collapse, expanded, room = self._drawn
        self.drawing = Drawing(self.board, collapse, expanded, self.shown, room)
        with self.hold_sync():
            if self.selected and not self._chosen():
                self.selected = ""
            self.graph = self.drawing.graph()
            self.state = self.drawing.state()

    def _chosen(self) -> list[Card]:
        """Return what is selected: a task, or those of a group."""
        task = self.board.find(self.selected)
        return self.drawing.cards_in(self.selected) if task is None else [task]

    def _group_html(self, key: str) -> str:
        node = next((node for node in self.drawing.nodes if node.key == key), None)
        return "" if node is None else group_html(node.label, self.drawing.cards_in(key))

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        if isinstance(text := message.get("find"), str):
            found, inside = self.drawing.find(text)
            self.send({"find": text, "found": len(found), "inside": inside})
        if isinstance(text := message.get("open"), str):
            found, _ = self.drawing.find(text)
            alone = {node.key for node in self.drawing.nodes if node.single}
            if hidden := [card for card in found if card.name not in alone]:
                self._show(hidden[0])
        if isinstance(task := message.get("show"), str) and (card := self.board.find(task)) is not None:
            self._show(card)

    def _show(self, card: Card) -> None:
        """Open what a task is drawn in, and select it."""
        around = self.drawing.closed_around(card)
        with self.hold_sync():
            self.expanded = [key for key in self.expanded if key not in around] + around
            self.selected = card.name

    def _still(self) -> Drawing:
        """Return the drawing for a page that can neither be moved nor opened: what has no room is drawn in groups."""
        if self.collapse == "tasks":
            if len(self.drawing.ids) <= LONG_PAGE.columns * LONG_PAGE.rows:
                every = Drawing(self.board, "tasks", (), self.shown, LONG_PAGE)
                if every.fits:
                    return every
            return Drawing(self.board, "auto", (), self.shown)
        if self.drawing.room == PAGE:
            return self.drawing
        return Drawing(self.board, self.collapse, self.expanded, self.shown)

    def twin_html(self) -> str:
        """Return the drawing as a picture, with its words as text."""
        return drawing_html(self._still())

    def twin_text(self) -> str:
        """Return the graph as lines, ``task <- what it waits for``."""
        cards = [self.board.cards[task] for task in self.drawing.ids]
        before: dict[int, list[str]] = {}
        for a, b in self.drawing.pairs:
            before.setdefault(b, []).append(cards[a].task_id)
        lines = [describe(dict(self.drawing.counts))]
        for number, card in enumerate(cards[:_MOST_ROWS]):
            after = f" <- {', '.join(before[number])}" if number in before else ""
            lines.append(f"{card.name}: {BY_CODE[card.code].name}{after}")
        if len(cards) > _MOST_ROWS:
            lines.append(f"... and {len(cards) - _MOST_ROWS} more")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["image/svg+xml"] = self._still().svg()  # for paper
        return bundle
