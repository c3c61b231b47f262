"""The runs of a workspace in one view: live, with what needs a person; each opens below, or two beside each other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget
import ipywidgets
import traitlets

from matterstack.core.text import format_time, neutral
from matterstack.notebook.assets import CSS, script
from matterstack.notebook.follower import follower_of
from matterstack.notebook.forms import InboxView
from matterstack.notebook.runs_board import RunCard, RunsBoard, RunsNews
from matterstack.notebook.statuses import RUN_LOOKS
from matterstack.notebook.summary import BAR, bar_html, count_parts, in_a_line, status_html
from matterstack.notebook.views import heed, with_twin
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.comparison import compare
from matterstack.orchestration.overview import shown_path
from matterstack.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from matterstack.run import Run

#: How long the first picture waits for runs that take long to read.
_FIRST_LOOK_S = 5.0
_ABANDONED_S = 60.0
_MOST_STILL = 200
_SORTED_BY = frozenset({"status", "run", "progress", "iteration", "needs", "changed"})
_NOTHING: dict[str, Any] = {"kind": "", "keys": [], "busy": False, "said": "", "kept": []}


class RunsList(anywidget.AnyWidget):
    """The runs of a workspace, a row each; a page gets all rows once, and then those that changed.

    Parameters
    ----------
    board : RunsBoard
    about : str
        What is said above them.
    do : callable
        Called with what a page wants (``run``, ``inbox``, ``comparison`` or ``close``), and of which runs.
    """

    _esm = script("workspace.js")
    _css = CSS
    looks: Any = traitlets.List([look._asdict() for look in RUN_LOOKS.values()]).tag(sync=True)
    parts: Any = traitlets.List([list(part) for part in BAR]).tag(sync=True)
    about = traitlets.Unicode("").tag(sync=True)
    #: Whether runs of several workspaces are shown.
    many = traitlets.Bool(False).tag(sync=True)
    #: By key, with the number of the last change. Changed in place, so that only what changed is sent, by a message.
    rows: Any = traitlets.Dict().tag(sync=True)
    asked: Any = traitlets.Dict({"text": "", "status": "", "by": "run", "down": False}).tag(sync=True)
    opened: Any = traitlets.Dict(_NOTHING).tag(sync=True)
    page_may_change: ClassVar[frozenset[str]] = frozenset({"asked"})

    def __init__(self, board: RunsBoard, about: str, do: Callable[[str, list[RunCard]], None]) -> None:
        self.board = board
        self._do = do
        self._told = threading.Lock()
        self._stopped = threading.Event()
        self._looker: threading.Thread | None = None
        self._seen_at = 0.0
        board.look(_FIRST_LOOK_S)
        rows = {card.key: _row(card) for card in board.cards}
        super().__init__(about=about, many=board.workspace is None, rows={"number": 0, "rows": rows})
        self.on_msg(self._heard)

    def take(self, news: RunsNews) -> None:
        """Show what changed."""
        if not news:
            return
        changed = {card.key: _row(card) for card in news.changed}
        with self._told:
            rows = {key: row for key, row in self.rows["rows"].items() if key not in news.gone} | changed
            number = self.rows["number"] + 1
            self.rows["rows"], self.rows["number"] = rows, number
        self.send({"patch": {"number": number, "rows": changed, "gone": news.gone}})

    def _here(self) -> None:
        """Look for as long as somebody may see it, in a thread: neither a slow disk nor a cell holds that up."""
        self._seen_at = time.monotonic()
        if self._looker is None or not self._looker.is_alive():
            self._looker = threading.Thread(target=self._look, daemon=True, name="matterstack-workspace")
            self._looker.start()

    def _look(self) -> None:
        while time.monotonic() - self._seen_at < _ABANDONED_S and not self._stopped.wait(self.board.pause_s):
            self.take(self.board.look())

    def close(self) -> None:
        """Close it, and look no more."""
        self._stopped.set()
        super().close()

    def _heard(self, _: object, message: Any, __: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("here"):
            self._here()
        heed(self, message, self.page_may_change)
        if "want" in message and message["want"] != self.rows["number"]:
            self.send_state("rows")
        keys = message.get("keys")
        if isinstance(what := message.get("do"), str) and isinstance(keys, list):
            cards = [self.board.find(key) for key in keys if isinstance(key, str)]
            self._do(what, [card for card in cards if card is not None])

    @traitlets.validate("asked")
    def _understood(self, proposal: Any) -> dict[str, Any]:
        """Return which rows a page wants, without what makes no sense in it."""
        asked = proposal["value"]
        text, status, by = (
            said if isinstance(said := asked.get(name), str) else "" for name in ("text", "status", "by")
        )
        by = by if by in _SORTED_BY else "run"
        return {"text": text, "status": status, "by": by, "down": asked.get("down") is True}


class WorkspaceView(ipywidgets.VBox):  # type: ignore[misc]
    """The runs of a workspace, live; below them what one has opened of them.

    Parameters
    ----------
    board : RunsBoard
    open_run : callable
        Returns the run of a directory.

    Notes
    -----
    Looking is done in threads, and opens no file between two looks. A cockpit that is closed is let go, unless its Run
    is on: then it goes on, and is there again when its run is opened again.
    """

    def __init__(self, board: RunsBoard, open_run: Callable[[Path], Run]) -> None:
        self.board = board
        self.open_run = open_run
        self.slot = ipywidgets.VBox()
        self._cockpits: dict[str, Any] = {}
        self._turn = 0
        self._saying = threading.RLock()
        self._loop = _running_loop()
        about = shown_path(board.root) if board.workspace is None else f"Workspace {board.workspace}"
        self.list = RunsList(board, neutral(about), self._do)
        super().__init__([self.list, self.slot])

    def _do(self, what: str, cards: list[RunCard]) -> None:
        """Open something: what takes long beside the kernel's loop, its widgets on it."""
        self._turn += 1
        keys = [card.key for card in cards]
        if what not in ("run", "inbox", "comparison") or len(cards) != (2 if what == "comparison" else 1):
            self._put(self._turn, "", [], None)
            return
        self._say(kind=what, keys=keys, busy=True, said="")
        work = threading.Thread(
            target=self._open, args=(self._turn, what, cards), daemon=True, name="matterstack-opening"
        )
        work.start()

    def _open(self, turn: int, what: str, cards: list[RunCard]) -> None:
        make: Callable[[], Any] | None = None
        with capture() as caught:  # whatever is wrong with a run, it is said
            make = self._read(what, cards)
        said = "" if caught.error is None else neutral(in_a_line(describe(caught.error)))
        self._on_loop(lambda: self._put(turn, what, [card.key for card in cards], make, said))

    def _read(self, what: str, cards: list[RunCard]) -> Callable[[], Any]:
        """Read what takes long, and return what makes the widgets of it."""
        first = cards[0]
        if what == "comparison":
            html = compare(*(RunDirectory.at(card.path) for card in cards))._repr_html_()
            return lambda: ipywidgets.HTML(html)
        if what == "run" and first.key in self._cockpits:
            return lambda: self._cockpits[first.key]
        run = self.open_run(first.path)
        follower = follower_of(run)
        if what == "inbox":
            inbox = run.inbox()
            return lambda: InboxView(inbox)

        def cockpit() -> Any:
            found = self._cockpits[first.key] = run.watch()
            found.head.observe(lambda _: self._on_loop(self._let_go), "buttons")
            assert follower is not None  # the cockpit is made of what it has read
            return found

        return cockpit

    def _put(self, turn: int, what: str, keys: list[str], make: Callable[[], Any] | None, said: str = "") -> None:
        """Show what was opened in the place of what was there; nothing, where something else was asked for since."""
        if turn != self._turn:
            return
        before = self.slot.children
        self.slot.children = [] if make is None else [make()]
        for widget in before:
            if widget not in self.slot.children and widget not in self._cockpits.values():
                close_all(widget)
        self._let_go(kind=what, keys=keys, busy=False, said=said)

    def _let_go(self, **said: Any) -> None:
        """Close the cockpits that nobody sees, and in which nothing goes on; and say that, and more."""
        for key, cockpit in list(self._cockpits.items()):
            if cockpit not in self.slot.children and not cockpit.running:
                del self._cockpits[key]
                close_all(cockpit)
        self._say(kept=[key for key, cockpit in self._cockpits.items() if cockpit.running], **said)

    def _say(self, **said: Any) -> None:
        with self._saying:  # a page asks in another thread, in some kernels
            self.list.opened = {**self.list.opened, **said}

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(call)
        else:
            call()

    def twin_html(self) -> str:
        """Return the same as static HTML."""
        cards = self.board.cards
        names = ("status", "run", "tasks of the iteration", "iteration", "needs you", "last change", "reason")
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in names)
        lines = "".join(_still(card, self.list.many) for card in cards[:_MOST_STILL])
        more = len(cards) - _MOST_STILL
        rest = f"<p>... and {more} more; matterstack.runs has all of a workspace</p>" if more > 0 else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        return f"<div><p><b>{escape(self.list.about)}</b>: {escape(_sums(cards))}</p>{table}{rest}</div>"

    def twin_text(self) -> str:
        """Return the same as text."""
        cards = self.board.cards
        lines = [f"{self.list.about}: {_sums(cards)}"]
        for card in cards[:_MOST_STILL]:
            said = [need.title for need in card.needs] or [card.reason]
            over = f", {card.counts.total - card.counts.unfinished} of {card.counts.total} tasks over"
            line = f"{card.key if self.list.many else card.path.name} {_word(card)}{over if card.status else ''}"
            lines.append(neutral(f"{line}; {', '.join(said)}" if any(said) else line))
        if len(cards) > _MOST_STILL:
            lines.append(f"... and {len(cards) - _MOST_STILL} more")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return with_twin(super()._repr_mimebundle_(**options), self.twin_html(), self.twin_text())


