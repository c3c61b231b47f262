"""The standing of a run, for its cockpit: all iterations, since when, how fast, and how long it may still take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matterstack.core.snapshot import IterationCounts, OperatorTrouble
from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.core.text import neutral
from matterstack.notebook.moments import in_words
from matterstack.notebook.statuses import LOOKS, RUN_LOOKS
from matterstack.notebook.summary import count_parts, describe_counts, in_a_line
from matterstack.orchestration.overview import Overview, shown_path
from matterstack.storage.rows import IterationRow

if TYPE_CHECKING:
    from matterstack.notebook.board import Card
    from matterstack.orchestration.requests import Request

_MOST_ITERATIONS = 6
_MOST_WORDS = 200
#: Letters of the looks of what is counted.
_CODES = {
    "completed": "C",
    "submitted": "X",
    "ready": "R",
    "blocked": "B",
    "failed": "F",
    "skipped": "S",
    "cancelled": "N",
}


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


def standing_data(standing: Standing, looks: Mapping[str, int], now: float) -> dict[str, Any]:
    """Return where a run stands at a moment as plain data, for the head of its cockpit.

    Parameters
    ----------
    standing : Standing
    looks : mapping of str to int
        How many tasks of the current iteration look how, by the letter of that.
    now : float
        Seconds since the Unix epoch.
    """
    record, counts, path, _ = standing.overview
    before = [
        _row(f"iteration {n}", counts) for n, _, _, counts in standing.iterations[-1 - _MOST_ITERATIONS : -1][::-1]
    ]
    if before:
        before.insert(0, _row("all iterations", standing.counts))
    if (more := len(standing.iterations) - 1 - _MOST_ITERATIONS) > 0:
        before.append({"title": "", "parts": [], "said": f"and {more} before them; run.iterations has all"})
    ended = (standing.ended_at or now) if record.status in TERMINAL_RUN else None
    return {
        "workspace": neutral(record.workspace),
        "run_id": neutral(record.run_id),
        "status": RUN_LOOKS[record.status]._asdict(),
        "iteration": record.iteration,
        "parts": [[look.code, looks[look.code]] for look in LOOKS if looks.get(look.code)],
        "over": counts.total - counts.unfinished,
        "total": counts.total,
        "started_at": standing.started_at,
        "ended_at": ended if standing.started_at is not None else None,
        "pace": " · ".join(_pace(standing, now)),
        "reason": neutral(in_a_line(record.reason or "")),
        "directory": neutral(shown_path(path)),
        "before": before,
    }


def _row(title: str, counts: IterationCounts) -> dict[str, Any]:
    parts = [[_CODES[name], number] for name, number in count_parts(counts).items() if number]
    return {"title": title, "parts": parts, "said": describe_counts(counts)}


def _pace(standing: Standing, now: float) -> list[str]:
    """Return how fast it goes, and when the iteration may be over."""
    if standing.overview.record.status in TERMINAL_RUN:
        total = standing.counts
        over = total.total - total.unfinished
        return ["1 task" if over == 1 else f"{over} tasks"]
    parts = [_per_time(standing.rate)] if standing.rate else []
    rest = standing.rest_s(now)
    if rest is not None:
        parts.append(f"about {in_words(rest)} to the end of iteration {standing.overview.record.iteration}")
    return parts


def _per_time(rate: float) -> str:
    return f"{rate:.2g} tasks/s" if rate >= 1 else f"{60 * rate:.2g} tasks/min"


class Need(NamedTuple):
    """Something that needs somebody.

    Attributes
    ----------
    code : str
        The letter of the look that it has.
    title, text : str
        What it is, and more of it.
    task : str
        ``<iteration>.<task_id>`` where one task is meant; else empty.
    tab : str
        Of the cockpit, where something can be done about it; else empty.
    """

    code: str
    title: str
    text: str
    task: str = ""
    tab: str = ""


def needs_of(
    overview: Overview,
    failed: Sequence[Card],
    number_failed: int,
    requests: Sequence[Request],
    troubles: Mapping[str, OperatorTrouble],
) -> list[Need]:
    """Return what needs somebody, the worst first.

    Parameters
    ----------
    overview : Overview
    failed : sequence of Card
        The first task of the current iteration that failed.
    number_failed : int
        How many did.
    requests : sequence of Request
        That wait for an answer.
    troubles : mapping of str to OperatorTrouble
        Operators that cannot be asked now.
    """
    found = []
    if overview.would_run is not None:
        found.append(Need("W", "not trusted here", f"a step would run {overview.would_run}"))
    for name, trouble in troubles.items():
        what = "suspended" if trouble.suspended else "does not answer"
        found.append(Need("F", f"operator {name} {what}", in_a_line(trouble.reason)))
    if failed:
        first = failed[0]
        why = in_a_line(first.reason or "")
        text = f"{first.task_id}: {why}" if number_failed > 1 else why
        title = f"{number_failed} failed" if number_failed > 1 else f"{first.task_id} failed"
        found.append(Need("F", title, text, task=first.name))
    if requests and overview.record.status not in TERMINAL_RUN:
        names = ", ".join(dict.fromkeys(request.assignee for request in requests if request.assignee))
        whom = f" for {names}" if names else ""
        title = f"1 waits{whom}" if len(requests) == 1 else f"{len(requests)} wait{whom}"
        found.append(Need("W", title, ", ".join(request.task_id for request in requests[:10]), tab="Inbox"))
    return [
        need._replace(title=neutral(need.title[:_MOST_WORDS]), text=neutral(need.text[:_MOST_WORDS])) for need in found
    ]
