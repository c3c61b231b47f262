"""Stop, and other signals that interrupt: held while something of ours is under way, heard in between.

Python calls the handler of a signal between any two instructions of the main thread, and what it raises appears there:
after a lock was taken, and before anybody knows that it was. So what takes and gives back runs inside `held`; whatever
may last, a wait or code of others, runs inside `heard`. A signal that comes while it is held is handled at the next of
these borders. Other threads are never interrupted, and for them both do nothing.
"""

from __future__ import annotations

# What `signal` wraps to speak of enums, which takes ten times as long, at each tick.
import _signal  # type: ignore[import-not-found]
import functools
import inspect
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Those whose handlers people have raise something: Stop, the end of a session or a job, timers.
_NUMBERS = tuple(
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows has the first two
)

_before: dict[int, Callable[[int, FrameType | None], Any]] = {}
"""Who hears each signal that is ours now."""
_came: dict[int, None] = {}
"""The signals that came while they were held, each once, in their order."""
_holder: int | None = None
"""The main thread, while it holds."""
_depth = 0
"""How many blocks of `held` the main thread is in, but for those directly inside another."""


def _hear(number: int, frame: FrameType | None) -> None:
    if _holder is None:
        _before[number](number, frame)
    else:
        _came[number] = None


class held:  # noqa: N801  (used like a function)
    """Hold what interrupts until the block, or the decorated function, is over, or until it comes to `heard`."""

    _mine = False

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function as one that holds."""

        @functools.wraps(function)
        def holding(*given: P.args, **named: P.kwargs) -> T:
            with held():
                return function(*given, **named)

        return holding

    def __enter__(self) -> None:
        global _holder, _depth
        if _holder is None and (thread := threading.current_thread()) is threading.main_thread():
            try:
                if not _depth:
                    _take_over()
                self._mine = True
                _holder = thread.ident  # from here on no signal raises
            except BaseException:
                _give_back()
                raise
            _depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _holder, _depth
        if not self._mine:
            return
        _holder = threading.get_ident()  # an interrupt at the end of a `heard` may have left it open
        _depth -= 1
        try:
            if not _depth:
                _give_back()
        finally:
            _holder = None
            if _came:
                _deliver()


class heard:  # noqa: N801  (used like a function)
    """Hear inside a block of `held` what came, and what comes until the block is over; does nothing elsewhere."""

    _mine = False

    def __enter__(self) -> Any:
        global _holder
        if _holder is not None and _holder == threading.get_ident():
            if _came:
                _deliver()  # still held: what this raises leaves everything as it should be
            self._mine = True
            _holder = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        global _holder
        if self._mine:
            _holder = threading.get_ident()
        return None


def _take_over() -> None:
    try:
        for number in _NUMBERS:
            handler = _signal.getsignal(number)
            if callable(handler) and handler is not _hear:
                _before[number] = handler
                _signal.signal(number, _hear)
    except ValueError:
        pass  # not the main thread of the main interpreter after all: no signal comes here


def _give_back() -> None:
    for number, handler in reversed(_before.items()):  # Stop is held until the others are as they were
        if _signal.getsignal(number) is _hear:  # and not that of somebody who has set one since
            _signal.signal(number, handler)


def _deliver() -> None:
    """Have what came handled, all of it, even if the handler of the first raises."""
    while _came:
        number = next(iter(_came))
        del _came[number]
        handler = _signal.getsignal(number)
        if handler is _hear:
            handler = _before[number]
        try:
            if callable(handler):
                handler(number, inspect.currentframe())
        finally:
            _deliver()


def _let_go() -> None:
    """Hold nothing in a forked child: whoever held here is not there."""
    global _holder, _depth
    _holder, _depth = None, 0
    _came.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
