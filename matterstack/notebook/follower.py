"""Views that follow a run: an asyncio task on the kernel's loop that reads only what changed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.errors import MatterstackError
from matterstack.notebook.board import Board, News, Tasks
from matterstack.notebook.columns import gives_numbers
from matterstack.notebook.drawing import Shape

if TYPE_CHECKING:
    from matterstack.core.snapshot import OperatorTrouble
    from matterstack.notebook.inbox import Inbox
    from matterstack.orchestration.overview import Overview
    from matterstack.run import Run
    from matterstack.storage.reader import StoreReader
    from matterstack.storage.rows import EventRow, IterationRow

_EVERY_S = 0.25
#: Where nothing has changed for a while it is looked less often; a change is still seen within half a second.
_AT_REST_S = 0.45
_RESTS_AFTER_S = 10.0
_ABANDONED_S = 60.0
#: Runs with more tasks are read in a thread: they take longer than one waits for a first picture.
_MOST_AT_ONCE = 50_000
#: Tasks that a view of such a run shows at first.
_FIRST = 300
_MOST_EVENTS = 200

#: So many results are looked at each time for one with a number in it.
_PEEKED = 50


class Follows:
    """A view that is told what changed. It says `here` for as long as somebody may see it."""

    def here(self) -> None:
        """Note that somebody may see the view."""
        self.follower.seen_at = time.monotonic()
        self.follower.start()

    follower: Follower

    def take(self, news: News) -> None:
        """Show what changed."""
        raise NotImplementedError

    def glance(self, news: News) -> None:
        """Show what changes without a change of any task: what one writes. Called at each look."""


class Account(NamedTuple):
    """What a cockpit tells of its run beside the tasks.

    Attributes
    ----------
    read_at : float
        By the clock of `time.monotonic`, just before it was read.
    overview : Overview
    iterations : list of IterationRow
    started_at, ended_at : float or None
        In seconds since the Unix epoch; None where it has not.
    events : list of EventRow
        The last ones.
    inbox : Inbox
    troubles : dict of str to OperatorTrouble
        Operators that cannot be asked now.
    stopping : bool
        It is over, and something of it has not ended yet.
    """

    read_at: float
    overview: Overview
    iterations: list[IterationRow]
    started_at: float | None
    ended_at: float | None
    events: list[EventRow]
    inbox: Inbox
    troubles: dict[str, OperatorTrouble]
    stopping: bool


class Reading(threading.Thread):
    """A board that is filled beside the kernel, and with it what there is to be drawn, where that is wanted.

    Parameters
    ----------
    store : StoreReader
    done : callable
        Called in this thread at its end.
    """

    def __init__(self, store: StoreReader, done: Callable[[], object]) -> None:
        super().__init__(daemon=True, name="matterstack-reading")
        self.board = Board(store)
        self.draws = False
        self.shape: Shape | None = None
        self.over = False
        self._done = done

    def run(self) -> None:
        """Read all tasks; what cannot be read now is read by the next look."""
        with contextlib.suppress(MatterstackError):
            self.board.refresh()
            if self.draws:
                self.shape = Shape(self.board)
        self.over = True
        self._done()


class Follower:
    """What keeps the views of a run in a kernel up to date.

    It stops by itself when no page has shown a view for a minute, and starts again when one
    does.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.board = Board(run.store)
        self._shape: Shape | None = None
        self._account: Account | None = None
        self._reading: Reading | None = None
        self._gives_numbers = False
        self._peeked = 0
        self._peeked_at: tuple[int, ...] | None = None
        self.views: weakref.WeakSet[Follows] = weakref.WeakSet()
        self.seen_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.changed_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """Read the tasks; of a large run the first ones, and all of them in a thread where there is a loop to go on."""
        with contextlib.suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()
        if self.loop is None or sum(row.counts.total for row in self.run.store.iterations()) <= _MOST_AT_ONCE:
            self.board.refresh()
            return
        self.board.begin(_FIRST)
        look = functools.partial(self.loop.call_soon_threadsafe, self.look)
        self._reading = Reading(self.run.store, look)
        self._reading.start()

    def settle(self) -> None:
        """Wait until all tasks are read."""
        if self._reading is not None:
            self._reading.join()
            self.look()

    @property
    def reads(self) -> bool:
        """Whether the tasks are being read yet: there are the first ones, and their counts."""
        return self._reading is not None

    @property
    def shape(self) -> Shape:
        """What there is to be drawn of the run: worked out once for all its graphs, until there are new tasks."""
        if self._reading is not None:
            self._reading.draws = True
            return Shape(Tasks())
        if self._shape is None or len(self._shape.chosen) != len(self.board):
            self._shape = Shape(self.board)
        return self._shape

    @property
    def account(self) -> Account:
        """What a cockpit tells beside the tasks: read once for all of them, and again when anything changed."""
        if self._account is None:
            read_at, store = time.monotonic(), self.run.store
            overview = self.run.overview
            status = overview.record.status
            self._account = Account(
                read_at,
                overview,
                store.iterations(),
                store.moved_at(),
                store.moved_at(last=True) if status in TERMINAL_RUN else None,
                store.events_after(0, _MOST_EVENTS),
                self.run.inbox(),
                store.troubles(),
                status is RunStatus.CANCELLED and bool(store.live_attempts()),
            )
        return self._account

    @property
    def gives_numbers(self) -> bool:
        """Whether a task has given a number, as far as results were looked at: a few more after each change."""
        if not self._gives_numbers and self._peeked_at != self.board.stamp:
            self._peeked_at = self.board.stamp
            self._peeked, rows = self.run.store.given_after(self._peeked, _PEEKED)
            self._gives_numbers = any(map(gives_numbers, rows))
        return self._gives_numbers

    def look_again(self) -> None:
        """Have what is told of the run read again: something was done that the database may not know of."""
        self._account = None

    def attach(self, view: Follows) -> None:
        """Keep a view up to date from now on."""
        view.follower = self
        self.views.add(view)
        self.seen_at = time.monotonic()
        self.start()

    def start(self) -> None:
        """Follow in the background, where there is a loop; a view outside a notebook stays as it is."""
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            # A callback of some kernels runs in a thread of its own: the loop is the one known before.
            if self.loop is not None and self.loop.is_running() and (self.task is None or self.task.done()):
                self.loop.call_soon_threadsafe(self._start)
            return
        self._start()

    def _start(self) -> None:
        if (self.task is None or self.task.done()) and self.loop is not None:
            self.task = self.loop.create_task(self._follow())

    async def _follow(self) -> None:
        while self.views and time.monotonic() - self.seen_at < _ABANDONED_S:
            self.look()
            rests = time.monotonic() - self.changed_at > _RESTS_AFTER_S
            await asyncio.sleep(_AT_REST_S if rests else _EVERY_S)

    def look(self) -> None:
        """Tell the views what changed since the last look."""
        try:
            news = self._news()
            if news is None:
                return
            for view in list(self.views):
                if news:
                    view.take(news)
                view.glance(news)
        except MatterstackError:
            return  # moved, or its disk is away for a moment: the views stay as they are

    def _news(self) -> News | None:
        """Return what changed; None while the tasks are being read."""
        if self._reading is not None:
            if not self._reading.over:
                return None
            self.board, self._shape = self._reading.board, self._reading.shape
            self._reading = self._account = None
            self.board.refresh()
            return News([], True)
        before = self.board.stamp
        news = self.board.refresh()
        if self.board.stamp != before:
            self.changed_at = time.monotonic()
            self._account = None
        return news


_followers: dict[Path, weakref.ref[Follower]] = {}


def follower_of(run: Run) -> Follower:
    """Return the follower of a run in this kernel; views hold it, and it goes with the last of them."""
    known = _followers.get(run.path)
    follower = known() if known is not None else None
    if follower is None:
        follower = Follower(run)
        _followers[run.path] = weakref.ref(follower)
    else:
        follower.look()  # a new view begins with what is true now
    return follower


def live_followers(path: Path) -> Iterator[Follower]:
    """Yield the follower of a run, where views of it are open in this kernel."""
    known = _followers.get(path)
    follower = known() if known is not None else None
    if follower is not None and follower.views:
        yield follower
