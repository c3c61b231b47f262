"""The timeline of a run as a widget: when each attempt waited and ran, live, and where time went."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import traitlets

from matterstack.errors import MatterstackError
from matterstack.notebook.assets import PANEL, script
from matterstack.notebook.bars import MOST_BARS, Bars, bars_of
from matterstack.notebook.board import News
from matterstack.notebook.statuses import COLOURS_OF_ATTEMPTS
from matterstack.notebook.timeline_picture import HEAD, MOST_KEYS, NAMELESS, label, spent_html, timeline_html, words
from matterstack.notebook.views import PanelView
from matterstack.orchestration.time_spent import BY, check_by

if TYPE_CHECKING:
    from matterstack.run import Run

#: What was spent is told at most so often when attempts change, and so often while one is under way.
_SPENT_EVERY_S, _GROWN_EVERY_S = 1.0, 10.0


def _to_json(bars: Bars | None, _: object) -> str:
    """Return bars as text: a page parses it faster than ipywidgets goes through its parts."""
    return "" if bars is None else json.dumps(bars.since(0, 0, time.time()), separators=(",", ":"))


class TimelineView(PanelView):
    """When each attempt of a run waited and ran.

    A page gets all bars once, and then those that changed; what runs grows there by itself.

    Parameters
    ----------
    run : Run
    by : {'function', 'operator', 'iteration', 'group'}
        What attempts in neighbouring lanes have in common.
    at_once : bool
        Whether attempts are read now, or only when a page shows the view.

    Raises
    ------
    PlotError
        `by` is none of these.
    """

    _esm = script(*PANEL, "timeline.js")
    bars = traitlets.Instance(Bars, allow_none=True).tag(sync=True, to_json=_to_json)
    by = traitlets.Enum(BY, "operator").tag(sync=True)
    #: What was spent: by what, rows of a key, core hours and words of it all, and how many more there are.
    spent = traitlets.Dict().tag(sync=True)
    colours = traitlets.Dict(COLOURS_OF_ATTEMPTS).tag(sync=True)
    head = traitlets.List(list(HEAD)).tag(sync=True)
    nameless = traitlets.Dict(NAMELESS).tag(sync=True)
    most = traitlets.Int(MOST_BARS).tag(sync=True)
    page_may_change = PanelView.page_may_change | {"by"}

    def __init__(self, run: Run, by: str = "operator", *, at_once: bool = True) -> None:
        check_by(by)
        self._turn = self._words = 0
        self._spent_at, self._spent_turn = float("-inf"), 0
        self._loading = threading.Lock()
        self.run = run
        self._attach()
        bars = self._read() if at_once else None
        super().__init__(run, by=by, bars=bars)
        if bars is not None:
            self._tell_spent()

    def _read(self) -> Bars:
        bars = bars_of(self.follower)
        bars.refresh()
        self._turn, self._words = bars.turn, len(bars.words)
        return bars

    def _load(self) -> None:
        """Read attempts, unless they are being read."""
        if self._loading.acquire(blocking=False):
            try:
                if self.bars is None:
                    self.bars = self._read()
                    self._tell_spent()
            except MatterstackError:
                return  # moved, or its disk is away for a moment: a page asks again when it is seen again
            finally:
                self._loading.release()

    def take(self, news: News) -> None:
        """Show nothing yet: `glance` is called next, and looks at attempts."""

    def glance(self, news: News) -> None:
        """Send the bars that changed; what was spent is told less often."""
        if self.bars is None:
            return  # nobody has looked at it yet
        super().glance(news)
        self.bars.refresh()
        if self.bars.turn != self._turn:
            self._push(self.bars)
        since_s = time.monotonic() - self._spent_at
        is_new = self.bars.turn != self._spent_turn
        if since_s >= _SPENT_EVERY_S if is_new else self.bars.lives and since_s >= _GROWN_EVERY_S:
            self._tell_spent()

    def _push(self, bars: Bars) -> None:
        """Send what changed since the last time."""
        said = bars.since(self._turn, self._words, time.time())
        self._turn, self._words = said["turn"], said["word"] + len(said["words"])
        self.send({"bars": json.dumps(said, separators=(",", ":"))})

    @traitlets.observe("by")
    def _tell_spent(self, change: object = None) -> None:
        if self.bars is None:
            return
        self._spent_at, self._spent_turn = time.monotonic(), self.bars.turn
        rows = self.bars.spent(self.by, time.time())
        shown = [[label(key, self.by), spent.core_hours, *words(spent)] for key, spent in rows[:MOST_KEYS]]
        self.spent = {"by": self.by, "rows": shown, "more": max(0, len(rows) - MOST_KEYS)}

    def _heard(self, view: object, message: Any, buffers: object) -> None:
        super()._heard(view, message, buffers)
        if not isinstance(message, dict):
            return
        if message.get("shown") and self.bars is None:
            threading.Thread(target=self._load, daemon=True, name="matterstack-timeline").start()
        turn = message.get("since")
        if isinstance(turn, int) and self.bars is not None and 0 <= turn < self.bars.turn:
            self.send({"bars": json.dumps(self.bars.since(turn, 0, time.time()), separators=(",", ":"))})

    def twin_html(self) -> str:
        """Return a picture of the bars, and a table of what was spent."""
        if self.bars is None:
            return ""
        now = time.time()
        return f"{timeline_html(self.bars, self.by, now)}{spent_html(self.bars.spent(self.by, now), self.by)}"

    def twin_text(self) -> str:
        """Return what was spent as lines."""
        if self.bars is None:
            return ""
        rows = [
            [label(key, self.by), *words(spent)] for key, spent in self.bars.spent(self.by, time.time())[:MOST_KEYS]
        ]
        widths = [max(map(len, column)) for column in zip(*[[self.by, *HEAD], *rows], strict=True)]
        lines = ([self.by, *HEAD], *rows)
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
