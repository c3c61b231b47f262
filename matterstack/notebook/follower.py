"""Views that follow a run: an asyncio task on the kernel's loop that reads only what changed."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from matterstack.errors import MatterstackError
from matterstack.notebook.board import Board, News
from matterstack.notebook.drawing import Shape

if TYPE_CHECKING:
    from matterstack.run import Run

_EVERY_S = 0.25
_ABANDONED_S = 60.0


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
        self.board.refresh()
        self._shape: Shape | None = None
        self.views: weakref.WeakSet[Follows] = weakref.WeakSet()
        self.seen_at = time.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def shape(self) -> Shape:
        """What there is to be drawn of the run: worked out once for all its graphs, until there are new tasks."""
        if self._shape is None or len(self._shape.chosen) != len(self.board):
            self._shape = Shape(self.board)
        return self._shape

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
            await asyncio.sleep(_EVERY_S)

    def look(self) -> None:
        """Tell the views what changed since the last look."""
        try:
            news = self.board.refresh()
            for view in list(self.views):
                if news:
                    view.take(news)
                view.glance(news)
        except MatterstackError:
            return  # moved, or its disk is away for a moment: the views stay as they are


_followers: dict[Path, weakref.ref[Follower]] = {}


def follower_of(run: Run) -> Follower:
    """Return the follower of a run in this kernel; views hold it, and it goes with the last of them."""
    known = _followers.get(run.path)
    follower = known() if known is not None else None
    if follower is None:
        follower = Follower(run)
        _followers[run.path] = weakref.ref(follower)
    return follower


def live_followers(path: Path) -> Iterator[Follower]:
    """Yield the follower of a run, where views of it are open in this kernel."""
    known = _followers.get(path)
    follower = known() if known is not None else None
    if follower is not None and follower.views:
        yield follower
