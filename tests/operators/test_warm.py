"""Calls that begin warm: the same results as cold whatever they do, and nothing doubled, lost or stuck."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger import check_executions
from small_disk import fill
from waiting import alive, wait_for

import matterstack as ms
from matterstack.notebook.board import Board
from matterstack.notebook.details import details_html
from matterstack.operators.local.runner import processes
from tests.helpers.runners import kill_runner, kill_runner_once_told, runner_of

_WAIT_S = 300.0


def run_of(base: Path, *calls: Any, **settings: Any) -> ms.Run:
    """Return a run of tasks, and of calls without arguments, each called like its function."""
    flow = ms.Workflow()
    for call in calls:
        if isinstance(call, ms.Task):
            flow.add_task(call)
        else:
            flow.add(getattr(call, "__name__", "") or call.function.__name__, call)
    operators = {"local": ms.LocalOperator(**{"kill_grace_s": 0.2, **settings})}
    return ms.initialize_run("w", flow, base_path=base, run_id="r", operators=operators)


def starts(run: ms.Run) -> dict[str, str]:
    """Return how each attempt began, by the name of its directory."""
    notes = (run.path / "operators/local").glob("*/.matterstack/start")
    return {note.parent.parent.name: note.read_text().strip() for note in notes}


def servers_of(run: ms.Run) -> list[int]:
    """Return the warm servers of a run's runner."""
    found = []
    for pid in processes.children(runner_of(run)):
        with contextlib.suppress(OSError):
            if b"\0MATTERSTACK_ROOM" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
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
            name: value for name, value in os.environ.items() if name not in ("MATTERSTACK_TOKEN", "MATTERSTACK_CLAIM")
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


def leaves_what_is_open() -> None:

    class Talks:
        def __del__(self) -> None:
            print("goodbye", json.dumps([1]))

    main: Any = sys.modules["__main__"]
    main.kept = [open("left.txt", "w"), Talks()]  # noqa: SIM115
    main.kept[0].write("written")
    main.kept.append(main.kept)
    holder: Any = json
    holder.held = open("held.txt", "w")  # noqa: SIM115
    holder.held.write("written, too")


def prints_in_vain() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    print("x")


def has_a_daemon_thread() -> None:
    import threading
    import time

    def works() -> None:
        while True:
            time.sleep(0.001)

    threading.Thread(target=works, daemon=True).start()


