"""How far a run has come, shown while a cell waits, or beside the cells that go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from matterstack.core.records import TickReport
from matterstack.core.states import TERMINAL_RUN
from matterstack.errors import MatterstackError
from matterstack.notebook.summary import bar_html, describe_counts

if TYPE_CHECKING:
    from matterstack.orchestration.run import Run

_EVERY_S = 0.25
_WATCH_S = 1.0


def _line(run: Run) -> str:
    record, counts, _ = run.overview
    return f"{record.run_id} {record.status}: iteration {record.iteration}, {describe_counts(counts)}"


def _html(run: Run) -> str:
    return f"{bar_html(run.overview.counts)}<div>{escape(_line(run))}</div>"


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


@contextmanager
def progress(run: Run) -> Iterator[Callable[[TickReport], None]]:
    """Show progress while the block runs, as often as an eye can follow.

    Yields
    ------
    callable
        To be called with each TickReport.
    """
    draw, finish = _drawer(run)
    last = 0.0

    def show(report: TickReport) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY_S:
            last = now
            draw()

    try:
        yield show
    finally:
        finish()


def _drawer(run: Run) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what draws the progress, and what draws it for the last time."""
    if _in_notebook():
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


def watch(run: Run) -> Any:
    """Show the run and follow it in the background until it ends; return the widget.

    Outside a notebook the run itself is returned: its text says the same once.
    """
    if not _in_notebook():
        return run
    import asyncio

    import ipywidgets

    view = ipywidgets.HTML(_html(run))

    async def follow() -> None:
        try:
            while run.status not in TERMINAL_RUN:
                await asyncio.sleep(_WATCH_S)
                view.value = _html(run)
        except MatterstackError as error:
            view.value = f"<div>{escape(str(error))}</div>"

    # The view keeps the task: asyncio itself holds tasks weakly.
    view.follower = asyncio.get_running_loop().create_task(follow())
    return view
