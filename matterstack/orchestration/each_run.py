"""Each run of many is asked the same, in threads; one that cannot be read, or does not answer, is named."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from matterstack.core.text import neutral
from matterstack.orchestration.capture import capture, describe
from matterstack.orchestration.overview import MOST_STEPS
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_directory import RunDirectory

log = logging.getLogger("matterstack.find")

T = TypeVar("T")
#: A thread waits for its disk most of the time, or for SQLite, which goes on beside Python.
_MOST_THREADS = 4
#: To ask for what tasks gave takes more than to look where a run stands.
_MOST_STEPS = 20 * MOST_STEPS
#: How long one is waited for that somebody has locked; and how long all are, while none of them answers.
_LOCKED_S = 2.0
_SILENT_S = 30.0
_MOST_LOGGED = 3


@dataclass
class Answers(Generic[T]):
    """What runs have answered, in their order, and by path why others have not."""

    found: list[tuple[RunDirectory, T]]
    unread: dict[str, str]


def ask_each(directories: Sequence[RunDirectory], question: Callable[[StoreReader], T]) -> Answers[T]:
    """Ask each run the same; what is wrong with one does not keep the others from answering."""
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    news: queue.SimpleQueue[tuple[int, list[T], str]] = queue.SimpleQueue()
    for place in range(len(directories)):
        left.put(place)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                place = left.get_nowait()
                news.put((place, *_ask(directories[place], question)))

    # As daemons, so that one whose disk is away for good does not keep the process from ending.
    for _ in range(min(_MOST_THREADS, len(directories))):
        threading.Thread(target=work, name="matterstack-find", daemon=True).start()
    heard = {}
    try:
        for _ in directories:
            place, said, why = news.get(timeout=_SILENT_S)
            heard[place] = (said, why)
    except queue.Empty:
        pass  # whoever is left does not answer
    finally:
        with contextlib.suppress(queue.Empty):  # nor is anybody asked any more after a Stop
            while True:
                left.get_nowait()
    answers: Answers[T] = Answers([], {})
    for place, directory in enumerate(directories):
        said, why = heard.get(place, ([], f"it has not answered within {_SILENT_S:.0f} s"))
        answers.found += [(directory, one) for one in said]
        if why:
            answers.unread[str(directory.path)] = why
    _tell(answers.unread, len(directories))
    return answers


def _ask(directory: RunDirectory, question: Callable[[StoreReader], T]) -> tuple[list[T], str]:
    """Return what a run answers, as the one item of a list; or why it does not."""
    with capture() as caught:
        reader = StoreReader(directory.state, _MOST_STEPS, _LOCKED_S)
        try:
            return [question(reader)], ""
        finally:
            reader.close()
    return [], "" if caught.error is None else describe(caught.error)


def _tell(unread: Mapping[str, str], total: int) -> None:
    if unread:
        first = "; ".join(unread[path] for path in list(unread)[:_MOST_LOGGED])
        log.warning("%d of %d runs could not be read: %s", len(unread), total, neutral(first))