def forks() -> int:
    pid = os.fork()
    if pid == 0:
        print("in a child", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    return 1


def unpickles() -> list[str]:
    import pickle

    function: Callable[[str], list[str]] = pickle.loads(pickle.dumps(sorted))
    return function("ba")


def looks_at_ours() -> list[str]:
    """What lies beside a task, as the task sees it."""
    import traceback

    found = [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path]
    for name in ("matterstack_main", "matterstack_values"):
        module: Any = sys.modules[name]
        found += [name, module.__name__, module.__file__, module.__cached__, module.__spec__.origin]
        found += sorted(vars(module))
    codec: Any = sys.modules["matterstack_values"]
    main: Any = sys.modules["matterstack_main"]
    found += [code.co_filename for code in (codec.parse.__code__, codec.Decoder.decode.__code__, main.run.__code__)]
    found.append(codec.NotWritableError.__module__)
    try:
        codec.parse(b"{")
    except ValueError:
        found.append(traceback.format_exc())
    here = os.getcwd()
    return [text.replace(here, "HERE") for text in found]


SAME = [
    nothing,
    looks_at_ours,
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
    leaves_what_is_open,
    prints_in_vain,
    has_a_daemon_thread,
    forks,
]


def outcome(run: ms.Run, name: str) -> dict[str, Any]:
    """Return all that an attempt has left, but for what differs from one attempt to the next."""
    row = run.attempts[run.attempts["task_id"] == name].iloc[0]
    home = run.task_directory(name)
    left: dict[str, Any] = {key: str(row[key]) for key in ("status", "exit_code", "reason")}
    if row["status"] == "COMPLETED":
        del left["reason"]  # whether a helper of multiprocessing was still there
    for path in ("stdout.txt", "stderr.txt", "error.json", "result.json", "left.txt", "held.txt"):
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
        flow = ms.Workflow()
        for function in SAME:
            name, options = function.__name__, {"allow_failure": True, "allow_dependency_failure": True}
            flow.add(f"before-{name}", ms.task(function, **options))  # the first with its imports may begin cold
            flow.add(name, ms.task(function, dependencies=[f"before-{name}"], **options))
        base = tmp_path_factory.mktemp("w" if warm else "c")
        operators = {"local": ms.LocalOperator(max_active=3, warm=warm)}
        run = ms.initialize_run("w", flow, base_path=base, operators=operators)
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


# -- what is drawn, and how many compute ---------------------------------------------------------------


def draws(_: int) -> list[float]:
    import random

    import numpy as np

    return [random.random(), float(np.random.random()), float(np.random.default_rng().random())]


def test_each_call_draws_other_numbers(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.map(draws, list(range(8)))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    assert set(starts(run).values()) == {"warm"}
    drawn = [run.value(f"draws-{number}") for number in range(8)]
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 8


def computes() -> dict[str, Any]:
    import ctypes

    import numpy as np

    with open("/proc/self/maps") as file:
        paths = {line.split()[-1] for line in file if "openblas" in line}
    matrix = np.ones((600, 600))
    total = float((matrix @ matrix).sum())
    numbers = []
    for path in sorted(paths):
        for name in ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "openblas_get_num_threads"):
            if hasattr(ctypes.CDLL(path), name):
                numbers += [int(getattr(ctypes.CDLL(path), name)())]
    return {"total": total, "numbers": numbers, "threads": len(os.listdir("/proc/self/task"))}


@pytest.mark.parametrize(
    "env", [{}, {"OMP_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}], ids=str
)
def test_as_many_threads_compute_as_in_a_cold_call(tmp_path: Path, env: dict[str, str]) -> None:
    runs = []
    for warm in (True, False):
        run = run_of(tmp_path / str(warm), ms.task(computes, env=env), warm=warm)
        assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED, run.explain()
        assert starts(run)["0.computes.1"].startswith("warm" if warm else "cold")
        runs.append(run)
    assert runs[0].value("computes") == runs[1].value("computes")
    assert runs[0].value("computes")["numbers"], "numpy uses another library here"


# -- what decides for cold -----------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of installed packages that calls find."""
    folder = tmp_path / "lib/site-packages"
    folder.mkdir(parents=True)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def lonely() -> int:
    import lonely_package  # type: ignore[import-not-found]

    return int(lonely_package.answer)


def finished(run: ms.Run) -> ms.Run:
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED, run.explain()
    return run


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
            "started 1 more threads",
        ),
        ("import subprocess; subprocess.Popen(['sleep', '0.2'])", "has started a process"),
        ("import socket; kept = socket.socket()", "keeps socket:"),
        ("file = open(__file__)", "keeps "),
        ("import sys; 'task.py' in sys.argv or 1 / 0", "importing lonely_package: ZeroDivisionError"),
        ("import sys; 'task.py' in sys.argv or sys.exit('no')", "importing lonely_package: SystemExit: no"),
        ("import os, sys; 'task.py' in sys.argv or os._exit(1)", "ended while it imported"),
        ("import os, sys; 'task.py' in sys.argv or os.kill(os.getpid(), 11)", "ended while it imported"),
        ("import sys; 'task.py' in sys.argv or sys.stderr.write('x' * 2_000_000)", "prints much"),
    ],
)
def test_what_cannot_be_imported_beforehand_begins_cold(tmp_path: Path, installed: Path, source: str, why: str) -> None:
    (installed / "lonely_package.py").write_text(f"answer = 42\n{source}\n")
    os.utime(installed / "lonely_package.py", (1, 1))
    flow = ms.Workflow()
    for number in range(3):
        flow.add(f"t{number}", lonely)
    run = finished(ms.initialize_run("w", flow, base_path=tmp_path))
    assert {run.value(f"t{number}") for number in range(3)} == {42}
    for note in starts(run).values():
        assert note.startswith("cold: ")
        assert why in note
    assert servers_of(run) == []


