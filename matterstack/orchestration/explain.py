"""Blockers: all that holds a run up, since when, and what to do about each."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from matterstack.core.attempts import LiveAttempt
from matterstack.core.states import (
    LIVE_ATTEMPT,
    TERMINAL_RUN,
    TERMINAL_TASK,
    AttemptStatus,
    RunStatus,
)
from matterstack.core.text import format_time, neutral
from matterstack.errors import MatterstackError
from matterstack.orchestration import campaigns, trusting
from matterstack.orchestration.analyze import CAMPAIGN_FAILED
from matterstack.orchestration.budget import SPENT, Ledger
from matterstack.orchestration.limits_explained import waits
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.requests import how_it_ended
from matterstack.orchestration.session import Session, Settings
from matterstack.orchestration.starts import how_it_began

if TYPE_CHECKING:
    from matterstack.storage.rows import TaskRow

#: What a task says that lacks something a retry alone does not bring, and what does.
_MISSING = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (r"No module named '([\w.]+)'", "install {0} for the Python that the task starts, then {again}"),
        (
            r"can't open file '(?:[^']*/)?([^'/]+)'",
            "its files= did not bring {0}: {mend}, files={{'{0}': pathlib.Path('{0}')}})",
        ),
        (r"([^\s:]+): (?:command )?not found", "make {0} found where the task runs (PATH, or a module), then {again}"),
        (r"No such file or directory: '([^']+)'", "its files= did not bring {0}, or its path is another one"),
        (r"([^\s:]+): No such file or directory", "its files= did not bring {0}, or its path is another one"),
    )
)
_MOST_LISTED = 20
_RAISE = "run.configure(budget={...})"


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that holds the run up.

    Attributes
    ----------
    what : str
        The run, an operator, a task or an attempt.
    why : str
        In plain words.
    since : float or None
        Seconds since the Unix epoch.
    remedy : str
        What to do.
    """

    what: str
    why: str
    since: float | None
    remedy: str


class Explanation(Sequence[Blocker]):
    """A sequence of `Blocker`, shown as text or as a table."""

    def __init__(self, headline: str, blockers: Sequence[Blocker]) -> None:
        self.headline = headline
        self._blockers = tuple(blockers)

    def __len__(self) -> int:
        return len(self._blockers)

    @overload
    def __getitem__(self, index: int) -> Blocker: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Blocker]: ...
    def __getitem__(self, index: int | slice) -> Blocker | Sequence[Blocker]:
        return self._blockers[index]

    def __repr__(self) -> str:
        lines = [self.headline]
        for item in self:
            since = f" (since {format_time(item.since)})" if item.since is not None else ""
            lines.append(f"- {item.what}: {item.why}{since}\n  -> {item.remedy}")
        return neutral("\n".join(lines))

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(item.what)}</td><td style='text-align:left;white-space:pre-wrap'>{escape(item.why)}</td>"
            f"<td>{escape(format_time(item.since)) if item.since is not None else ''}</td>"
            f"<td style='text-align:left'>{escape(item.remedy)}</td></tr>"
            for item in self
        )
        head = "<tr><th>what</th><th>why</th><th>since</th><th>what to do</th></tr>"
        table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""
        return f"<p>{escape(self.headline)}</p>{table}"


