"""The table of a run's tasks as a widget: filtered and sorted in the kernel, a page gets the rows in sight."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import re
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from matterstack.core.text import format_time, neutral
from matterstack.errors import MatterstackError
from matterstack.notebook.assets import PANEL, script
from matterstack.notebook.board import Board, Card, News, all_of
from matterstack.notebook.pictures import glyph
from matterstack.notebook.statuses import BY_CODE, LOOKS
from matterstack.notebook.views import PanelView

if TYPE_CHECKING:
    from matterstack.run import Run

#: Rows that a page gets at once, and how many of them come before the first one in sight.
WINDOW = 300
_BEFORE = 100
_MOST_STILL = 200
_MOST_REASON = 300
#: Pixels.
_PER_LETTER = 8
_NARROWEST, _WIDEST = 40, 2000
#: All tasks are gone through in at most this share of the time, however many there are.
_SHARE = 0.1
#: More tasks than this are gone through in a thread of its own.
_MANY = 10_000
#: Names are sorted so many at a time.
_AT_ONCE = 50_000


class Column(NamedTuple):
    """A column: its name, its width in pixels, and what it shows of a task; ``kind`` says how a page writes it."""

    name: str
    width: int
    value: Callable[[Card], Any]
    kind: str = "text"


def _since(card: Card) -> float | None:
    return card.started_at or card.submitted_at


def _took_s(card: Card) -> float | None:
    return round(card.ended_at - card.started_at, 1) if card.started_at and card.ended_at else None


def _reason(card: Card) -> str | None:
    return neutral(card.reason[-_MOST_REASON:]) if card.reason else None


#: What one asks for first comes first: it is on screen where there is little room.
COLUMNS = (
    Column("task", 170, lambda card: card.name),
    Column("status", 130, lambda card: BY_CODE[card.code].name, "status"),
    Column("reason", 240, _reason, "rest"),
    Column("since", 130, _since, "time"),
    Column("took_s", 72, _took_s, "number"),
    Column("attempt", 76, lambda card: card.attempt, "number"),
    Column("exit code", 88, lambda card: card.exit_code, "number"),
    Column("operator", 90, lambda card: card.operator),
    Column("group", 100, lambda card: card.group),
    Column("iteration", 84, lambda card: card.iteration, "number"),
)
_BY_NAME = {column.name: column for column in COLUMNS}
_BY_STATUS = {look.name: look for look in LOOKS}


class Question(NamedTuple):
    """Which tasks are to be shown, and in which order."""

    text: str = ""
    status: str = ""
    iteration: str = ""
    by: str = ""
    down: bool = False

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Question:
        """Return what a page asks; what makes no sense in it is left out."""
        texts = (asked.get(name) for name in ("text", "status", "iteration", "by"))
        text, status, iteration, by = (text if isinstance(text, str) else "" for text in texts)
        return cls(text.strip().lower(), status, iteration, by if by in _BY_NAME else "", asked.get("down") is True)

    def answer(self, board: Board) -> Sequence[int]:
        """Return the places of the tasks that are wanted, in the order that is wanted; what has no value comes last.

        Of a million tasks this takes seconds, so it is made of steps that are short, or that SQLite makes: whoever
        asks it in a thread of its own lets all others go on.
        """
        places = self._wanted(board)
        if self.by == "task":
            return _by_name(board, places, self.down)
        if self.by in _SORTED_HERE:
            return _by_value(places, _SORTED_HERE[self.by](board), self.down)
        return _by_store(board, places, self.by, self.down) if self.by else places

    def _wanted(self, board: Board) -> Sequence[int]:
        places: Sequence[int] = range(len(board))
        if self.status:
            letter = next((look.code for look in LOOKS if look.name == self.status), "")
            places = array("i", all_of(board.codes, letter)) if letter else ()
        if self.iteration:
            places = array("i", (place for place in places if str(board.iterations[place]) == self.iteration))
        return self._that_say(board, places) if self.text else places

    def _that_say(self, board: Board, places: Sequence[int]) -> Sequence[int]:
        """Return the tasks that have the text in their name, status, operator, group or reason."""
        text = self.text
        letters = {ord(look.code) for look in LOOKS if text in look.name.lower()}
        others = {word for word in {*board.operators, *board.groups} if word and text in word.lower()}
        reasons = _mask(board, board.store.tasks_that_say(text))
        return array(
            "i",
            (
                place
                for place in places
                if text in board.name(place).lower()
                or board.codes[place] in letters
                or board.operators[place] in others
                or board.groups[place] in others
                or reasons[place]
            ),
        )


def _mask(board: Board, rows: Iterable[int]) -> bytearray:
    """Return a byte for each place: whether its task is among some, by their rows in the database."""
    mask = bytearray(len(board))
    for place in map(board.place, rows):
        if place is not None:
            mask[place] = 1
    return mask


def _by_name(board: Board, places: Sequence[int], down: bool) -> Sequence[int]:
    """Return places in the order of names: in parts, since a sort stops all else as long as it takes."""

    def key(place: int) -> str:
        return _by_number(f"{board.iterations[place]} {board.names[place]}")

    starts = range(0, len(places), _AT_ONCE)
    parts = [array("i", sorted(places[at : at + _AT_ONCE], key=key, reverse=down)) for at in starts]
    return parts[0] if len(parts) == 1 else array("i", heapq.merge(*parts, key=key, reverse=down))


def _by_value(places: Sequence[int], value: Callable[[int], Any], down: bool) -> Sequence[int]:
    """Return places in the order of values of which there are few."""
    alike: dict[Any, array[int]] = {}
    for place in places:
        one = value(place)
        if one not in alike:
            alike[one] = array("i")
        alike[one].append(place)
    last = alike.pop(None, array("i"))
    return array("i", itertools.chain(*(alike[one] for one in sorted(alike, reverse=down)), last))


def _by_store(board: Board, places: Sequence[int], by: str, down: bool) -> Sequence[int]:
    mask = _mask(board, map(board.ids.__getitem__, places))
    found = map(board.place, board.store.tasks_sorted(by, down=down))
    return array("i", (place for place in found if place is not None and mask[place]))


#: Columns of which the board knows what each task has in it; by the others the database sorts.
_SORTED_HERE: dict[str, Callable[[Board], Callable[[int], Any]]] = {
    "status": lambda board: lambda place: BY_CODE[chr(board.codes[place])].name,
    "operator": lambda board: board.operators.__getitem__,
    "group": lambda board: board.groups.__getitem__,
    "iteration": lambda board: board.iterations.__getitem__,
}


def _by_number(name: str) -> str:
    """Return a name as it is sorted: ``t2`` before ``t10``."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), name)