def test_what_importing_prints_each_call_prints(tmp_path: Path, installed: Path) -> None:
    (installed / "lonely_package.py").write_text("answer = 42\nprint('hello')\n")
    os.utime(installed / "lonely_package.py", (1, 1))
    flow = ms.Workflow()
    flow.add("a", lonely)
    flow.add("b", lonely)
    run = finished(ms.initialize_run("w", flow, base_path=tmp_path))
    assert set(starts(run).values()) == {"warm"}
    assert [run.file(name, "stdout.txt").read_text() for name in "ab"] == ["hello\n", "hello\n"]


def test_one_process_imports_for_all(tmp_path: Path, installed: Path) -> None:
    (installed / "lonely_package.py").write_text(
        f"import os\nanswer = 42\nopen({str(tmp_path / 'imported')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    )
    os.utime(installed / "lonely_package.py", (1, 1))
    flow = ms.Workflow()
    for number in range(60):
        flow.add(f"t{number}", lonely)
    run = finished(ms.initialize_run("w", flow, base_path=tmp_path))
    imported = (tmp_path / "imported").read_text().split()
    assert list(map(str, servers_of(run))) == imported
    assert set(starts(run).values()) == {"warm"}


def test_a_package_that_changes_is_imported_anew(tmp_path: Path, installed: Path) -> None:
    flow = ms.Workflow()
    first = flow.add("first", lonely)
    flow.add("second", lonely_after, first, str(tmp_path / "gate"))
    os.mkfifo(tmp_path / "gate")
    flow.add("third", lonely_given, flow.reference("second"))
    package = installed / "lonely_package.py"
    package.write_text("answer = 1\n")
    os.utime(package, (1, 1))
    run = ms.initialize_run("w", flow, base_path=tmp_path)

    def second_runs() -> bool:
        run.step()
        assert run.tasks.loc["0.second", "status"] in ("PENDING", "SUBMITTED", "RUNNING"), run.explain()
        return bool(run.attempts["started_at"].notna().sum() == 2)

    wait_for(second_runs, "it does not begin")
    package.write_text("answer = 23\n")
    os.utime(package, (2, 2))
    looked = time.monotonic() + 1.1  # it looks once a second
    wait_for(lambda: time.monotonic() > looked, "")
    (tmp_path / "gate").write_text("go")
    finished(run)
    assert [run.value(name) for name in ("first", "second", "third")] == [1, 1, 23]
    assert "has changed since it was imported" in starts(run)["0.third.1"]


def lonely_after(_: int, gate: str) -> int:
    import lonely_package

    with open(gate) as file:
        file.read()
    return int(lonely_package.answer)


def lonely_given(_: int) -> int:
    import lonely_package

    return int(lonely_package.answer)


def colours() -> str:
    import colorsys

    return str(colorsys.__file__)


def test_a_file_that_is_called_like_an_import_is_imported(tmp_path: Path) -> None:
    run = finished(run_of(tmp_path, ms.task(colours, files={"colorsys.py": "mine = True\n"})))
    assert run.value("colours") == str(run.task_directory("colours") / "colorsys.py")
    assert starts(run)["0.colours.1"] == "cold: colorsys.py has the same name as a module that it imports"


def marks() -> None:
    with open("matterstack_values.py", "a") as file:  # all attempts share it
        file.write("MARK = 1\n")


def is_marked() -> bool:
    return hasattr(sys.modules["matterstack_values"], "MARK")


def test_what_a_person_edits_beside_a_task_is_what_runs(tmp_path: Path) -> None:
    flow = ms.Workflow()
    flow.add("before", is_marked)
    flow.add("marks", ms.task(marks, dependencies=["before"]))
    flow.add("after", ms.task(is_marked, dependencies=["marks"]))
    run = finished(ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator()}))
    assert [run.value("before"), run.value("after")] == [False, True]
    assert starts(run)["0.after.1"] == "warm"