def explain(session: Session) -> Explanation:
    """Return what holds the run up."""
    store = session.reader
    with store.reading():
        run = store.run()
        counts = store.counts(run.iteration)
        live = store.live_attempts()
        troubles = store.troubles()
        failed = store.failed_tasks(run.iteration)
        now = time.time()
        ready = store.ready_operators(now)
        kept_back = store.kept_back(run.iteration) if counts.pending > counts.ready else []
        delayed = store.delayed(run.iteration, now, _MOST_LISTED) if counts.ready else []
        first = [task for name in ready for task in store.ready_tasks(name, _MOST_LISTED, now)]
        stream = store.stream(run.iteration) if run.status is RunStatus.RUNNING and counts.unfinished else None
        may_start = run.status is RunStatus.RUNNING and counts.pending > 0
        spent = _at_the_limit(session, live) if may_start else []
    found: list[Blocker] = []
    if run.status not in TERMINAL_RUN and not trusting.is_trusted(session.directory):
        path = str(session.directory.path)
        why = "you have neither made it here nor trusted it; a step would run "
        why += trusting.would_run(session.directory, store)
        found.append(Blocker("run", why, None, f"if you know where it comes from: matterstack.trust({path!r})"))
    if run.status is RunStatus.PENDING:
        found.append(Blocker("run", "it was never stepped", run.created_at, "run.step() or run.wait()"))
    elif run.status is RunStatus.PAUSED:
        found.append(_paused(session, run.reason or "it was paused"))
    found += spent
    found += [
        Blocker(
            f"operator {name}",
            "this process was not given it, so nobody asks about its attempts",
            None,
            f"open_run(path, operators={{{name!r}: ...}})",
        )
        for name in sorted({attempt.operator for attempt in live} | set(ready))
        if name not in session.operators
    ]
    for trouble in troubles.values():
        last = trouble.reason.strip().splitlines()[-1]
        state = ", so nothing new goes to it" if trouble.suspended else ""
        found.append(
            Blocker(
                f"operator {trouble.operator}",
                f"it could not be asked {trouble.failures} times in a row{state}: {last}",
                trouble.since,
                "make it reachable; it is asked again by itself" + (", or run.resume()" if trouble.suspended else ""),
            )
        )
    found += [_attempt(session, item) for item in live[:_MOST_LISTED]]
    if len(live) > _MOST_LISTED:
        found.append(Blocker(f"{len(live) - _MOST_LISTED} more attempts", "they are live", None, "see run.attempts"))
    found += [_kept_back(row) for row in kept_back[:_MOST_LISTED]]
    found += [_delayed(row, now) for row in delayed]
    limited = waits(session, run, first) if run.status is RunStatus.RUNNING else []
    found += [Blocker(f"task {one.task.task_id}", one.why, one.since, one.remedy) for one in limited[:_MOST_LISTED]]
    can = counts.ready - len(delayed) - min(len(limited), _MOST_LISTED)
    if limited and can and run.status is RunStatus.RUNNING:
        why = "they wait for limits across runs, for a step, or for room at their operator"
        found.append(Blocker(f"{can} more ready tasks", why, None, "wait, or run.step()"))
    elif can and run.status is RunStatus.RUNNING:
        found.append(
            Blocker(f"{can} ready tasks", "they wait for a step, or for room at their operator", None, "run.step()")
        )
    if blocked := counts.pending - counts.ready - len(kept_back):
        found.append(Blocker(f"{blocked} blocked tasks", "their dependencies are not completed", None, "wait"))
    if stream is not None:
        filled = min(counts.unfinished, stream.places)
        why = f"it waits for results; {filled} of {stream.places} places are filled"
        found.append(Blocker("campaign", why, None, "wait"))
    found += _not_told(session)
    for task_id, reason in failed[:_MOST_LISTED]:
        remedy = _remedy(run.status, task_id, reason or "")
        found.append(Blocker(f"task {task_id}", f"it failed: {reason}", None, remedy))
    lacks_campaign = session.campaign is None and session.reference is None
    if run.status is RunStatus.RUNNING and not counts.unfinished and lacks_campaign:
        why = "every task is over, and the campaign that analyzes them was not given"
        why += campaigns.why_not_kept(session.directory)
        found.append(Blocker("campaign", why, None, "open_run(path, campaign=...)"))
    done = counts.total - counts.unfinished
    headline = f"Run {run.run_id} is {run.status}, iteration {run.iteration}: {done} of {counts.total} tasks are over."
    if run.reason and run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        headline += f" {run.reason}"
    if not found:
        headline += " Nothing holds it up."
    return Explanation(headline, found)


def _not_told(session: Session) -> list[Blocker]:
    """Return which notices did not reach whom."""
    if session.settings.notify is None:
        return []
    from matterstack.orchestration.telling import not_told  # most runs tell nobody

    remedy = "run.tell() tries whom it tells; run.configure(notify=...) changes that"
    return [Blocker(what, why, None, remedy) for what, why in not_told(session)]


def _kept_back(row: TaskRow) -> Blocker:
    """Return why a task is not submitted that could be."""
    said: dict[str, Any] = {}
    with contextlib.suppress(ValueError, RecursionError):  # a stranger's database may say anything
        found = json.loads(row.held or "{}")
        said = found if isinstance(found, dict) else {}
    if not row.asks:
        return Blocker(
            f"task {row.task_id}", f"it is held: {said.get('why')}", said.get("since"), f"run.release({row.task_id!r})"
        )
    remedy = f"run.inbox(); or run.respond({row.task_id!r}, {{'decision': 'retry'}}), or 'skip', or 'fail'"
    why = f"it failed, and waits for a word on what to do: {row.reason}"
    return Blocker(f"task {row.task_id}", why, said.get("since"), remedy)


