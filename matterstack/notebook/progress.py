"""Progress of a run, shown while a cell waits, or beside the cells that go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from matterstack.core.results import TickReport
from matterstack.core.states import RunStatus
from matterstack.notebook.standing import Standing
from matterstack.notebook.summary import bar_html, describe_counts

if TYPE_CHECKING:
    from matterstack.run import Run

_EVERY_S = 0.25


def _line(run: Run) -> str:
    record, counts, *_ = overview = run.overview
    line = f"{record.run_id} {record.status}: iteration {record.iteration}, {describe_counts(counts)}"
    if record.iteration:
        line += f"; all iterations, {describe_counts(Standing(overview, run.store.iterations()).counts)}"
    if record.status in (RunStatus.FAILED, RunStatus.PAUSED):
        line += "; run.explain() says why"
    return line


def _html(run: Run) -> str:
    return f"{bar_html(run.overview.counts)}<div>{escape(_line(run))}</div>"


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class Progress:
    """Progress that is shown as often as an eye can follow.

    Parameters
    ----------
    run : Run
    draw : callable
        Draws it once.
    """

    def __init__(self, run: Run, draw: Callable[[], None]) -> None:
        self.run = run
        self.draw = draw
        self._drawn_at = self._looked_at = 0.0

    def show(self, report: TickReport) -> None:
        """Show what a tick did."""
        now = time.monotonic()
        if now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            self.draw()
            self.look()

    def look(self) -> bool:
        """Let open views follow while a cell blocks the loop on which they otherwise do; say that waiting goes on."""
        now = time.monotonic()
        if now - self._looked_at >= _EVERY_S:
            self._looked_at = now
            _refresh_views(self.run)
        return False


@contextmanager
def progress(run: Run) -> Iterator[Progress]:
    """Show progress while the block runs.

    Yields
    ------
    Progress
    """
    draw, finish = _drawer(run)
    try:
        yield Progress(run, draw)
    finally:
        finish()
        _refresh_views(run)


def _refresh_views(run: Run) -> None:
    if "matterstack.notebook.follower" in sys.modules:
        from matterstack.notebook.follower import live_followers

        for follower in live_followers(run.path):
            follower.look()


def _drawer(run: Run) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what draws the progress, and what draws it for the last time."""
    if in_notebook():
        from IPython.display import display

        handle: Any = None

        def draw() -> None:
            nonlocal handle
            bundle = {"text/html": _html(run), "text/plain": _line(run)}
            if handle is None:
                handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            else:
                handle.update(bundle, raw=True)

        return draw, draw
    if sys.stderr is not None and sys.stderr.isatty():

        def write() -> None:
            sys.stderr.write(f"\r\x1b[2K{_line(run)}")
            sys.stderr.flush()

        def end() -> None:
            write()
            sys.stderr.write("\n")

        return write, end
    return lambda: None, lambda: None