def sets_variable() -> str | None:
    os.environ["MPLBACKEND"] = "Agg"
    return os.environ.get("MPLBACKEND")


def reads_variable() -> str | None:
    return os.environ.get("MPLBACKEND", os.environ["PATH"])


def test_a_program_that_sets_variables_begins_cold(tmp_path: Path) -> None:
    run = finished(run_of(tmp_path, sets_variable, reads_variable))
    assert starts(run) == {
        "0.sets_variable.1": "cold: it sets environment variables, which packages read when they are imported",
        "0.reads_variable.1": "warm",
    }


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PATH"])
def test_a_relative_search_path_begins_cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, f"{os.environ.get(variable, '')}:lib")
    run = finished(run_of(tmp_path, ms.task(colours, files={"lib/colorsys.py": ""})))
    assert starts(run)["0.colours.1"].startswith("cold" if variable == "PYTHONPATH" else "warm")


@pytest.mark.parametrize(
    ("python", "is_warm"),
    [
        ("{python} -X dev -u", True),
        ("{python} -m trace -t", False),
        ("env {python}", False),
        ("timeout 50 {python}", False),
    ],
)
def test_only_python_alone_begins_warm(tmp_path: Path, python: str, is_warm: bool) -> None:
    run = finished(run_of(tmp_path, colours, python=python.format(python=sys.executable)))
    assert starts(run)["0.colours.1"].startswith("warm" if is_warm else "cold: ")


def test_warm_is_a_setting_that_is_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path, colours, warm=False)
    run.configure("local", warm=True)
    finished(ms.open_run(run.path))
    assert starts(run)["0.colours.1"] == "warm"
    with pytest.raises(ms.errors.InvalidConfigError, match="warm must be True or False"):
        ms.LocalOperator(warm="no")  # type: ignore[arg-type]


# -- killed at any instant ----------------------------------------------------------------------------


def signs(ledger: str, number: int) -> int:
    with open(ledger, "a") as file:
        file.write(f"start {os.environ['MATTERSTACK_TOKEN']}\n")
    return number


def signing(base: Path, **settings: Any) -> ms.Run:
    """Return a run of calls that sign a ledger, of which some depend on others."""
    flow = ms.Workflow()
    for number in range(6):
        above = [f"t{number - 2}"] if number > 1 else []
        flow.add(f"t{number}", ms.task(signs, retries=3, dependencies=above), str(base / "ledger"), number)
    return ms.initialize_run("w", flow, base_path=base, operators={"local": ms.LocalOperator(max_active=2)})


POINTS = [
    "runner.warming",
    "runner.claimed",
    "runner.asked",
    "runner.told",
    "runner.started",
    "runner.journalled",
    "runner.opened",
    "runner.ended",
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["kill", "children"])
def test_killed_at_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, point: str) -> None:
    """The runner, or its servers with the processes that they have forked: nothing is doubled, lost or stuck."""
    for hit in (1, 2) if point != "runner.warming" else (1,):
        base = tmp_path / str(hit)
        base.mkdir()
        run = signing(base)
        monkeypatch.setenv("MATTERSTACK_CRASH_RUNNER", f"{action}:{point}:{hit}")
        run.step()
        monkeypatch.delenv("MATTERSTACK_CRASH_RUNNER")
        assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED, run.explain()
        check_executions(run, base / "ledger")
        assert (run.attempts["status"] != "COMPLETED").sum() <= 2, "at most those that were under way"
        if action == "kill" or "runner.told" in POINTS[: POINTS.index(point) + 1]:
            assert "warm" in starts(run).values()
        if action == "kill" and point == "runner.opened":
            assert "LOST" in set(run.attempts["status"])


