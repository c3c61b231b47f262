"""The standing of a run, for its cockpit: all iterations, since when, how fast, and how long it may still take."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from matterstack.core.snapshot import IterationCounts
from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.notebook.moments import in_words, moment_html
from matterstack.notebook.summary import bar_html, describe_counts, summary_html
from matterstack.orchestration.overview import Overview
from matterstack.storage.rows import IterationRow

_MOST_ITERATIONS = 6


class Standing(NamedTuple):
    """Where a run stands.

    Attributes
    ----------
    overview : Overview
    iterations : sequence of IterationRow
    started_at, ended_at : float or None
        In seconds since the Unix epoch; None where it has not.
    rate : float or None
        Tasks that ended in the last minute, by second; None where that is not known yet.
    waits : bool
        Nothing goes on before a person answers.
    """

    overview: Overview
    iterations: Sequence[IterationRow]
    started_at: float | None = None
    ended_at: float | None = None
    rate: float | None = None
    waits: bool = False

    @property
    def counts(self) -> IterationCounts:
        """How many tasks of all iterations stand where."""
        return IterationCounts(*map(sum, zip(*(row.counts for row in self.iterations), strict=True)))

    def rest_s(self, now: float) -> float | None:
        """Return in how many seconds the iteration is over, if all goes on as it went so far."""
        record, counts = self.overview.record, self.overview.counts
        over = counts.total - counts.unfinished
        if record.status is not RunStatus.RUNNING or self.waits or not over or self.started_at is None:
            return None
        began = max(self.started_at, self.iterations[-1].created_at if self.iterations else 0.0)
        return counts.unfinished * max(0.0, now - began) / over


def standing_html(standing: Standing, now: float) -> str:
    """Return where a run stands at a moment as HTML; everything is escaped.

    Parameters
    ----------
    standing : Standing
    now : float
        Seconds since the Unix epoch.
    """
    rows = []
    total = standing.counts
    if len(standing.iterations) > 1:
        rows.append(("all iterations", bar_html(total) + escape(describe_counts(total))))
        shown = standing.iterations[-1 - _MOST_ITERATIONS : -1][::-1]
        rows += [(f"iteration {n}", bar_html(counts) + escape(describe_counts(counts))) for n, _, _, counts in shown]
        if (more := len(standing.iterations) - 1 - _MOST_ITERATIONS) > 0:
            rows.append(("", f"and {more} before them; run.iterations has all"))
    if standing.started_at is not None:
        rows.append(("time", " · ".join(_times(standing, total.total - total.unfinished, now))))
    return summary_html(standing.overview, rows)


def _times(standing: Standing, over: int, now: float) -> list[str]:
    started = standing.started_at or now
    parts = [f"started {moment_html(started)}"]
    if standing.overview.record.status in TERMINAL_RUN:
        ended = standing.ended_at or now
        tasks = "1 task" if over == 1 else f"{over} tasks"
        return [*parts, f"ended {moment_html(ended)}", f"{tasks} in {in_words(ended - started)}"]
    parts.append(f"{in_words(now - started)} so far")
    if standing.rate:
        parts.append(_per_time(standing.rate))
    rest = standing.rest_s(now)
    if rest is not None:
        parts.append(f"about {in_words(rest)} to the end of iteration {standing.overview.record.iteration}")
    return parts


def _per_time(rate: float) -> str:
    return f"{rate:.2g} tasks/s" if rate >= 1 else f"{60 * rate:.2g} tasks/min"
