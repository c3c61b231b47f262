"""Monitors: handlers that are asked about attempts that run, and whose word stops one.

What they said stands in a file of ours beside each attempt: when each was last asked, what it raised, and the word to
stop. So it holds whoever makes the next tick. A check runs in a thread of its own: a tick waits a moment for it, and
takes a late answer at a later tick.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matterstack import interrupts
from matterstack.core.attempt_files import MONITORS
from matterstack.core.attempts import Attempt, Observation, Seen
from matterstack.core.states import AttemptStatus
from matterstack.core.strict_json import parse_json
from matterstack.core.text import storable
from matterstack.crash_points import reach
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.files import read_inside, write_inside
from matterstack.operators.handlers import Handler, every_s, made, name_of, watches
from matterstack.orchestration.capture import capture, describe

log = logging.getLogger("matterstack.monitors")

#: How long one tick waits for checks of one operator, and how many may go on behind it.
_MOST_S, _MOST_OUT = 1.0, 8
_MOST_BYTES, _MOST_SAID = 100_000, 300


class _Monitor(NamedTuple):
    """A handler that is asked, under its name, at most so often."""

    name: str
    handler: Handler | str
    every_s: float


class _Check(threading.Thread):
    """One question to a monitor, and its answer."""

    def __init__(self, monitor: _Monitor, attempt: Attempt) -> None:
        super().__init__(name=f"{monitor.name} looks at {attempt.name}", daemon=True)
        self.monitor, self.attempt = monitor, attempt
        self.found, self.raised = False, ""

    def run(self) -> None:
        with capture() as caught:
            self.found = bool(made(self.attempt, self.monitor.handler).check(self.attempt.directory))
        if caught.error is not None:
            self.raised = f"{type(caught.error).__name__}: {storable(str(caught.error))}"[:_MOST_SAID]


class Monitors:
    """The monitors of one operator, and the checks that this process has under way.

    Parameters
    ----------
    handlers : sequence of (Handler or str)
        Of the operator; one that cannot be made here is no monitor, and fails the next attempt by its name.
    """

    def __init__(self, handlers: Sequence[Handler | str]) -> None:
        self.handlers = handlers
        self._monitors: list[_Monitor] = []
        self._found = False
        self._out: dict[tuple[str, str], _Check] = {}

    def stopped(self, attempts: Sequence[Attempt]) -> dict[str, str]:
        """Return, by token, why attempts are stopped about which a monitor has given its word."""
        running = [attempt for attempt in attempts if attempt.status is AttemptStatus.RUNNING]
        if not running or not self._all():
            return {}
        said = {attempt.token: _said(attempt) for attempt in running}
        return {token: one["stopped"] for token, one in said.items() if one and "stopped" in one}

    def ask(self, attempts: Sequence[Attempt], seen: Mapping[str, Observation], at: float) -> dict[str, Observation]:
        """Ask about attempts that run still, those first that were asked about longest ago.

        Parameters
        ----------
        attempts : sequence of Attempt
        seen : mapping of str to Observation
            By token, what was seen of them in this tick.
        at : float
            Seconds since the Unix epoch.

        Returns
        -------
        dict of str to Observation
            What was seen of those that monitors have a word on, with that as the reason.
        """
        running = {
            attempt.token: attempt
            for attempt in attempts
            if attempt.status is AttemptStatus.RUNNING
            and (found := seen.get(attempt.token)) is not None
            and found.seen is Seen.RUNNING
        }
        live = {attempt.token for attempt in attempts}
        self._out = {key: check for key, check in self._out.items() if key[0] in live}
        if not running or not self._all():
            return {}
        said = {token: one for token, attempt in running.items() if (one := _said(attempt)) is not None}
        pairs = [(running[token], monitor) for token in said for monitor in self._monitors]
        pairs.sort(key=lambda pair: said[pair[0].token]["asked"].get(pair[1].name, 0.0))
        until = time.monotonic() + _MOST_S
        for attempt, monitor in pairs:
            one = said[attempt.token]
            if "stopped" not in one and self._begin(attempt, monitor, one, at, until):
                self._take(attempt, monitor, one, at)
        return {
            token: seen[token]._replace(reason=words)
            for token, one in said.items()
            if (words := self._words(token, one)) and seen[token].reason is None
        }

    def _all(self) -> list[_Monitor]:
        if not self._found:
            self._found = True
            for number, handler in enumerate(self.handlers):
                with capture() as caught:
                    if watches(handler):
                        name = name_of(handler)
                        known = any(monitor.name == name for monitor in self._monitors)
                        self._monitors.append(
                            _Monitor(f"{name} ({number})" if known else name, handler, every_s(handler))
                        )
                if caught.error is not None:
                    log.warning("the handler %s looks at nothing that runs: %s", handler, describe(caught.error))
        return self._monitors

    def _begin(self, attempt: Attempt, monitor: _Monitor, one: dict[str, Any], at: float, until: float) -> bool:
        """Ask, where it is time to; return whether there is an answer."""
        check = self._out.get((attempt.token, monitor.name))
        if check is not None:
            return not check.is_alive()  # one that is late is not waited for again
        left = until - time.monotonic()
        if left <= 0 or len(self._out) >= _MOST_OUT or 0 <= at - one["asked"].get(monitor.name, 0.0) < monitor.every_s:
            return False
        one["asked"][monitor.name] = at
        if not _keep(attempt, one):
            return False  # nobody would know that it was asked
        check = self._out[attempt.token, monitor.name] = _Check(monitor, attempt)
        check.start()
        with interrupts.heard():
            check.join(left)
        return not check.is_alive()

    def _take(self, attempt: Attempt, monitor: _Monitor, one: dict[str, Any], at: float) -> None:
        """Take the answer of a check, and keep it."""
        check = self._out.pop((attempt.token, monitor.name))
        before = one["raised"].pop(monitor.name, "")
        if check.raised:
            one["raised"][monitor.name] = check.raised
        if check.found:
            reach("monitor.found")
            began = attempt.record.started_at
            after = "" if began is None else f" {max(0.0, at - began):.0f} s after it began"
            one["stopped"] = f"stopped by {monitor.name}: its check found what it mends{after}"
        if check.found or check.raised != before:
            if not _keep(attempt, one):
                one.pop("stopped", None)  # it is asked again when its time has come
            reach("monitor.kept")

    def _words(self, token: str, one: Mapping[str, Any]) -> str:
        if "stopped" in one:
            return f"is being {one['stopped']}"
        late = [name for of, name in self._out if of == token]
        return "; ".join(
            [f"the monitor {name} raised {raised}" for name, raised in one["raised"].items()]
            + [f"the monitor {name} has not answered yet" for name in late]
        )


def _said(attempt: Attempt) -> dict[str, Any] | None:
    """Return what monitors have said of an attempt; None where that cannot be looked at now."""
    found: Any = {}
    try:
        found = parse_json(read_inside(attempt.directory, MONITORS, _MOST_BYTES))
    except (FileNotFoundError, InvalidJsonError):
        pass  # what is no JSON is not by us, since ours is written whole
    except (OSError, UnsafeFileError):
        return None
    found = found if isinstance(found, dict) else {}
    said: dict[str, Any] = {
        "asked": dict(_of(found.get("asked"), (int, float))),
        "raised": dict(_of(found.get("raised"), (str,))),
    }
    return said | dict(_of({"stopped": found.get("stopped")}, (str,)))


def _of(said: object, kinds: tuple[type, ...]) -> Iterable[tuple[str, Any]]:
    return [(name, one) for name, one in said.items() if isinstance(one, kinds)] if isinstance(said, dict) else []


def _keep(attempt: Attempt, said: Mapping[str, Any]) -> bool:
    try:
        write_inside(attempt.directory, MONITORS, json.dumps(said).encode())
    except (OSError, UnsafeFileError):
        return False
    return True
