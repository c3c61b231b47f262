"""Calls that begin warm: the same results as cold, whatever the function does, and no doubt about whose a process is."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.operators.local.runner import processes

_WAIT_S = 60.0


def wait_for(what: Callable[[], Any], why: str) -> Any:
    """Return what is true at last, or fail."""
    until = time.monotonic() + _WAIT_S
    while not (found := what()):
        assert time.monotonic() < until, why
        select.poll().poll(5)
    return found


def run_of(base: Path, *calls: Any, run_id: str = "r", plan: Any = None, **settings: Any) -> ms.Run:
    """Return a run of calls without arguments, each a task of the function's name."""
    flow = ms.Workflow()
    for function in calls:
        flow.add(getattr(function, "__name__", "") or function.function.__name__, function)
    operators = {"local": ms.LocalOperator(**settings)}
    return ms.initialize_run("w", plan or flow, base_path=base, run_id=run_id, operators=operators)


def starts(run: ms.Run) -> dict[str, str]:
    """Return how each attempt began, by the name of its directory."""
    notes = (run.path / "operators/local").glob("*/.matterstack/start")
    return {note.parent.parent.name: note.read_text().strip() for note in notes}


def runner_of(run: ms.Run) -> int:
    return int(json.loads((run.path / "operators/local/runner.lock").read_text())["pid"])


def servers_of(run: ms.Run) -> list[int]:
    """Return the warm servers of a run's runner."""
    found = []
    for pid in processes.children(runner_of(run)):
        if b"warm_server.py" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getpgid(pid) == pid:
            if b"MATTERSTACK_ROOM" in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


# -- the same as cold --------------------------------------------------------------------------------


def nothing() -> None:
    pass


def prints() -> int:
    print("to stdout")
    sys.stdout.write("without an end of line")
    print("to stderr", file=sys.stderr)
    os.write(1, b"past the buffer\n")
    return 1


def exits() -> None:
    sys.exit(3)


def exits_with_words() -> None:
    import threading

    threading.Thread(target=print, args=("a thread",)).start()
    raise SystemExit("the end")


def raises() -> None:
    def inner() -> float:
        return 1 / 0

    inner()


def raises_in_turn() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("then") from error


def interrupted() -> None:
    raise KeyboardInterrupt


def ends_itself() -> None:
    os._exit(7)


def crashes() -> None:
    import ctypes

    ctypes.string_at(0)


def kills_itself() -> None:
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


def pipe_breaks() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.write(writer, b"x")


def pools() -> list[int]:
    import multiprocessing

    with multiprocessing.Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def spawns() -> list[int]:
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


def runs_programs() -> str:
    import subprocess

    return subprocess.run(["sh", "-c", "echo $MATTERSTACK_TASK_ID; pwd"], capture_output=True, text=True).stdout[:8]


def runs_threads() -> list[int]:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(abs, range(-9, 0)))


def says_goodbye() -> None:
    import atexit

    atexit.register(print, "goodbye")


def leaves_a_thread() -> None:
    import threading
    import time

    def late() -> None:
        time.sleep(0.1)
        print("late")

    threading.Thread(target=late).start()


def surroundings() -> dict[str, Any]:
    import signal

    main = sys.modules["__main__"]
    os.umask(mask := os.umask(0))
    return {
        "argv": sys.argv,
        "orig_argv": [os.path.basename(word) for word in sys.orig_argv],
        "name": __name__,
        "main": {
            name: value if value is None else str(type(value))
            for name, value in vars(main).items()
            if name.startswith("__")
        },
        "spec": str(main.__spec__),
        "loader": str(type(main.__loader__)),
        "path": [part.replace(os.getcwd(), "HERE") for part in sys.path],
        "is_here": os.path.samefile(os.path.dirname(str(main.__file__)), "."),
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name not in ("MATTERSTACK_TOKEN", "MATTERSTACK_CLAIM")
        },
        "claim": "MATTERSTACK_CLAIM" in os.environ,
        "umask": mask,
        "signals": {str(number): str(signal.getsignal(number)).partition(" at ")[0] for number in range(1, 32)},
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "stdin": sys.stdin.read(),
        "streams": [
            (stream.encoding, stream.errors, stream.line_buffering, stream.name, stream.mode, stream.isatty())
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],
        "is_leader": os.getsid(0) == os.getpid() == os.getpgid(0),
        "nice": os.nice(0),
        "hook": sys.excepthook.__name__,
        "flags": str(sys.flags),
        "threads": len(os.listdir("/proc/self/task")),
        "gc": __import__("gc").isenabled(),
    }


def shows_whose_it_is() -> list[str]:
    with open("/proc/self/environ") as file:
        shown = file.read().split("\0")
    whose = ("MATTERSTACK_TOKEN", "MATTERSTACK_CLAIM")
    return [word[:20] for word in sorted(shown) if word in [f"{name}={os.environ[name]}" for name in whose]]


def warns() -> None:
    import warnings

    warnings.warn("look out", stacklevel=1)


def logs() -> int:
    import logging

    logging.warning("look out")
    logging.getLogger("x").info("not shown")
    return len(logging.getLogger().handlers)


def limits_its_memory() -> str:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
    try:
        return str(len(bytearray(10**9)))
    except MemoryError:
        return "no memory"


def unpickles() -> list[str]:
    import pickle

    function: Callable[[str], list[str]] = pickle.loads(pickle.dumps(sorted))
    return function("ba")


SAME = [
    nothing,
    prints,
    exits,
    exits_with_words,
    raises,
    raises_in_turn,
    interrupted,
    ends_itself,
    crashes,
    kills_itself,
    pipe_breaks,
    pools,
    spawns,
    runs_programs,
    runs_threads,
    says_goodbye,
    leaves_a_thread,
    surroundings,
    shows_whose_it_is,
    warns,
    logs,
    limits_its_memory,
    unpickles,
]


def outcome(run: ms.Run, name: str) -> dict[str, Any]:
    """Return all that an attempt has left, but for what differs from one attempt to the next."""
    row = run.attempts[run.attempts["task_id"] == name].iloc[0]
    home = run.task_directory(name)
    left: dict[str, Any] = {key: str(row[key]) for key in ("status", "exit_code", "reason")}
    for path in ("stdout.txt", "stderr.txt", "error.json", "result.json"):
        if (home / path).exists():
            text = (home / path).read_text().replace(str(home), "HOME")
            left[path] = re.sub(r"\b\d{3,}\b|0x[0-9a-f]+", "N", text)
    left["files"] = sorted(str(path.relative_to(home)) for path in home.rglob("*") if ".matterstack" not in str(path))
    if (home / "value.json").exists():
        left["value"] = run.value(name)
    return left


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[ms.Run, ms.Run]:
    """Return two runs of all these functions, warm and cold."""
    runs = []
    for warm in (True, False):
        calls = [ms.task(function, allow_failure=True) for function in SAME]
        run = run_of(tmp_path_factory.mktemp("w" if warm else "c"), *calls, run_id="r", warm=warm, max_active=3)
        assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED, run.explain()
        runs.append(run)
    return runs[0], runs[1]


@pytest.mark.parametrize("function", SAME, ids=lambda function: function.__name__)
def test_a_warm_call_leaves_what_a_cold_one_does(both: tuple[ms.Run, ms.Run], function: Any) -> None:
    name = function.__name__
    warm, cold = both
    assert starts(warm)[f"0.{name}.1"] == "warm"
    assert starts(cold)[f"0.{name}.1"] == "cold: its operator has warm=False"
    assert outcome(warm, name) == outcome(cold, name)
