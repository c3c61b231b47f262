"""The tasks of a run as views show them, kept up to date by what changed."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from matterstack.core.snapshot import IterationCounts
from matterstack.notebook.statuses import LOOKS, code_of
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TaskColumns, TaskRow, asks

#: Tasks are read so many at a time: of a million, what SQLite says would take more memory than what is kept of it.
_AT_ONCE = 20_000
#: So many tasks are kept as they were told of: more than all pages of a run have in sight.
_MOST_TOLD = 20_000


class Card(NamedTuple):
    """A task, as views show it."""

    id: int
    iteration: int
    task_id: str
    code: str
    operator: str
    attempt: int
    group: str | None
    reason: str | None
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    exit_code: int | None

    @property
    def name(self) -> str:
        """``<iteration>.<task_id>``, as `Run.tasks` calls it."""
        return f"{self.iteration}.{self.task_id}"


class News(NamedTuple):
    """What a refresh found: tasks that changed, whether there are new ones, and tasks of which more may be told."""

    changed: list[Card]
    grown: bool
    touched: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changed) or self.grown


class Tasks:
    """Tasks in columns, in the order of the plan: a million of them take a hundred megabytes.

    Attributes
    ----------
    ids : array of int
        Their rows in the database, which rise.
    iterations : array of int
    names : list of str
        Their ``task_id``.
    codes : bytearray
        How each looks, a letter of `LOOKS`.
    operators : list of str
    groups : list of str or None
    """

    def __init__(self) -> None:
        self.ids = array("q")
        self.iterations = array("q")
        self.names: list[str] = []
        self.codes = bytearray()
        self.operators: list[str] = []
        self.groups: list[str | None] = []

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def edges(self) -> tuple[array[int], array[int]]:
        """Which task waits for which, by their places: what is waited for, and what waits, in its order."""
        return array("q"), array("q")

    def name(self, place: int) -> str:
        """Return ``<iteration>.<task_id>``."""
        return f"{self.iterations[place]}.{self.names[place]}"

    def place(self, row: int) -> int | None:
        """Return where the task of a row in the database stands in these columns."""
        place = bisect_left(self.ids, row)
        return place if place < len(self.ids) and self.ids[place] == row else None

    @property
    def counts(self) -> Counter[str]:
        """How many tasks look how."""
        return count(self.codes)


def count(codes: bytes | bytearray) -> Counter[str]:
    """Return how many letters there are of each look."""
    return +Counter({look.code: codes.count(look.code.encode()) for look in LOOKS})


def all_of(codes: bytes | bytearray, letter: str) -> Iterator[int]:
    """Yield where a letter stands."""
    at = codes.find(wanted := letter.encode())
    while at >= 0:
        yield at
        at = codes.find(wanted, at + 1)


class Board(Tasks):
    """The tasks of a run: in memory is what every drawing needs; the rest is read of those that are shown.

    Parameters
    ----------
    store : StoreReader
    """

    def __init__(self, store: StoreReader) -> None:
        super().__init__()
        self.store = store
        #: For each iteration of a run of which only the first tasks were read: how many look how.
        self._begun: dict[int, Counter[str]] = {}
        self._edges: tuple[array[int], array[int]] | None = None
        #: Of the database, as it was looked at last.
        self.stamp: tuple[int, ...] | None = None
        self._seq = 0
        self._told: dict[int, Card] = {}
        self._telling = threading.Lock()
        self._named: dict[str, int | None] = {}
        self._same = _Same()

    def begin(self, most: int) -> None:
        """Read the first tasks only, and how many there are: what can be shown of any run at once."""
        self._begun = {row.iteration: _looks(row.counts) for row in self.store.iterations()}
        self._add(self.store.task_columns(0, most))

    @property
    def counts(self) -> Counter[str]:
        """How many tasks look how; of a run that is being read yet, those that run or wait count as submitted."""
        return sum(self._begun.values(), Counter()) if self._begun else super().counts

    def refresh(self) -> News:
        """Take in what changed since the last time; next to nothing is read when nothing did."""
        stamp = self.store.stamp()
        if stamp == self.stamp:
            return News([], False)
        with self.store.reading():
            known = len(self)
            last = self._last()
            seq, rows = self.store.tasks_changed(self._seq) if known else (self.store.last_event(), [])
            while (fresh := self.store.task_columns(self._last(), _AT_ONCE)).id:
                self._add(fresh)
            if self._edges is not None and len(self) > known:
                self._add_edges(last)
        changed = [card for card in map(_card, rows) if card.id <= last and self._is_news(card)]
        self.stamp, self._seq = stamp, seq
        if len(self) > known:
            self._named.clear()
        return News(changed, len(self) > known, frozenset(row.id for row in rows))

    def _last(self) -> int:
        return self.ids[-1] if self.ids else 0

    def _add(self, fresh: TaskColumns) -> None:
        self.ids.extend(fresh.id)
        self.iterations.extend(fresh.iteration)
        self.names += fresh.task_id
        self.codes += _codes(fresh)
        self.operators += map(self._same.__getitem__, fresh.operator)
        self.groups += map(self._same.__getitem__, fresh.group)

    def _is_news(self, card: Card) -> bool:
        """Take in how a task stands; return whether a view may have shown it otherwise."""
        place = self.place(card.id)
        if place is None:
            return False
        before, now = self.codes[place], ord(card.code)
        self.codes[place] = now
        with self._telling:
            told = self._told.get(card.id)
            if told is not None:
                self._told[card.id] = card
        return before != now or (told is not None and told != card)

    @property
    def edges(self) -> tuple[array[int], array[int]]:
        """Which task waits for which; read when it is first asked for, which no table does."""
        if self._edges is None:
            self._edges = (array("q"), array("q"))
            self._add_edges(0)
        return self._edges

    def _add_edges(self, after: int) -> None:
        assert self._edges is not None
        for places, rows in zip(self._edges, self.store.edge_columns(after, self._last()), strict=True):
            places.extend(self._places(rows))

    def _places(self, rows: Sequence[int]) -> Iterable[int]:
        """Return where the tasks of rows stand: rows follow each other, but in a database that somebody else made."""
        first = self.ids[0] if self.ids else 0
        if self._last() - first == len(self) - 1:
            return (row - first for row in rows)
        return (bisect_left(self.ids, row) for row in rows)

    def cards(self, places: Sequence[int]) -> list[Card]:
        """Return some tasks by their places; those that were shown before are not read again."""
        ids = [self.ids[place] for place in places]
        with self._telling:
            told = {row: self._told[row] for row in ids if row in self._told}
            if missing := [row for row in ids if row not in told]:
                read = {row.id: _card(row) for row in self.store.tasks_of(missing)}
                told.update(read)
                self._told.update(read)
                while len(self._told) > _MOST_TOLD:
                    del self._told[next(iter(self._told))]
        return [told[row] for row in ids]

    def counts_of(self, iteration: int) -> Counter[str]:
        """Return how many tasks of an iteration look how; the iterations follow each other."""
        if self._begun:
            return self._begun.get(iteration, Counter())
        begin, end = bisect_left(self.iterations, iteration), bisect_right(self.iterations, iteration)
        return count(self.codes[begin:end])

    def cards_of(self, rows: Iterable[int]) -> list[Card]:
        """Return some tasks by their rows in the database; those that are not known yet are left out."""
        return self.cards([place for row in rows if (place := self.place(row)) is not None])

    def find(self, name: str) -> Card | None:
        """Return the task of a name as ``0.relax``."""
        if name not in self._named:
            self._named[name] = self._search(name)
        place = self._named[name]
        return None if place is None else self.cards([place])[0]

    def _search(self, name: str) -> int | None:
        iteration, _, task_id = name.partition(".")
        place = -1
        try:
            while True:
                place = self.names.index(task_id, place + 1)
                if str(self.iterations[place]) == iteration:
                    return place
        except ValueError:
            return None


def _looks(counts: IterationCounts) -> Counter[str]:
    """Return how many tasks look how, as far as counters tell: what is submitted may run or wait."""
    numbers = {
        "C": counts.completed,
        "F": counts.failed,
        "S": counts.skipped,
        "N": counts.cancelled,
        "Q": counts.submitted,
        "R": counts.ready,
        "B": counts.pending - counts.ready,
    }
    return +Counter(numbers)


class _Letters(dict[tuple[str, int, str | None, str | None], int]):
    """The letter of each way in which a task may stand: there are few ways, and many tasks."""

    def __missing__(self, key: tuple[str, int, str | None, str | None]) -> int:
        status, unmet, attempt_status, held = key
        code = code_of(status, unmet, attempt_status, asks=asks(status, held), held=held is not None)
        self[key] = ord(code)
        return self[key]


def _codes(fresh: TaskColumns) -> bytes:
    ways = zip(fresh.status, fresh.unmet, fresh.attempt_status, fresh.held, strict=True)
    return bytes(map(_Letters().__getitem__, ways))


class _Same(dict[Any, Any]):
    """Texts that many tasks have in common, each as one object."""

    def __missing__(self, text: Any) -> Any:
        return self.setdefault(text, text)


def _card(row: TaskRow) -> Card:
    return Card(
        row.id,
        row.iteration,
        row.task_id,
        code_of(row.status, row.unmet, row.attempt_status, asks=row.asks, held=row.held is not None),
        row.operator,
        row.attempt,
        row.group,
        row.reason,
        row.submitted_at,
        row.started_at,
        row.ended_at,
        row.exit_code,
    )
