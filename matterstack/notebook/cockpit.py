"""All of a run in one view: where it stands, its graph, table, journal and inbox, and what one may do to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import traitlets

from matterstack.core.states import TERMINAL_RUN, RunStatus
from matterstack.core.text import neutral
from matterstack.errors import MatterstackError, RunLockedError, RunStatusError
from matterstack.notebook.board import Card, News
from matterstack.notebook.follower import Follows, follower_of
from matterstack.notebook.forms import InboxView
from matterstack.notebook.inbox import Inbox
from matterstack.notebook.summary import summary_html, summary_text
from matterstack.notebook.views import DagView, TableView, with_twin
from matterstack.orchestration.explain import format_time
from matterstack.storage.rows import EventRow

if TYPE_CHECKING:
    from matterstack.run import Run

_MOST_EVENTS = 200
_RATE_S = 10.0


class Cockpit(ipywidgets.VBox, Follows):  # type: ignore[misc]
    """A run, followed live without blocking the kernel, and stepped when one says so.

    Parameters
    ----------
    run : Run

    Notes
    -----
    Each button calls the function of the same name. With Run on, ticks are made in a worker
    thread until the run ends or needs a person; interrupting a cell does not stop that,
    pressing Run again does.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dag = DagView(run)
        self.table = TableView(run)
        traitlets.link((self.dag, "selected"), (self.table, "selected"))
        self.headline = ipywidgets.HTML()
        self.message = ipywidgets.HTML()
        self.message.add_class("ms-message")
        self.journal = ipywidgets.HTML()
        self.inbox = ipywidgets.VBox()
        self.running = ipywidgets.ToggleButton(description="Run", tooltip="make ticks until it ends or needs a person")
        self.buttons = {
            "Step": self._button("Step", "one tick", lambda: str(run.step())),
            "Run": self.running,
            "Pause": self._button("Pause", "submit nothing new", lambda: _said(run.pause())),
            "Resume": self._button("Resume", "submit again", lambda: _said(run.resume())),
            "Cancel": self._button("Cancel", "stop everything: press twice", self._cancel),
            "Retry": self._button("Retry", "the selected task, or every failed one", self._retry),
        }
        self._cancel_asked_at = 0.0
        self._ended: list[tuple[float, int]] = []
        self._seq = 0
        self._events: list[EventRow] = []
        self._waiting: tuple[tuple[str, str], ...] | None = None
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None
        self._busy = threading.Lock()
        self.running.observe(self._toggled, "value")
        tabs = ipywidgets.Tab([self.dag, self.table, self.journal, self.inbox])
        for number, title in enumerate(("Graph", "Table", "Journal", "Inbox")):
            tabs.set_title(number, title)
        self.tabs = tabs
        follower_of(run).attach(self)
        super().__init__([self.headline, ipywidgets.HBox(list(self.buttons.values())), self.message, tabs])
        self.take(News([], False))

    # -- showing ----------------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Show where the run stands, its new events, and what waits."""
        run = self.run
        overview = run.overview
        over = overview.counts.total - overview.counts.unfinished
        now = time.monotonic()
        self._ended = [(at, n) for at, n in self._ended if now - at < _RATE_S] + [(now, over)]
        rate = ""
        (first, before), (last, after) = self._ended[0], self._ended[-1]
        if last > first and after > before:
            rate = f"<div>{(after - before) / (last - first):.2g} tasks/s</div>"
        self.headline.value = summary_html(overview) + rate
        fresh = run.store.events_after(self._seq, _MOST_EVENTS)
        if fresh:
            self._seq = fresh[-1].seq
            self._events = (self._events + fresh)[-_MOST_EVENTS:]
            self.journal.value = _journal(self._events)
        requests = run.inbox()
        waiting = tuple((request.name, request.reason) for request in requests)
        if waiting != self._waiting:
            self._show_inbox(requests)
            self._waiting = waiting

    def _show_inbox(self, requests: Inbox) -> None:
        """Make forms for new requests; those that are filled in are left alone."""
        kept = {form.asked.name: form for form in self._forms()}
        forms = []
        for request in requests:
            form = kept.get(request.name)
            if form is None:
                (form,) = InboxView(Inbox([request], requests.run_of)).forms
            form.reason = neutral(request.reason)
            forms.append(form)
        self.inbox.children = forms or [ipywidgets.HTML("<p>Nothing waits for an answer.</p>")]
        self.tabs.set_title(3, f"Inbox ({len(forms)})" if forms else "Inbox")

    def _forms(self) -> list[Any]:
        return [child for child in self.inbox.children if hasattr(child, "asked")]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        html = summary_html(self.run.overview) + self.dag.twin_html() + self.table.twin_html()
        return with_twin(super()._repr_mimebundle_(**options), html, summary_text(self.run.overview))

    # -- acting -----------------------------------------------------------------------------

    def _button(self, name: str, tip: str, act: Callable[[], str]) -> Any:
        button = ipywidgets.Button(description=name, tooltip=tip, layout={"width": "auto"})
        button.on_click(lambda _: self._act(act))
        return button

    def _act(self, act: Callable[[], str]) -> None:
        """Act in a thread, so that the kernel stays free; one thing at a time."""

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
        self.message.value = f"<span>{escape(neutral(text))}</span>"
        self.here()
        return done

    def _cancel(self) -> str:
        now = time.monotonic()
        if now - self._cancel_asked_at > 5:
            self._cancel_asked_at = now
            return "Press Cancel again within five seconds: everything that runs is stopped, and nothing more starts."
        return _said(self.run.cancel())

    def _retry(self) -> str:
        """Retry the selected task, the failed ones of a selected node, or, where none is selected, every failed one."""
        run, selected = self.run, self.dag.selected
        task = self.dag.board.find(selected)
        some = self.dag.drawing.cards_in(selected) if selected else self._current()
        chosen = [task] if task is not None else [card for card in some if card.code == "F"]
        if not chosen:
            where = f"of {selected}" if selected else "of the current iteration"
            raise RunStatusError(f"no task {where} has failed, so there is nothing to retry")
        run.retry([card.task_id for card in chosen], iteration=chosen[0].iteration)
        names = ", ".join(card.name for card in chosen[:10]) + (", ..." if len(chosen) > 10 else "")
        return f"Retried {names}. {_said(run)}"

    def _current(self) -> list[Card]:
        iteration = self.run.iteration
        return [card for card in self.dag.board.cards.values() if card.iteration == iteration]

    # -- running ----------------------------------------------------------------------------

    def _toggled(self, change: Any) -> None:
        if not change["new"]:
            self._stop.set()
        elif self._worker is None or not self._worker.is_alive():
            self._stop = threading.Event()
            self._worker = threading.Thread(target=self._work, daemon=True, name="matterstack-run")
            self._worker.start()

    def _work(self) -> None:
        stop = self._stop
        try:
            for report in self.run.ticks(stop.is_set):
                self.message.value = f"<span>{escape(str(report))}</span>"
            status = self.run.status
            if status in TERMINAL_RUN or status is RunStatus.PAUSED:
                self.message.value = f"<span>The run is {status}.</span>"
            elif not stop.is_set():
                self.message.value = "<span>What is left needs a person: see the inbox, and press Run again.</span>"
        except MatterstackError as error:
            text = str(error) if isinstance(error, RunLockedError) else f"{type(error).__name__}: {error}"
            self.message.value = f"<span>{escape(neutral(text))}</span>"
        finally:
            if self._stop is stop:
                self.running.value = False
            self.here()


def _said(run: Run) -> str:
    return f"The run is {run.status}."


def _journal(events: Sequence[EventRow]) -> str:
    rows = []
    for seq, at, _, iteration, task_id, attempt, event, status, reason in reversed(events):
        what = "run" if task_id is None else f"{iteration}.{task_id}" + (f".{attempt}" if attempt else "")
        cells = (str(seq), format_time(at), what, event, status, (reason or "")[-200:])
        rows.append(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(neutral(cell))}</td>" for cell in cells) + "</tr>"
        )
    return f"<div style='max-height:400px;overflow:auto'><table>{''.join(rows)}</table></div>"