def _delayed(row: TaskRow, now: float) -> Blocker:
    """Return until when the next attempt of a task waits."""
    assert row.not_before is not None
    left_s = row.not_before - now
    why = f"its next attempt waits until {format_time(row.not_before)}, {left_s:.0f} s from now: {row.reason}"
    return Blocker(f"task {row.task_id}", why, row.ended_at, f"wait; or run.retry({row.task_id!r}) for one at once")


def _at_the_limit(session: Session, live: Sequence[LiveAttempt]) -> list[Blocker]:
    """Return which limit of the budget keeps anything more from starting, while something still runs, say."""
    budget = session.settings.budget
    with contextlib.suppress(MatterstackError, OSError, LookupError):  # it may have been raised since our last step
        budget = Settings.from_config(session.directory.read_config()["settings"]).budget
    why = budget.why_no_more(Ledger().spent(session.reader, live)) if budget else None
    return [] if why is None else [Blocker("run", why.partition(";")[0], None, _RAISE)]


def _paused(session: Session, reason: str) -> Blocker:
    """Return why a run is paused, and what makes it go on."""
    if reason.startswith(SPENT):
        return Blocker("run", reason, None, f"{_RAISE}, then run.resume()")
    if not reason.startswith(CAMPAIGN_FAILED):
        return Blocker("run", reason, None, "run.resume()")
    name = type(session.campaign).__name__ if session.campaign is not None else "Campaign"
    shown = str(shown_path(session.directory.path))
    mended = f"run = matterstack.open_run({shown!r}, campaign={name}(...)).resume()"
    return Blocker("run", reason, None, f"mend the campaign, run the cell that defines it, then {mended}")


def _remedy(status: RunStatus, task_id: str, reason: str) -> str:
    """Return what to do about a failed task: only what would be accepted now, and would help."""
    if status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
        return f"nothing: its failure was allowed for, and the run is {status}; another try needs another run"
    again = f"run.retry({task_id!r})"
    for pattern, remedy in _MISSING:
        if found := pattern.search(reason):
            return remedy.format(*found.groups(), again=again, mend=again[:-1])
    planned = "the same command or function, with the files it was planned with"
    return f"{again}  # {planned}; or mended: files=, arguments=, resources=, command=, env="


def _attempt(session: Session, live: LiveAttempt) -> Blocker:
    name = f"{live.iteration}.{live.task_id}.{live.attempt}"
    age_s = max(0.0, time.time() - live.submitted_at)
    if live.task_status in TERMINAL_TASK:
        return Blocker(name, "it is being stopped", live.submitted_at, "run.step() sees to it")
    home = session.directory.attempt(live.operator, live.iteration, live.task_id, live.attempt)
    if live.status is AttemptStatus.WAITING and (over := how_it_ended(home, live.token)) is not None:
        return Blocker(name, over, live.submitted_at, "run.step() takes it up")
    said = f": {live.reason}" if live.reason else ""
    began = how_it_began(home) if live.status is AttemptStatus.RUNNING else None
    words = {
        AttemptStatus.SUBMITTING: (
            (f"it is submitted again later{said}", "wait")
            if live.reason
            else ("its submission was interrupted or is under way", "run.step() finds out")
        ),
        AttemptStatus.SUBMITTED: (f"it waits its turn at {live.operator}{said}", "wait"),
        AttemptStatus.RUNNING: (
            f"it runs at {live.operator}, {age_s:.0f} s since its submission{_began(began)}{said}",
            "wait",
        ),
        AttemptStatus.WAITING: (
            f"it waits at {live.operator}{said}",
            f"see run.inbox(); the files are in {shown_path(home)}",
        ),
        AttemptStatus.COLLECTING: (f"its results are not home yet{said}", "run.step() asks again"),
    }
    assert live.status in LIVE_ATTEMPT
    why, remedy = words[live.status]
    since = live.started_at if live.status is AttemptStatus.RUNNING else live.submitted_at
    return Blocker(name, why, since, remedy)


def _began(how: str | None) -> str:
    """Return how a call began, in a few words: ``, begun cold (its operator has warm=False)``."""
    kind, _, why = (how or "").partition(": ")
    return f", begun {kind}" + (f" ({why})" if why else "") if kind else ""
