"""Bars of a timeline: the attempts of a run, each in lanes of its own, kept up to date by what changed."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from matterstack.core.text import neutral
from matterstack.notebook.follower import Follower
from matterstack.orchestration.time_spent import AT_ONCE, BY, Spending, TimeSpent, is_live, key_of
from matterstack.storage.reader import StoreReader
from matterstack.storage.rows import TimeRow

#: So many attempts are drawn, the last ones; what was spent is counted of all.
MOST_BARS = 20_000


class Bar(NamedTuple):
    """An attempt, and where it lies.

    Attributes
    ----------
    row : TimeRow
    lanes : tuple of int
        Its lane among the attempts that have the same function, operator, iteration or group, in the order of `BY`.
    turn : int
        At which change of the bars it became what it is.
    """

    row: TimeRow
    lanes: tuple[int, ...]
    turn: int

    @property
    def task(self) -> str:
        """``<iteration>.<task_id>``."""
        return f"{self.row.iteration}.{self.row.task_id}"


class _Lanes:
    """Lanes of attempts that have something in common: each takes the first that is free when it is submitted."""

    def __init__(self) -> None:
        self.count = 0
        self._free: list[int] = []
        self._ends: list[tuple[float, int]] = []

    def take(self, at: float) -> int:
        while self._ends and self._ends[0][0] <= at:
            heapq.heappush(self._free, heapq.heappop(self._ends)[1])
        if self._free:
            return heapq.heappop(self._free)
        self.count += 1
        return self.count - 1

    def leave(self, lane: int, at: float) -> None:
        heapq.heappush(self._ends, (at, lane))


class Bars:
    """The attempts of a run, as all timelines of it in a kernel show them.

    Parameters
    ----------
    store : StoreReader

    Attributes
    ----------
    bars : dict
        By the row of the attempt; what changed last stands last.
    origin : float
        When the first attempt was submitted, in seconds since the Unix epoch; 0 where there is none.
    total : int
        How many attempts there are.
    turn : int
        How often something has changed.
    words : list of str
        Texts that many rows of a page have in common; there are only ever more of them.
    """

    def __init__(self, store: StoreReader) -> None:
        self.store = store
        self.bars: dict[int, Bar] = {}
        self.origin = 0.0
        self.total = self.turn = 0
        self.words: list[str] = []
        self._places: dict[str, int] = {}
        self._live: dict[int, Bar] = {}
        self._spent = TimeSpent()
        self._lanes: dict[tuple[str, str | int], _Lanes] = {}
        self._stamp: tuple[int, ...] | None = None
        self._seq = self._last = 0
        self._first = 1
        self._lock = threading.Lock()  # a kernel may answer a page on a thread of its own

    def refresh(self) -> None:
        """Take in what changed since the last time; next to nothing is read when nothing did."""
        with self._lock:
            stamp = self.store.stamp()
            if stamp == self._stamp:
                return
            before = self._last
            with self.store.reading():
                seq = self.store.last_event()
                moved = self._take(self.store.times_changed(self._seq, before)) if before else 0
                while fresh := self.store.times(after=self._last, at_most=AT_ONCE):
                    moved += self._take(fresh)
            self._stamp, self._seq = stamp, seq
            self.turn += bool(moved)

    def _take(self, rows: Iterable[TimeRow]) -> int:
        """Take in rows; return how many had something new in them."""
        taken = 0
        for row in rows:
            was = self._live.pop(row.id, None)
            if row.id > self._last:
                self.origin = self.origin or row.submitted_at
                self.total, self._last = self.total + 1, row.id
                lanes = tuple(self._lanes_of(by, row).take(row.submitted_at) for by in BY)
            elif was is not None:
                lanes = was.lanes
            else:
                continue  # it was over before: now it was cleaned, or packed
            taken += 1
            bar = Bar(row, lanes, self.turn + 1)
            if is_live(row):
                self._live[row.id] = bar
            else:
                self._spent.add(row)
                for by, lane in zip(BY, lanes, strict=True):
                    self._lanes_of(by, row).leave(lane, row.ended_at or row.submitted_at)
            self.bars.pop(row.id, None)
            self.bars[row.id] = bar
        while self._first <= self._last - MOST_BARS:
            self.bars.pop(self._first, None)
            self._first += 1
        return taken

    def _lanes_of(self, by: str, row: TimeRow) -> _Lanes:
        key = (by, key_of(row, by))
        if (lanes := self._lanes.get(key)) is None:
            lanes = self._lanes[key] = _Lanes()
        return lanes

    @property
    def lives(self) -> bool:
        """Whether an attempt is not over, so that its bar grows."""
        return bool(self._live)

    def spent(self, by: str, now: float) -> list[tuple[str | int, Spending]]:
        """Return what was spent up to a moment; see `TimeSpent.by`."""
        with self._lock:
            return self._spent.by(by, [bar.row for bar in self._live.values()], now)

    # -- as a page gets them --------------------------------------------------------------

    def since(self, turn: int, word: int, now: float) -> dict[str, Any]:
        """Return what has changed since a turn, and the words from a place on.

        Parameters
        ----------
        turn : int
            0 for all.
        word : int
            How many words are known.
        now : float
            Seconds since the Unix epoch, as the clock here shows them.
        """
        with self._lock:
            rows = [self._row(bar) for bar in self._changed(turn)]
            said = {"turn": self.turn, "after": turn, "now": now, "origin": self.origin, "total": self.total}
            return {**said, "rows": rows, "word": word, "words": self.words[word:]}

    def _changed(self, turn: int) -> list[Bar]:
        found = itertools.takewhile(lambda bar: bar.turn > turn, reversed(self.bars.values()))
        return sorted(found, key=lambda bar: bar.row.id)

    def _row(self, bar: Bar) -> list[Any]:
        row = bar.row
        times = [
            None if at is None else round(at - self.origin, 3)
            for at in (row.submitted_at, row.started_at, row.ended_at)
        ]
        keys = [key if isinstance(key, int) else self._word(key) for key in (key_of(row, by) for by in BY)]
        return [row.id, neutral(bar.task), row.attempt, self._word(row.status), *times, *keys, *bar.lanes]

    def _word(self, text: str) -> int:
        """Return the place of a text among the words."""
        place = self._places.setdefault(text, len(self.words))
        if place == len(self.words):
            self.words.append(neutral(text))
        return place


_bars: WeakKeyDictionary[Follower, Bars] = WeakKeyDictionary()


def bars_of(follower: Follower) -> Bars:
    """Return the bars of the run that a follower follows: all its timelines share them, and read once."""
    if (bars := _bars.get(follower)) is None:
        bars = _bars[follower] = Bars(follower.run.store)
    return bars
