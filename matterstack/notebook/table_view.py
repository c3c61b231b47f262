"""The table of a run's tasks as a widget: filtered and sorted in the kernel, a page gets the rows in sight."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import traitlets

from matterstack.core.text import format_time, neutral
from matterstack.notebook.assets import PANEL, script
from matterstack.notebook.board import Card, News
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

    def answer(self, cards: Sequence[Card]) -> list[int]:
        """Return the rows of the tasks that are wanted, in the order that is wanted; what has no value comes last.

        Of a million tasks a sort takes seconds: what is done for each of them is done by Python's own functions.
        """
        if self.status:
            cards = [card for card in cards if BY_CODE[card.code].name == self.status]
        if self.iteration:
            cards = [card for card in cards if str(card.iteration) == self.iteration]
        if self.text:
            cards = [card for card in cards if self.text in _searched(card)]
        if self.by:
            values = list(map(_by_number if self.by == "task" else _BY_NAME[self.by].value, cards))
            places = [place for place, value in enumerate(values) if value is not None]
            places.sort(key=values.__getitem__, reverse=self.down)
            places += [place for place, value in enumerate(values) if value is None]
            cards = [cards[place] for place in places]
        return [card.id for card in cards]


def _searched(card: Card) -> str:
    parts = (card.name, BY_CODE[card.code].name, card.operator, card.group or "", card.reason or "")
    return "\n".join(parts).lower()


def _by_number(card: Card) -> str:
    """Return a name as it is sorted: ``t2`` before ``t10``."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), f"{card.iteration} {card.task_id}")


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
        self._order: list[int] = []
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
        longest = max((len(card.task_id) for card in self.board.cards.values()), default=0)
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
        """Go through all tasks."""
        begun = time.monotonic()
        cards = list(self.board.cards.values())
        counts = Counter(card.code for card in cards)
        self._order = Question.of(self.asked).answer(cards)
        self._about = {
            "found": len(self._order),
            "total": len(cards),
            "statuses": {look.name: counts[look.code] for look in LOOKS if counts[look.code]},
            "iterations": sorted({card.iteration for card in cards}),
        }
        now = time.monotonic()
        self._find_again_at = now + (now - begun) / _SHARE
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
        first = max(0, min(self.asked["first"] - _BEFORE, len(self._order) - WINDOW))
        cards = self.board.cards
        rows = [[column.value(cards[row]) for column in COLUMNS] for row in self._order[first : first + WINDOW]]
        self.window = {**self._about, "first": first, "rows": rows, "number": self.asked["number"]}

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
        cards = self.board.cards
        for row in self._order[:_MOST_STILL]:
            cells = (_still(column, cards[row]) for column in COLUMNS)
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = len(self._order) - _MOST_STILL
        rest = f"<p>... and {more} more; run.tasks has all of them</p>" if more > 0 else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        return f"<div style='overflow-x:auto'>{table}</div>{rest}"


def _still(column: Column, card: Card) -> str:
    value = column.value(card)
    text = "" if value is None else escape(format_time(value) if column.kind == "time" else str(value))
    mark = f"{glyph(BY_CODE[card.code])} " if column.kind == "status" else ""
    wrap = "" if column.kind == "rest" else ";white-space:nowrap"
    return f"<td style='text-align:left{wrap}'>{mark}{text}</td>"
