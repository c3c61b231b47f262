"""Requests as forms: instructions, and fields made from the JSON Schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import anywidget
import ipywidgets
import traitlets

from matterstack.core.text import neutral
from matterstack.errors import AnswerConflictError, MatterstackError
from matterstack.notebook.assets import CSS, script
from matterstack.notebook.board import Card, News
from matterstack.notebook.context import context_html
from matterstack.notebook.follower import Follows, follower_of
from matterstack.notebook.inbox import Inbox
from matterstack.notebook.markdown import markdown_html
from matterstack.notebook.statuses import BY_CODE
from matterstack.notebook.views import with_twin
from matterstack.orchestration.capture import capture
from matterstack.orchestration.overview import shown_path
from matterstack.orchestration.requests import Request, check_answer, how_it_ended, is_slow

if TYPE_CHECKING:
    from matterstack.run import Run

#: A file system over a network is not asked more often.
_GLANCE_S = 1.0


class _Judged(NamedTuple):
    """What is said to a form, and why its request is over, where it is."""

    reply: Mapping[str, Any]
    over: str | None = None


class RequestForm(anywidget.AnyWidget, Follows):
    """The form of one request; its Submit is `Run.respond`. It says so when the request is answered elsewhere.

    Parameters
    ----------
    request : Request
    run_of : callable
        Returns the run of the request.
    """

    _esm = script("form.js")
    _css = CSS
    request = traitlets.Dict().tag(sync=True)
    context = traitlets.Unicode("").tag(sync=True)
    reason = traitlets.Unicode("").tag(sync=True)
    over = traitlets.Unicode("").tag(sync=True)

    def __init__(self, request: Request, run_of: Callable[[Request], Run]) -> None:
        self.asked = request
        self.run_of = run_of
        schema = request.schema
        super().__init__(
            request={
                "task": f"{request.iteration}.{request.task_id}",
                "run": request.run_id,
                "assignee": neutral(request.assignee or ""),
                "since": request.since,
                "instructions": markdown_html(request.instructions),
                "directory": shown_path(request.directory),
                "schema": schema if schema is not None else {"type": "object"},
                "answerable": request.operator_kind == "human",
            },
            context=context_html(request.directory, request.show),
            reason=neutral(request.reason),
        )
        self._waiting: list[Mapping[str, Any]] = []
        self._turn: asyncio.Task[None] | None = None
        self._glanced_at = -_GLANCE_S
        self._row = 0
        with capture():  # a run that cannot be opened is told to whoever submits
            follower_of(run_of(request)).attach(self)
            self._look_up()
        self.glance(News([], False))
        self.on_msg(self._heard)

    def _look_up(self) -> None:
        """Find the task of the request: in a large run it is not among those that are read first."""
        card = self.follower.board.find(f"{self.asked.iteration}.{self.asked.task_id}")
        if card is not None:
            self._row = card.id
            self._stands(card)

    def take(self, news: News) -> None:
        """Show why the last answer was refused, or that the request is over."""
        if news.grown and not self._row:
            self._look_up()
        for card in news.changed:
            if (card.iteration, card.task_id) == (self.asked.iteration, self.asked.task_id):
                self._stands(card)

    def _stands(self, card: Card) -> None:
        if card.code == "W" and card.attempt == self.asked.attempt:
            self.reason = neutral(card.reason or self.asked.reason)
        elif not self.over:
            which = "the task" if card.attempt == self.asked.attempt else f"attempt {card.attempt} of the task"
            self.over = self._ended() or f"It waits no more: {which} is {BY_CODE[card.code].name} now."

    def _ended(self) -> str | None:
        return how_it_ended(self.asked.directory, self.asked.token)

    def glance(self, news: News) -> None:
        """Look whether somebody has answered, which the next tick takes up."""
        if self._row in news.touched:  # why the last answer was refused is said without a change of its status
            self._stands(self.follower.board.cards_of([self._row])[0])
        now = time.monotonic()
        if not self.over and now - self._glanced_at >= _GLANCE_S:
            self._glanced_at = now
            self.over = self._ended() or ""

    def _heard(self, _: object, message: Any, __: object) -> None:
        if isinstance(message, dict) and "here" in message and hasattr(self, "follower"):
            self.here()
        if not isinstance(message, dict) or "number" not in message:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or not (self._turn or is_slow(self.request["schema"], message.get("value"))):
            self._tell(self._judge(message))
            return
        # What was typed since says more than what was typed before; a Submit is not passed over.
        self._waiting = [earlier for earlier in self._waiting if earlier.get("submit")] + [message]
        if message.get("submit"):
            self.send({"outcome": "being checked …", "number": message["number"]})
        if self._turn is None:
            self._turn = loop.create_task(self._go_through())

    async def _go_through(self) -> None:
        """Judge what waits, one after the other, beside the kernel's loop."""
        try:
            while self._waiting:
                message = self._waiting.pop(0)
                self._tell(await asyncio.to_thread(self._judge, message))
        finally:
            self._turn = None

    def _judge(self, message: Mapping[str, Any]) -> _Judged:
        """Return what is to be said to what somebody typed, or submitted."""
        value = message.get("value")
        found = check_answer(self.request["schema"], value)
        if not message.get("submit"):
            # While one types, what is missing is no news.
            return _Judged({"errors": [] if message.get("empty") else found, "number": message["number"]})
        if found:
            said = f"not sent: {len(found)} to mend"
            return _Judged({"errors": found, "outcome": said, "number": message["number"]})
        outcome, is_over = self._submit(value)
        reply = {"errors": [], "outcome": outcome, "number": message["number"]}
        return _Judged(reply, outcome if is_over else None)

    def _submit(self, value: Any) -> tuple[str, bool]:
        """Answer, and return what became of it, and whether the request is over."""
        asked = self.asked
        try:
            self.run_of(asked).respond(asked.task_id, value, iteration=asked.iteration, attempt=asked.attempt)
        except AnswerConflictError as error:
            return neutral(str(error)), True
        except MatterstackError as error:
            return neutral(str(error)), False
        return "answered; the next step of the run takes it up", True

    def _tell(self, judged: _Judged) -> None:
        if judged.over is not None:
            self.over = judged.over
        self.send(judged.reply)


class InboxView(ipywidgets.VBox):  # type: ignore[misc]
    """The forms of an inbox, below each other.

    Parameters
    ----------
    inbox : Inbox
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.forms = [RequestForm(request, inbox.run_of) for request in inbox]
        super().__init__(self.forms or [ipywidgets.HTML("<p>Nothing waits for an answer.</p>")])

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return with_twin(super()._repr_mimebundle_(**options), self.inbox._repr_html_(), repr(self.inbox))
