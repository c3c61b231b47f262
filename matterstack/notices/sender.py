"""The program that sends one notice to one sink: it claims the errand, sends, and says how that ended.

``sender RUN_DIRECTORY NUMBER SINK ATTEMPT``. It is bounded in time, and so is each command that it starts. Killed
between its claim and its end it leaves the claim: the notice may have been sent, so nobody sends it again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matterstack.core.notices import Notice
from matterstack.core.secrets import masked
from matterstack.core.text import neutral
from matterstack.crash_points import reach
from matterstack.errors import InvalidJsonError, UnsafeFileError
from matterstack.notices import outbox
from matterstack.notices.outbox import MOST_S, Errand, Outcome, Standing
from matterstack.notices.sinks import Sink, function_of, variable_of

_LATE = f"it took more than {MOST_S:g} s, and was not waited for"
_LAST_WORDS = 300


def main(arguments: Sequence[str]) -> int:
    """Send a notice; see the module."""
    run = Path(arguments[0])
    errand = Errand(*map(int, arguments[1:]))
    signal.alarm(int(1.5 * MOST_S))  # whatever hangs, also in code that no thread of ours can look at
    try:
        notice, to = outbox.read(run, errand.number)
        sink = to[errand.sink]
    except (OSError, UnsafeFileError, InvalidJsonError, TypeError, LookupError):
        return 1  # it was removed, which is somebody's word, too
    if not outbox.claim(run, errand):
        return 0
    reach("notices.claimed")
    outcome = send(notice, sink)
    reach("notices.sent")
    variable = variable_of(sink)
    why = masked(outcome.why, os.environ, [variable] if variable else [])
    outbox.end(run, errand, outcome._replace(why=neutral(why)[:_LAST_WORDS]))
    reach("notices.ended")
    os._exit(0)  # a function that hangs is not waited for


def send(notice: Notice, sink: Sink) -> Outcome:
    """Send a notice to a sink, in bounded time, and return what came of it; whatever is raised is that."""
    if isinstance(sink, tuple):
        return _to_command(notice, sink)
    outcomes: list[Outcome] = []

    def call() -> None:
        try:
            outcomes.append(_to_address(notice, sink) if isinstance(sink, str) else _to_function(notice, sink))
        except BaseException as error:  # noqa: BLE001 - somebody else's code
            outcomes.append(Outcome(Standing.FAILED, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(MOST_S)
    return outcomes[0] if outcomes else Outcome(Standing.UNKNOWN, _LATE)


def _to_function(notice: Notice, sink: object) -> Outcome:
    assert isinstance(sink, dict)
    function_of(sink["function"])(notice)
    return Outcome(Standing.SENT)


def _to_address(notice: Notice, sink: str) -> Outcome:
    name = variable_of(sink)
    if name is not None and not os.environ.get(name):
        return Outcome(Standing.FAILED, f"the variable {name} is not set where the run is stepped")
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        return Outcome(Standing.FAILED, "apprise is not installed here: pip install 'matterstack[notify]'")
    told = apprise.Apprise()
    if not told.add(os.environ[name] if name is not None else sink):
        return Outcome(Standing.FAILED, "apprise does not know such an address")
    if not told.notify(title=notice.title, body=notice.text, body_format="text", interpret_escapes=False):
        return Outcome(Standing.FAILED, "apprise could not deliver it")
    return Outcome(Standing.SENT)


def _to_command(notice: Notice, words: Sequence[str]) -> Outcome:
    """Start a command with the notice as JSON on its standard input, and wait for its end, not for what it started."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return Outcome(Standing.FAILED, f"{words[0]} cannot be started: {error.strerror}")
    assert process.stdin is not None
    assert process.stderr is not None
    threading.Thread(target=_give, args=(process, json.dumps(asdict(notice)).encode()), daemon=True).start()
    with process.stderr:
        last_words = _hear(process, time.monotonic() + MOST_S)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Outcome(Standing.UNKNOWN, f"it took more than {MOST_S:g} s, and was stopped")
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
        return Outcome(Standing.FAILED, f"{how}{': ' + last_words if last_words else ''}")
    return Outcome(Standing.SENT)


def _give(process: subprocess.Popen[bytes], content: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:  # a command need not read it
        process.stdin.write(content)


def _hear(process: subprocess.Popen[bytes], until: float) -> str:
    """Read what a command says until it has ended; return the last line of that, however much it is."""
    assert process.stderr is not None
    said, descriptor, ended = b"", process.stderr.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(descriptor, False)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        ready = {one for one, _ in poll.poll(left * 1000)}
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(descriptor, 1 << 16) if descriptor in ready else b""
            said = (said + chunk)[-4 * _LAST_WORDS :]
            if descriptor in ready and not chunk:
                poll.unregister(descriptor)
        if ended in ready:
            break
    os.close(ended)
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