class TableView(PanelView):
    """The tasks of a run as a table that is filtered and sorted, whose columns are chosen, dragged and moved.

    Pages that show the same table share its filter, its order and its columns.

    Parameters
    ----------
    run : Run
    """

    _esm = script(*PANEL, "table.js")
    #: What the values of a row are.
    places: Any = traitlets.List([column.name for column in COLUMNS]).tag(sync=True)
    #: What is shown of them, in which order.
    columns: Any = traitlets.List().tag(sync=True)
    #: What the page that asked last wants to see.
    asked: Any = traitlets.Dict().tag(sync=True)
    #: The rows around those in sight, and what is to be said of all.
    window: Any = traitlets.Dict().tag(sync=True)
    page_may_change = PanelView.page_may_change | {"columns", "asked"}

    def __init__(self, run: Run) -> None:
        self.run = run
        self._attach()
        self._order: Sequence[int] = ()
        self._worker: threading.Thread | None = None
        self._one_at_a_time = threading.RLock()
        self._about: dict[str, Any] = {}
        self._find_again_at = 0.0
        self._later: asyncio.TimerHandle | None = None
        super().__init__(
            run,
            columns=[
                {"name": column.name, "width": self._width(column), "kind": column.kind, "shown": True}
                for column in COLUMNS
            ],
            asked={"first": 0},
        )

    def _width(self, column: Column) -> int:
        """Return how wide a column is at first: that of the names as these are, within reason."""
        if column.name != "task":
            return column.width
        longest = max(map(len, self.board.names), default=0)
        return min(max(_PER_LETTER * (longest + 4), 110), 230)

    def take(self, news: News) -> None:
        """Show what changed: the rows in sight at once, what they are among as often as can be borne."""
        if time.monotonic() >= self._find_again_at:
            self._find()
        else:
            self._show()
            self._find_later()
        if self.selected and any(card.name == self.selected for card in news.changed):
            self._tell()

    def _find(self) -> None:
        """Go through all tasks; where they are many, beside everything else."""
        question = Question.of(self.asked)
        loop = self.follower.loop
        if question == Question() or len(self.board) <= _MANY or loop is None or not loop.is_running():
            self._answered(question, time.monotonic(), question.answer(self.board))
        elif self._worker is None:
            self._worker = threading.Thread(target=self._find_beside, args=(question,), daemon=True)
            self._worker.start()

    def _find_beside(self, question: Question) -> None:
        begun = time.monotonic()
        try:
            order = question.answer(self.board)
        except MatterstackError:  # moved, or its disk is away for a moment: the view stays as it is
            order = self._order
        finally:
            self._worker = None
        self._answered(question, begun, order)

    def _answered(self, question: Question, begun: float, order: Sequence[int]) -> None:
        """Show what was found, unless something else was asked meanwhile."""
        now = time.monotonic()
        self._find_again_at = now + (now - begun) / _SHARE
        if question != Question.of(self.asked):
            self._find()
            return
        board = self.board
        counts = board.counts
        self._order = order
        self._about = {
            "found": counts.total() if order == range(len(board)) else len(order),
            "total": counts.total(),
            "statuses": {look.name: counts[look.code] for look in LOOKS if counts[look.code]},
            "iterations": sorted(set(board.iterations)),
        }
        self._show()

    def _find_later(self) -> None:
        if self._later is not None:
            return

        def find() -> None:
            self._later = None
            self._find()

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # outside a notebook nobody looks
        self._later = loop.call_later(max(0.0, self._find_again_at - time.monotonic()), find)

    def _show(self) -> None:
        with self._one_at_a_time:  # what is shown last is what is true last
            first = max(0, min(self.asked["first"] - _BEFORE, len(self._order) - WINDOW))
            rows = self._values(first, WINDOW)
            self.window = {**self._about, "first": first, "rows": rows, "number": self.asked["number"]}

    def _values(self, first: int, most: int) -> list[list[Any]]:
        cards = self.board.cards(self._order[first : first + most])
        return [[column.value(card) for column in COLUMNS] for card in cards]

    @traitlets.validate("asked")
    def _understood(self, proposal: Any) -> dict[str, Any]:
        """Return what a page asks, without what makes no sense in it."""
        asked = proposal["value"]
        first, number = asked.get("first"), asked.get("number")
        return {
            **Question.of(asked)._asdict(),
            "first": first if isinstance(first, int) else 0,
            "number": number if isinstance(number, str) else "",
        }

    @traitlets.observe("asked")
    def _answer(self, change: Any) -> None:
        if not self._about or Question.of(change["old"]) != Question.of(change["new"]):
            self._find()
        else:
            self._show()

    @traitlets.validate("columns")
    def _arranged(self, proposal: Any) -> Any:
        """Return the order, the widths and the choice of columns that a page wants; each is there exactly once."""
        said = {c["name"]: c for c in proposal["value"] if isinstance(c, dict) and c.get("name") in _BY_NAME}
        if not self.columns:
            return proposal["value"]  # it is being made
        known = {column["name"]: column for column in self.columns}
        arranged = []
        for name in [*said, *(name for name in known if name not in said)]:
            width, shown = (said.get(name, {}).get(key, known[name][key]) for key in ("width", "shown"))
            width = width if isinstance(width, int | float) else known[name]["width"]
            width = int(min(max(width, _NARROWEST), _WIDEST))
            arranged.append({**known[name], "width": width, "shown": shown is True})
        return arranged if any(column["shown"] for column in arranged) else self.columns

    def twin_html(self) -> str:
        """Return the first rows as an HTML table."""
        head = "".join(f"<th style='text-align:left'>{column.name}</th>" for column in COLUMNS)
        lines = []
        for row in self._values(0, _MOST_STILL):
            cells = (_still(column, value) for column, value in zip(COLUMNS, row, strict=True))
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = len(self._order) - _MOST_STILL
        rest = f"<p>... and {more} more; run.tasks has all of them</p>" if more > 0 else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        return f"<div style='overflow-x:auto'>{table}</div>{rest}"


def _still(column: Column, value: Any) -> str:
    text = "" if value is None else escape(format_time(value) if column.kind == "time" else str(value))
    mark = f"{glyph(_BY_STATUS[value])} " if column.kind == "status" else ""
    wrap = "" if column.kind == "rest" else ";white-space:nowrap"
    return f"<td style='text-align:left{wrap}'>{mark}{text}</td>"