@pytest.mark.parametrize("leave", [0, 4096, 16384])
def test_a_full_disk_that_is_freed(small_disk: Path, leave: int) -> None:
    run = signing(small_disk)
    os.mkfifo(small_disk / "gate")
    run.step()
    wait_for((small_disk / "ledger").exists, "nothing has begun")
    ballast = fill(small_disk, leave)
    for _ in range(4):
        with contextlib.suppress(ms.errors.MatterstackError):
            run.step()
    ballast.unlink()
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED, run.explain()
    check_executions(run, small_disk / "ledger")


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_variables_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    monkeypatch.setitem(os.environb, b"MATTERSTACK_ODD", b"\xff\xc3\xa9")
    run = finished(run_of(tmp_path, reads_odd))
    monkeypatch.delitem(os.environb, b"MATTERSTACK_ODD")
    assert starts(run)["0.reads_odd.1"] == "warm"
    assert run.value("reads_odd") == b"\xff\xc3\xa9"


def reads_odd() -> bytes:
    return os.environb[b"MATTERSTACK_ODD"]


def test_a_driver_and_the_runner_are_killed_together(tmp_path: Path) -> None:
    run = signing(tmp_path)
    program = "import sys, matterstack as ms; ms.open_run(sys.argv[1]).wait()"
    driver = subprocess.Popen([sys.executable, "-c", program, str(run.path)])
    ledger = tmp_path / "ledger"
    wait_for(ledger.exists, "nothing has begun")
    servers = servers_of(run)
    os.kill(runner_of(run), signal.SIGKILL)
    driver.kill()
    driver.wait()
    wait_for(lambda: not any(map(alive, servers)), "a server has not left with its runner")
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.COMPLETED
    check_executions(run, ledger)


@pytest.fixture
def slow(tmp_path: Path, installed: Path) -> Path:
    """Return a FIFO; the package is imported by a server when somebody writes to it."""
    gate = tmp_path / "slow"
    os.mkfifo(gate)
    source = f"import sys\nanswer = 42\nif 'task.py' not in sys.argv:\n    open({str(gate)!r}).read()\n"
    (installed / "lonely_package.py").write_text(source)
    os.utime(installed / "lonely_package.py", (1, 1))
    return gate


def importing(run: ms.Run) -> int:
    """Step a run until a server imports for it; return that."""
    run.step()
    (server,) = wait_for(lambda: servers_of(run), "no server was started")
    return int(server)


def test_others_go_on_while_a_server_imports(tmp_path: Path, slow: Path) -> None:
    others = [ms.Task(f"c{number}", "true") for number in range(3)]
    run = run_of(tmp_path, lonely, *others, max_active=2)
    importing(run)

    def over() -> bool:
        run.step()
        return bool((run.tasks["status"] == "COMPLETED").sum() == 3)

    wait_for(over, "the others wait for it")
    wait_for(lambda: run.step() and "still being imported" in str(run.explain()), "it does not say what it waits for")
    slow.write_text("go")
    finished(run)
    assert starts(run) == {"0.lonely.1": "warm"}


def test_a_server_that_is_killed_while_it_imports(tmp_path: Path, slow: Path) -> None:
    run = run_of(tmp_path, lonely, max_active=2)
    os.kill(importing(run), signal.SIGKILL)
    finished(run)
    assert starts(run) == {"0.lonely.1": "cold: its warm server ended while it imported"}


def test_cancelled_while_a_server_imports(tmp_path: Path, slow: Path) -> None:
    run = run_of(tmp_path, lonely)
    importing(run)
    run.cancel(timeout_s=_WAIT_S)
    assert list(run.attempts["status"]) == ["CANCELLED"]
    assert run.attempts["reason"].iloc[0] != ""
    assert starts(run) == {}


