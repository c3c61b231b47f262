"""The desk of a view, where its pages ask about attempts: answered in threads, so that the kernel is never blocked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from matterstack.core.text import neutral
from matterstack.notebook.board import News
from matterstack.notebook.browsing import Browsing, Growing
from matterstack.notebook.statuses import LIVE_LOOKS, look_of_attempt
from matterstack.orchestration.capture import capture

if TYPE_CHECKING:
    from matterstack.run import Run

#: Of all views of a kernel together: disks of clusters are slow, and not faster when more is asked of them.
_WORKERS = ThreadPoolExecutor(4, "matterstack-browse")
#: No page looks at more files that grow.
_MOST_GROWING = 8
_MOST_LOOKED_AT = 8


class Desk:
    """What answers the pages of one view.

    A question is a message ``{"browse": {"what": ..., ...}, "id": ...}``, its answer ``{"answer": id, ...}``; of a
    search and of a file that grows there are several, and all but the last have ``"goes_on"``.

    Parameters
    ----------
    run : Run
    send : callable
        Sends a message and its buffers to the pages, from any thread.
    """

    def __init__(self, run: Run, send: Callable[[dict[str, Any], list[bytes]], None]) -> None:
        self.browsing = Browsing(run)
        self._send = send
        self._searches: dict[str, threading.Event] = {}
        self._growing: dict[str, Growing] = {}
        #: The tasks that were asked about last.
        self._looked_at: dict[str, Mapping[str, Any]] = {}

    def take(self, message: Mapping[str, Any]) -> Future[None] | None:
        """Answer a message, when there is a thread for it; return what tells that, or None where it is no question."""
        asked, number = message.get("browse"), message.get("id")
        if not isinstance(asked, dict) or not isinstance(number, str):
            return None
        what, ends = asked.get("what"), asked.get("of")
        if what == "stop":
            self._growing.pop(str(ends), None)
            if (search := self._searches.pop(str(ends), None)) is not None:
                search.set()
            return None
        if what == "search":
            stopped = self._searches[number] = threading.Event()
            return _WORKERS.submit(self._search, asked, number, stopped)
        return _WORKERS.submit(self._answer, asked, number)

    def begin(self, asked: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], Growing | None]:
        """Return the answers to what a page asks first of an attempt, by what they are to; and its log, if it may grow.

        A page has them with its view, where the kernel is busy with a cell by then.
        """
        about = self.browsing.answer({**asked, "what": "attempt"}).said
        self._looks_at(about["name"], {**asked, "what": "attempt"})
        begun, growing = {"attempt": about}, None
        with capture():  # there are no files, or they cannot be read, which a page is told when it asks
            begun["folder"] = self.browsing.answer({**asked, "what": "folder", "path": ""}).said
            if logs := sorted(about["logs"], key=lambda log: not log["size"]):
                path, is_live = logs[0]["key"], look_of_attempt(about["status"]) in LIVE_LOOKS
                way = {"way": "before", "at": logs[0]["size"]} if is_live else {"way": "from", "at": 0}
                begun["file"] = {**self.browsing.answer({**asked, "what": "file", "path": path}).said, "path": path}
                page = self.browsing.answer({**asked, **way, "what": "page", "path": path}).said
                begun["page"] = {**page, "path": path}
                growing = self.browsing.growing({**asked, "path": path, "at": page["end"]}) if is_live else None
        return begun, growing

    def look(self, news: News) -> None:
        """Tell pages which files have grown that they look at, and which of the tasks have changed."""
        for card in news.changed if self._looked_at else ():
            if (asked := self._looked_at.get(card.name)) is not None:
                _WORKERS.submit(self._tell_anew, asked)
        for number, growing in list(self._growing.items()):
            if (page := growing.look()) is not None:
                self._tell(number, {**page._asdict(), "goes_on": True})

    def _answer(self, asked: Mapping[str, Any], number: str) -> None:
        with capture() as caught:
            if asked.get("what") == "grow":
                growing = self.browsing.growing(asked)
                while len(self._growing) >= _MOST_GROWING:
                    self._growing.pop(next(iter(self._growing)))
                self._growing[number] = growing
                return
            answer = self.browsing.answer(asked)
            if asked.get("what") == "attempt":
                self._looks_at(answer.said["name"], asked)
            self._tell(number, answer.said, [] if answer.content is None else [answer.content])
        self._tell_error(number, caught.error)

    def _looks_at(self, name: str, asked: Mapping[str, Any]) -> None:
        looked_at = {**self._looked_at, name: asked}
        self._looked_at = dict(list(looked_at.items())[-_MOST_LOOKED_AT:])

    def _tell_anew(self, asked: Mapping[str, Any]) -> None:
        """Say how an attempt stands that has changed; a new attempt is another one."""
        with capture():  # it is gone, which a page is told when it asks
            about = self.browsing.answer(asked).said
            with capture():  # the page has gone
                self._send({"about": about}, [])

    def _search(self, asked: Mapping[str, Any], number: str, stopped: threading.Event) -> None:
        with capture() as caught:
            for found in self.browsing.search(asked):
                if stopped.is_set():
                    break
                self._tell(number, {**found._asdict(), "goes_on": not found.is_over})
            self._searches.pop(number, None)
        self._tell_error(number, caught.error)

    def _tell_error(self, number: str, error: BaseException | None) -> None:
        if isinstance(error, FileNotFoundError):
            self._tell(number, {"error": "It is not there any more."})
        elif error is not None:
            self._tell(number, {"error": neutral(str(error) or type(error).__name__)})

    def _tell(self, number: str, said: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        with capture():  # the page has gone, or the kernel goes
            self._send({"answer": number, **said}, buffers or [])