def close_all(widget: Any) -> None:
    """Close a widget with all that it is made of: ipywidgets holds each one until it is closed."""
    parts = [
        part for value in widget.trait_values().values() for part in (value if isinstance(value, tuple) else [value])
    ]
    widget.close()
    for part in parts:
        if isinstance(part, ipywidgets.Widget) and part.comm is not None:
            close_all(part)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _word(card: RunCard) -> str:
    return "UNREADABLE" if card.status is None else str(card.status)


def _sums(cards: Sequence[RunCard]) -> str:
    """Return how many runs stand how, in words."""
    counted = Counter(map(_word, cards))
    needing = sum(bool(card.needs) for card in cards)
    parts = ["1 run" if len(cards) == 1 else f"{len(cards)} runs"]
    parts.append("1 needs you" if needing == 1 else f"{needing} need you")
    words = (*map(str, RUN_LOOKS), "UNREADABLE")
    return ", ".join([*parts, *(f"{counted[word]} {word.lower()}" for word in words if counted[word])])


def _row(card: RunCard) -> dict[str, Any]:
    """Return a run as a page gets it."""
    return {
        "workspace": neutral(card.workspace),
        "run": neutral(card.path.name),
        "path": neutral(str(card.path)),
        "status": None if card.status is None else str(card.status),
        "reason": card.reason,
        "iteration": card.iteration,
        "counts": [count_parts(card.counts)[name] for name, _ in BAR],
        "over": card.counts.total - card.counts.unfinished,
        "total": card.counts.total,
        "needs": [
            {"words": need.title, "more": need.text, "kind": "inbox" if need.tab else "run"} for need in card.needs
        ],
        "created": card.created_at,
        "changed": card.changed_at,
    }


def _still(card: RunCard, many: bool) -> str:
    counts = card.counts
    status = escape(_word(card)) if card.status is None else status_html(card.status)
    bar = f"{bar_html(counts)}{counts.total - counts.unfinished} of {counts.total}" if card.status else ""
    texts = (
        str(card.iteration) if card.status else "",
        ", ".join(need.title for need in card.needs),
        format_time(card.changed_at) if card.changed_at else "",
        card.reason,
    )
    cells = [
        status,
        escape(neutral(card.key if many else card.path.name)),
        bar,
        *(escape(neutral(text)) for text in texts),
    ]
    row = "".join(f"<td style='text-align:left;min-width:{160 if cell is bar else 0}px'>{cell}</td>" for cell in cells)
    return f"<tr>{row}</tr>"