def test_servers_are_few(tmp_path: Path) -> None:
    flow = ms.Workflow()
    for number in range(7):
        flow.add(f"t{number}", ms.task(colours, env={"NUMBER": str(number)}))
    flow.add("again", ms.task(colours, env={"NUMBER": "6"}, dependencies=[f"t{number}" for number in range(7)]))
    run = finished(
        ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=1)})
    )
    begun = [starts(run)[f"0.t{number}.1"] for number in range(7)]
    assert begun[:4] == ["warm"] * 4
    assert all(note.startswith("cold: it is the first") for note in begun[4:])
    assert starts(run)["0.again.1"] == "warm"
    assert len(servers_of(run)) == 4


@pytest.mark.parametrize("then", ["cancelled", "killed"])
def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    flow = ms.Workflow()
    os.mkfifo(tmp_path / "gate")
    flow.add("first", nothing)
    flow.add_task(ms.Task("between", f"read word < {tmp_path}/gate", dependencies=["first"]))
    flow.add("second", ms.task(signs, dependencies=["between"]), str(tmp_path / "ledger"), 2)
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    reached = tmp_path / "reached"
    monkeypatch.setenv("MATTERSTACK_CRASH_RUNNER", f"record:{reached}")
    wait_for(lambda: run.step() and run.tasks.loc["0.between", "status"] == "SUBMITTED", "it does not come to that")
    (server,) = servers_of(run)
    os.kill(server, signal.SIGSTOP)
    (tmp_path / "gate").write_text("go\n")
    wait_for(lambda: run.step() and reached.read_text().split().count("runner.asked") == 2, "it is not asked")
    if then == "cancelled":
        run.cancel(timeout_s=_WAIT_S)
        assert run.attempts.loc["0.second.1", "status"] == "CANCELLED"
        os.kill(server, signal.SIGCONT)
        wait_for(lambda: not run.step().live, "it does not end")
        assert not (tmp_path / "ledger").exists()
    else:
        os.kill(server, signal.SIGKILL)
        finished(run)
        assert starts(run)["0.second.1"] == "cold: its warm server has gone"
        assert (tmp_path / "ledger").read_text().count("start") == 1


def test_a_server_that_imports_leaves_with_its_runner(tmp_path: Path, slow: Path) -> None:
    run = run_of(tmp_path, lonely)
    server = importing(run)
    kill_runner(run)
    wait_for(lambda: not alive(server), "it goes on importing for nobody")
    second = importing(run)
    slow.write_text("go")
    finished(run)
    assert second != server
    assert starts(run) == {"0.lonely.1": "warm"}


# -- what a call does to others ------------------------------------------------------------------------


