"""All of a run in one view: where it stands, its graph, table, journal and inbox, and what one may do to it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from matterstack.core.results import Waiting
from matterstack.core.states import RUN_TRANSITIONS, TERMINAL_RUN, RunEvent, RunStatus
from matterstack.core.text import neutral
from matterstack.errors import MatterstackError, RunLockedError, RunStatusError
from matterstack.notebook.board import News, all_of
from matterstack.notebook.cockpit_head import Head
from matterstack.notebook.follower import Account, Follows, follower_of
from matterstack.notebook.forms import RequestForm
from matterstack.notebook.inbox import Inbox
from matterstack.notebook.moments import moment_html
from matterstack.notebook.scatter import ScatterView
from matterstack.notebook.standing import Standing, needs_of, standing_data
from matterstack.notebook.summary import summary_html, summary_text
from matterstack.notebook.table_view import TableView
from matterstack.notebook.timeline_view import TimelineView
from matterstack.notebook.views import DagView, with_twin
from matterstack.storage.rows import EventRow

if TYPE_CHECKING:
    from matterstack.run import Run

_RATE_S = 60.0
_TIMES_EVERY_S = 1.0
_SURE_S = 5.0
_SURE = "Press Cancel again"
#: How often answers that were not given here are looked for, where nothing else goes on.
_ASK_PEOPLE_S = 10.0
#: What each tab shows; "Results" comes last, as soon as there is something to draw.
TABS = ("Graph", "Table", "Journal", "Inbox", "Time")


class Cockpit(ipywidgets.VBox, Follows):  # type: ignore[misc]
    """A run, followed live without blocking the kernel, and stepped when one says so.

    Parameters
    ----------
    run : Run

    Notes
    -----
    Each button calls the function of the same name, and is off where that would do nothing. With
    Run on, ticks are made in a worker thread until the run ends; what needs a person is waited
    for. Interrupting a cell does not stop that, pressing Run again does.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dag = DagView(run)
        self.table = TableView(run)
        self.timeline = TimelineView(run, at_once=False)
        for other in (self.table, self.timeline):
            traitlets.link((self.dag, "selected"), (other, "selected"))
        self.journal = ipywidgets.HTML()
        self.inbox = ipywidgets.VBox()
        self.results: ScatterView | None = None
        self.buttons: Mapping[str, Callable[[], str]] = {
            "Step": lambda: str(run.step()),
            "Pause": lambda: _said(run.pause()),
            "Resume": lambda: _said(run.resume()),
            "Cancel": self._cancel,
            "Retry": self._retry,
        }
        self._cancel_asked_at = 0.0
        self._ended: list[tuple[float, int]] = []
        self._account: Account | None = None
        self._shown_at = 0.0
        self._standing: Standing | None = None
        self._looks: Mapping[str, int] = {}
        self._said_of: RunStatus | None = None
        self._said_at = 0.0
        self._report = ""
        self._events: list[EventRow] = []
        self._waiting: tuple[tuple[str, str], ...] | None = None
        self._running = False
        self._stop, self._woken = threading.Event(), threading.Event()
        self._worker: threading.Thread | None = None
        self._busy = threading.Lock()
        self.dag.observe(lambda _: self._switch(), "selected")
        self.tabs = ipywidgets.Tab([self.dag, self.table, self.journal, self.inbox, self.timeline])
        for number, title in enumerate(TABS):
            self.tabs.set_title(number, title)
        follower_of(run).attach(self)
        self.head = Head(self.press, self._go, self.here)
        super().__init__([self.head, self.tabs])
        self.add_class("ms-cockpit")
        self.glance(News([], False))

    # -- showing ----------------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Show nothing yet: `glance` is called next, and sees also what changes without a change of any task."""

    def glance(self, news: News) -> None:
        """Show where the run stands, its new events, and what waits; where nothing changed, how the time goes on."""
        account, now = self.follower.account, time.monotonic()
        if account is not self._account:
            self._account, self._shown_at = account, now
            self._show(account)
        elif now - self._shown_at >= _TIMES_EVERY_S and self._standing is not None:
            self._shown_at = now
            if self._standing.overview.record.status not in TERMINAL_RUN:
                self._show_times(self._standing)
        if self._cancel_asked_at and now - self._cancel_asked_at > _SURE_S:
            self._cancel_asked_at = 0.0
            if _SURE in self.head.said:
                self.head.said = ""

    def _show(self, account: Account) -> None:
        overview, requests = account.overview, account.inbox
        status = overview.record.status
        counts = overview.counts
        waits = (
            status is RunStatus.RUNNING and bool(requests) and len(requests) >= counts.submitted and not counts.ready
        )
        board = self.dag.board
        self._looks = board.counts_of(overview.record.iteration)
        self._show_times(Standing(overview, account.iterations, account.started_at, account.ended_at, None, waits))
        failed = board.cards(list(itertools.islice(self._failed(overview.record.iteration), 1)))
        needs = needs_of(overview, failed, self._looks["F"], requests, account.troubles)
        self.head.needs = [need._asdict() for need in needs]
        if account.events[-1:] != self._events[-1:]:
            self._events = account.events
            self.journal.value = _journal(self._events)
        waiting = tuple((request.name, request.reason) for request in requests)
        if waiting != self._waiting:
            self._waiting = waiting
            self._show_inbox(requests)
        if self.results is None and self._has_results():
            self._show_results()
        if status is not self._said_of and account.read_at >= self._said_at:  # not read before it was said, in a thread
            self.head.said = ""  # what was said is true no more
            self._said_of = status
        self._switch()

    def _show_times(self, standing: Standing) -> None:
        """Show the headline, with a rate that is that of the last minute."""
        counts, now = standing.counts, time.monotonic()
        over = counts.total - counts.unfinished
        self._ended = [(at, n) for at, n in self._ended if now - at < _RATE_S] + [(now, over)]
        (first, before), (last, after) = self._ended[0], self._ended[-1]
        rate = (after - before) / (last - first) if last > first and after > before else None
        self._standing = standing._replace(rate=rate)
        self.head.standing = standing_data(self._standing, self._looks, time.time())

    def _switch(self) -> None:
        """Turn on the buttons that would do something, and say what the run waits for."""
        if self._standing is None or self._account is None:
            return
        (record, counts, _, would_run), waits = self._standing.overview, self._standing.waits
        status = record.status
        trusted = would_run is None
        goes_on = status in (RunStatus.PENDING, RunStatus.RUNNING)
        if not goes_on:  # what is under way is seen to its end
            goes_on = bool(counts.submitted) or self._account.stopping
        can = RUN_TRANSITIONS[status]
        on = {
            "Step": trusted and goes_on and not self._running,
            "Run": self._running or (trusted and goes_on),
            "Pause": RunEvent.PAUSE in can,
            "Resume": RunEvent.RESUME in can,
            "Cancel": trusted and RunEvent.CANCEL in can,
            "Retry": self._may_retry(status, counts.failed),
        }
        self.head.switch(on, running=self._running)
        said = ""
        if waits:
            then = "the run then goes on by itself" if self._running else "then press Run"
            said = f"What is left needs a person: answer in the inbox; {then}."
        elif self._running and status not in TERMINAL_RUN:
            said = self._report
        self.head.state = neutral(said)

    def _may_retry(self, status: RunStatus, failed: int) -> bool:
        """Return whether there is something that `_retry` would do."""
        if status not in (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED):
            return False
        selected, board = self.dag.selected, self.dag.board
        if not selected or self._account is None:
            return failed > 0
        iteration = self._account.overview.record.iteration
        task = board.find(selected)
        if task is not None:
            return task.iteration == iteration and task.code in "CFN"
        return iteration in {board.iterations[place] for place in self.dag.drawing.places_in(selected, "F")}

    def _show_inbox(self, requests: Inbox) -> None:
        """Make forms for new requests; those that are filled in are left alone."""
        kept = {form.asked.name: form for form in self._forms()}
        forms = []
        for request in requests:
            form = kept.get(request.name)
            if form is None:
                form = RequestForm(request, requests.run_of)
                form.observe(lambda _: self._woken.set(), "over")
            form.reason = neutral(request.reason)
            forms.append(form)
        gone = [form for form in kept.values() if form not in forms]
        self.inbox.children = forms or [ipywidgets.HTML("<p>Nothing waits for an answer.</p>")]
        self.tabs.set_title(TABS.index("Inbox"), f"Inbox ({len(forms)})" if forms else "Inbox")
        for form in gone:
            form.close()  # else it were kept for as long as the kernel lives

    def _has_results(self) -> bool:
        """Return whether results can be drawn: the run says what shall be best, or a task gave a number."""
        return bool(self.run.target) or self.follower.gives_numbers

    def _show_results(self) -> None:
        """Add the tab of results; without a target nothing is read for it before somebody opens it."""
        self.results = ScatterView(self.run, at_once=False)
        traitlets.link((self.dag, "selected"), (self.results, "selected"))
        if self.run.target:
            self.results.read()
        self.tabs.children = (*self.tabs.children, self.results)
        self.tabs.set_title(len(self.tabs.children) - 1, "Results")

    def _forms(self) -> list[Any]:
        return [child for child in self.inbox.children if hasattr(child, "asked")]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        html, text = summary_html(self.run.overview), summary_text(self.run.overview)
        if self.results is not None and self.run.target:
            html, text = html + self.results.twin_html(), f"{text}\n{self.results.twin_text()}"
        html += self.dag.twin_html() + self.table.twin_html()
        return with_twin(super()._repr_mimebundle_(**options), html, text)

    # -- acting -----------------------------------------------------------------------------

    def press(self, name: str) -> None:
        """Do what a button does: in a thread, so that the kernel stays free."""
        if name == "Run":
            self.running = not self.running
        else:
            self._act(self.buttons[name])

    def _go(self, task: str, tab: str) -> None:
        """Show what needs somebody."""
        if task:
            self.tabs.selected_index = TABS.index("Graph")
            self.dag.selected = task
        elif tab in TABS:
            self.tabs.selected_index = TABS.index(tab)

    def _act(self, act: Callable[[], str]) -> None:
        """Act in a thread; one thing at a time."""

        def work() -> None:
            with self._busy:
                self._say(act)

        threading.Thread(target=work, daemon=True, name="matterstack-button").start()

    def _say(self, act: Callable[[], str]) -> bool:
        """Act, and show what came of it; return whether it was done."""
        try:
            text, done = act(), True
        except RunLockedError as error:
            text, done = str(error), False
        except MatterstackError as error:
            text, done = f"{type(error).__name__}: {error}", False
        self._tell(text)
        return done

    def _tell(self, text: str) -> None:
        """Say what became of something, and have all that is shown looked at anew."""
        self._said_at = time.monotonic()
        self._said_of = self.run.status
        self.head.said = neutral(text)
        self.follower.look_again()
        self._woken.set()
        self.here()

    def _cancel(self) -> str:
        now = time.monotonic()
        if now - self._cancel_asked_at > _SURE_S:
            self._cancel_asked_at = now
            return f"{_SURE} within five seconds: everything that runs is stopped, and nothing more starts."
        self._cancel_asked_at = 0.0
        return _said(self.run.cancel())

    def _retry(self) -> str:
        """Retry the selected task, the failed ones of a selected node, or, where none is selected, every failed one."""
        run, selected = self.run, self.dag.selected
        task = self.dag.board.find(selected)
        failed = self.dag.drawing.places_in(selected, "F") if selected else self._failed(run.iteration)
        chosen = [task] if task is not None else self.dag.board.cards(list(failed))
        if not chosen:
            where = f"of {selected}" if selected else "of the current iteration"
            raise RunStatusError(f"no task {where} has failed, so there is nothing to retry")
        run.retry([card.task_id for card in chosen], iteration=chosen[0].iteration)
        names = ", ".join(card.name for card in chosen[:10]) + (", ..." if len(chosen) > 10 else "")
        return f"Retried {names}. {_said(run)}"

    def _failed(self, iteration: int) -> Iterator[int]:
        """Yield the places of the failed tasks of an iteration."""
        board = self.dag.board
        return (place for place in all_of(board.codes, "F") if board.iterations[place] == iteration)

    # -- running ----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether ticks are made, one after the other, until the run ends."""
        return self._running

    @running.setter
    def running(self, wanted: bool) -> None:
        if wanted == self._running:
            return
        self._running = wanted
        if not wanted:
            self._stop.set()
            self._woken.set()
        else:
            self._stop = threading.Event()
            of_both = (self._stop, self._worker)
            self._worker = threading.Thread(target=self._work, args=of_both, daemon=True, name="matterstack-run")
            self._worker.start()
        self._switch()

    def _work(self, stop: threading.Event, before: threading.Thread | None) -> None:
        """Make ticks until the run ends or is paused; what needs a person is looked at again when one answered."""
        if before is not None:
            before.join()  # turned off and on within one of its ticks, whose lock it holds
        try:
            while not stop.is_set():
                self._woken.clear()
                report = None
                for report in self.run.ticks(stop.is_set):
                    self._report = str(report)
                if report is None or report.status is not RunStatus.RUNNING or report.waits_for is not Waiting.PEOPLE:
                    break
                self.follower.look_again()
                self._woken.wait(_ASK_PEOPLE_S)
        except MatterstackError as error:
            self._tell(str(error) if isinstance(error, RunLockedError) else f"{type(error).__name__}: {error}")
        finally:
            if self._stop is stop:
                self.running = False
            self.follower.look_again()
            self.here()


def _said(run: Run) -> str:
    return f"The run is {run.status}."


def _journal(events: Sequence[EventRow]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("no.", "when", "what", "event", "status", "reason", "who"))
    rows = [f"<tr>{head}</tr>"]
    for seq, at, _, iteration, task_id, attempt, event, status, reason, who in reversed(events):
        what = "run" if task_id is None else f"{iteration}.{task_id}" + (f".{attempt}" if attempt else "")
        said = [escape(neutral(text)) for text in (what, event, status, (reason or "")[-200:], who or "")]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in (str(seq), moment_html(at), *said)) + "</tr>")
    reached = "tabindex='0' role='group' aria-label='journal'"
    return f"<div class='ms-journal' {reached}><table>{''.join(rows)}</table></div>"