def leaves_a_process(child: str) -> None:
    if os.fork() == 0:
        os.setsid()
        os.closerange(0, 300)
        with open(child + ".part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(child + ".part", child)
        import time

        time.sleep(1000)
    while not os.path.exists(child):
        pass


def test_what_a_call_leaves_is_stopped(tmp_path: Path) -> None:
    flow = ms.Workflow()
    children = [tmp_path / f"child{number}" for number in range(3)]
    for number, child in enumerate(children):
        flow.add(f"t{number}", leaves_a_process, str(child))
    operators = {"local": ms.LocalOperator(max_active=3)}
    run = finished(ms.initialize_run("w", flow, base_path=tmp_path, operators=operators))
    assert set(starts(run).values()) == {"warm"}
    assert not any(alive(int(child.read_text())) for child in children)
    assert len(servers_of(run)) == 1, "its server was taken for something that was left"


def waits_hidden(told: str) -> None:
    import time

    os.closerange(0, 300)
    with open(told + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(told + ".part", told)
    time.sleep(1000)


def hiding(base: Path, **settings: Any) -> ms.Run:
    """Return a run of a call that closes all that it can."""
    flow = ms.Workflow()
    flow.add("x", ms.task(waits_hidden, **settings), str(base / "told"))
    return ms.initialize_run("w", flow, base_path=base, operators={"local": ms.LocalOperator(kill_grace_s=0.2)})


def hidden(base: Path, **settings: Any) -> tuple[ms.Run, int]:
    """Return a run of a call that has closed all that it could, and its process."""
    run = hiding(base, **settings)
    run.step()
    wait_for((base / "told").exists, "it does not begin")
    assert starts(run) == {"0.x.1": "warm"}
    return run, int((base / "told").read_text())


def hidden_within(base: Path, limit_s: float) -> tuple[ms.Run, int]:
    """Return the same with a time limit and a killed runner; 0 for the process where the limit was over before."""
    base.mkdir()
    run = hiding(base, resources=ms.Resources(walltime_s=limit_s))
    return run, kill_runner_once_told(run, base / "told", limit_s)


def test_time_limit(tmp_path: Path) -> None:
    for limit_s in (0.5, 10.0):  # a busy machine may need more until it has begun
        (base := tmp_path / str(limit_s)).mkdir()
        run = hiding(base, resources=ms.Resources(walltime_s=limit_s))
        assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.FAILED
        assert run.attempts["reason"].iloc[0] == f"time limit: it was stopped after {limit_s:g} s"
        if (base / "told").exists():
            break
    assert starts(run) == {"0.x.1": "warm"}
    assert not alive(int((base / "told").read_text()))


def panel_of(run: ms.Run, name: str) -> str:
    board = Board(run.store)
    board.refresh()
    return details_html(run, board, name)


def test_it_is_said_how_it_began(tmp_path: Path) -> None:
    run, _ = hidden(tmp_path)
    wait_for(lambda: run.step() and "begun warm" in str(run.explain()), "it is not said")
    assert "<div class='ms-value'>warm</div>" in panel_of(run, "0.x")
    run.cancel()
    other = tmp_path / "other"
    other.mkdir()
    run = finished(run_of(other, ms.task(colours, files={"colorsys.py": ""})))
    assert "cold: colorsys.py has the same name as a module that it imports" in panel_of(run, "0.colours")


def test_cancelled_while_it_runs(tmp_path: Path) -> None:
    run, pid = hidden(tmp_path)
    run.cancel()
    wait_for(lambda: not run.step().live, "it is not cancelled")
    assert not alive(pid)


@pytest.mark.parametrize("start", ["told", "lost"])
def test_the_next_runner_knows_it(tmp_path: Path, start: str) -> None:
    for limit_s in (5.0, 30.0):  # a busy machine may need more until it has begun
        over = time.monotonic() + limit_s
        run, pid = hidden_within(tmp_path / str(limit_s), limit_s)
        if pid:
            break
    assert starts(run) == {"0.x.1": "warm"}
    if start == "lost":  # only what its environment shows is left
        journal = run.path / "operators/local/journal.jsonl"
        kept = [line for line in journal.read_text().splitlines(keepends=True) if not line.startswith('["start"')]
        with open(journal, "r+") as file:  # the same file
            file.truncate()
            file.writelines(kept)
    for _ in range(3):
        assert run.step().live == 1 or time.monotonic() > over
    assert alive(pid) or time.monotonic() > over
    assert run.wait(timeout_s=_WAIT_S) is ms.RunStatus.FAILED
    assert run.attempts["reason"].iloc[0] == f"time limit: it was stopped after {limit_s:g} s"
    assert not alive(pid)


def descriptors(pid: int) -> set[str]:
    found = set()
    for place in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(place))
    return found


def test_processes_hold_nothing_of_each_other(tmp_path: Path) -> None:
    run, _ = hidden(tmp_path)
    (server,) = servers_of(run)
    assert not list(processes.locked_by(server)), "a server holds the lock of a claim"
    inherited = descriptors(os.getpid())
    assert not [place for place in descriptors(server) - inherited if place.startswith("pipe:")]
    run.cancel()
