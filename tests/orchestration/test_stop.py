"""Stop at any instruction: no transaction is left open, no lock is held, nothing is done twice, lost or stuck.

``MATTERSTACK_EVERY_LINE=1`` stops at every instruction instead of a sample.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from crashes import ENDED, in_child
from ledger import check_executions, witnessed

import matterstack as ms
from matterstack import crash_points, interrupts
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.operators.base import Operator

SAMPLE = None if os.environ.get("MATTERSTACK_EVERY_LINE") else 12
#: The standard library's own, for which nothing of ours is responsible and which takes long.
_NOT_TRACED = ("<frozen importlib", "/logging/")


@pytest.fixture(autouse=True)
def stop_raises() -> Iterator[None]:
    """Have Stop raise, as in a notebook, also where tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Outside(Operator):
    """An outside that writes down each attempt that is submitted to it; what it took is over at the next look."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        ledger.parent.mkdir(exist_ok=True)
        ledger.touch()

    @property
    def taken(self) -> Counter[str]:
        """How often each attempt was submitted, by whatever process."""
        return Counter(self.ledger.read_text().split())

    def max_live(self, directory: Path) -> int:
        return 2

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        with self.ledger.open("a") as file:
            file.write("".join(f"{attempt.token}\n" for attempt in attempts))
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        return {attempt.token: Observation(Seen.ENDED) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        taken = self.taken
        return {attempt.token: Submitted() if taken[attempt.token] else Absent() for attempt in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


class Rounds(ms.Campaign):
    """Two iterations of three tasks."""

    def initial_state(self) -> Any:
        return {"round": 0}

    def plan(self, state: Any) -> ms.Workflow | None:
        tasks = [ms.Task(f"t{n}", ["x"], operator="outside") for n in range(2)]
        last = ms.Task("last", ["x"], operator="outside", dependencies=["t0", "t1"])
        return ms.Workflow([*tasks, last]) if state["round"] < 2 else None

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        assert len(results) == 3
        return {"round": state["round"] + 1}


def make(base: Path) -> tuple[ms.Run, Outside]:
    outside = Outside(base / "ledger")
    run = ms.initialize_run("w", Rounds(), base_path=base, run_id="r", operators={"outside": outside})
    return run, outside


def stopped_at(number: int, work: Callable[[], object]) -> tuple[int, BaseException | None]:
    """Do some work, with a SIGINT at its `number`-th instruction; return how many there were, and what it raised."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
            if count == number:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return local

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if any(name in frame.f_code.co_filename for name in _NOT_TRACED):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    gc.disable()
    raised = None
    sys.settrace(trace)
    try:
        work()
    except BaseException as error:
        raised = error
    finally:
        sys.settrace(None)
        gc.enable()
    return count, raised


def chosen(total: int, seed: int) -> Iterator[int]:
    """Return the instructions to stop at: a sample spread over all, or every one."""
    if SAMPLE is None:
        yield from range(1, total + 1)
        return
    generator = random.Random(seed)
    for n in range(SAMPLE):
        yield 1 + int(total / SAMPLE * (n + generator.random()))


def check_free(run: ms.Run) -> None:
    """Check that the run is nobody's: others can lock it and write."""
    with (run.path / "run.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = sqlite3.connect(run.path / "state.sqlite", timeout=0, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("ROLLBACK")
    other.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def descriptors() -> Counter[str]:
    """Return what this process has open, by name."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").split("/")[-1]] += 1
        except FileNotFoundError:
            continue  # that of the listing
    return found


STAGES = {"submits": 0, "collects": 1, "analyzes": 3, "ends": 7}


def at_stage(base: Path, steps: int) -> tuple[ms.Run, Outside]:
    run, outside = make(base)
    for _ in range(steps):
        run.step()
    return run, outside


def check_goes_on(run: ms.Run, outside: Outside, number: object = None) -> None:
    """Check that another process, then this one, goes on as if nothing had been."""
    check_free(run)
    assert in_child(run.step) == ENDED, number
    run.step()
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, number
    assert run.campaign_state == {"round": 2}
    assert sorted(outside.taken.values()) == [1] * 6 == [1] * len(run.attempts)
    assert run.store.check() == []


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_at_instructions_of_a_step(tmp_path: Path, stage: str) -> None:
    for name in ("warm", "count"):
        run, _ = at_stage(tmp_path / name, STAGES[stage])
        before = descriptors()
        total, raised = stopped_at(0, run.step)
        assert raised is None
        more = descriptors() - before
    for number in chosen(total, seed=1):
        run, outside = at_stage(tmp_path / str(number), STAGES[stage])
        before = descriptors()
        count, kept = stopped_at(number, run.step)  # the traceback is kept, as a notebook does
        if number <= count:
            assert isinstance(kept, KeyboardInterrupt), (number, kept)
        assert descriptors() - before <= more, number
        check_goes_on(run, outside, number)
        shutil.rmtree(tmp_path / str(number))


# The second may come while Python removes an object, where it drops whatever is raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stopped_again_while_it_stops(tmp_path: Path) -> None:
    generator = random.Random(2)
    going: list[bool] = []

    def first(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-6, 5e-4))
        raise KeyboardInterrupt

    def second(number: int, frame: FrameType | None) -> None:
        if going:
            raise KeyboardInterrupt

    run, _ = at_stage(tmp_path / "count", 1)
    total, _ = stopped_at(0, run.step)
    before = signal.signal(signal.SIGALRM, second)
    for number in chosen(total, seed=3):
        run, outside = at_stage(tmp_path / str(number), 1)
        signal.signal(signal.SIGINT, first)
        going.append(True)
        try:
            count, kept = stopped_at(number, run.step)
            going.clear()
        except KeyboardInterrupt as late:
            count, kept = number, late
        going.clear()
        gc.enable()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number <= count:
            assert isinstance(kept, KeyboardInterrupt), (number, kept)
        check_goes_on(run, outside, number)
        assert signal.getsignal(signal.SIGALRM) is second
        shutil.rmtree(tmp_path / str(number))
    signal.signal(signal.SIGALRM, before)


def test_stopped_at_instructions_of_an_initialization(tmp_path: Path) -> None:
    make(tmp_path / "warm")
    total, _ = stopped_at(0, lambda: make(tmp_path / "count"))
    for number in chosen(total, seed=4):
        base = tmp_path / str(number)
        before = descriptors()
        stopped_at(number, lambda: make(base))  # noqa: B023
        runs = base / "workspaces/w/runs"
        left = os.listdir(runs) if runs.exists() else []
        assert set(left) <= {"r"}, number
        assert (descriptors() - before).keys() <= {"state.sqlite"}, number
        outside = Outside(base / "ledger")
        run = ms.open_run(runs / "r", Rounds(), {"outside": outside}) if left else make(base)[0]
        check_goes_on(run, outside, number)
        shutil.rmtree(base)


def asking(base: Path) -> ms.Run:
    """Return a run with a question to a person, and a task that waits for the answer."""
    base.mkdir()
    schema = {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}
    flow = ms.Workflow([ms.Task("ask", instructions="x?", schema=schema, operator="human")])
    flow.add_task(ms.Task("then", "true", dependencies=["ask"]))
    operators = {"human": ms.HumanOperator(), "local": ms.LocalOperator()}
    run = ms.initialize_run("w", flow, base_path=base, run_id="r", operators=operators)
    run.step()
    run.step()
    return run


ACTIONS: dict[str, Callable[[ms.Run], object]] = {
    "pause": lambda run: run.pause(),
    "cancel": lambda run: run.cancel(timeout_s=0),
    "respond": lambda run: run.respond("ask", {"x": 1}),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_stopped_at_instructions_of_an_action(tmp_path: Path, action: str) -> None:
    act = ACTIONS[action]
    for name in ("warm", "count"):
        run = asking(tmp_path / name)
        total, raised = stopped_at(0, lambda: act(run))  # noqa: B023
        assert raised is None
    for number in chosen(total, seed=5):
        run = asking(tmp_path / str(number))
        before = descriptors()
        count, kept = stopped_at(number, lambda: act(run))  # noqa: B023
        if number <= count:
            assert isinstance(kept, KeyboardInterrupt), (number, kept)
        assert not descriptors() - before, number
        check_free(run)
        assert in_child(run.step) == ENDED, number
        if run.status is ms.RunStatus.PAUSED:
            run.resume()
        elif run.status is not ms.RunStatus.CANCELLED:
            with contextlib.suppress(ms.errors.RunStatusError, ms.errors.AnswerConflictError):  # the first one counted
                run.respond("ask", {"x": 1})
        run.step()
        assert run.status is not ms.RunStatus.FAILED
        assert run.store.check() == []
        assert not list(run.path.rglob("*.partial"))
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)  # a command may be at work


def test_stopped_at_instructions_of_a_step_with_commands(tmp_path: Path) -> None:
    """The connection to the runner loses no report: what has ended is seen to have ended, by the same session."""

    def staged(name: str) -> ms.Run:
        (tmp_path / name).mkdir()
        ledger = tmp_path / name / "ledger"
        flow = ms.Workflow([witnessed(f"t{n}", "true", ledger) for n in range(3)])
        operators = {"local": ms.LocalOperator(max_active=2)}
        run = ms.initialize_run("w", flow, base_path=tmp_path / name, run_id="r", operators=operators)
        run.step()
        return run

    run = staged("count")
    total, _ = stopped_at(0, run.step)
    for number in chosen(total, seed=6):
        run = staged(str(number))
        for _ in range(2):
            stopped_at(number, run.step)
        check_free(run)
        assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED, number
        check_executions(run, tmp_path / str(number) / "ledger")
        assert len(run.attempts) == 3
        shutil.rmtree(tmp_path / str(number))


def test_waiting_for_another_program_is_stopped(tmp_path: Path) -> None:
    run, outside = make(tmp_path / "base")
    other = sqlite3.connect(run.path / "state.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def step() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        run.step()

    try:
        with pytest.raises(KeyboardInterrupt):
            step()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert other.in_transaction, "it waited no longer than that"
    other.execute("ROLLBACK")
    other.close()
    check_goes_on(run, outside)


def test_code_of_a_campaign_is_stopped_where_it_is_and_called_again(tmp_path: Path) -> None:
    calls = []

    class Long(Rounds):
        def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
            calls.append(state)
            if len(calls) == 1:
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("not reached")
            return super().analyze(state, results)

    outside = Outside(tmp_path / "ledger")
    run = ms.initialize_run("w", Long(), base_path=tmp_path, operators={"outside": outside})
    with pytest.raises(KeyboardInterrupt):
        run.wait(timeout_s=30)
    assert run.status is ms.RunStatus.RUNNING
    run.step()
    assert calls == [{"round": 0}] * 2, "the same analysis again"
    check_goes_on(run, outside)


def test_stop_in_a_commit_is_heard_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, outside = make(tmp_path / "base")
    points = []

    def stop(point: str) -> None:
        points.append(point)
        if point == "store.commit":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(crash_points, "_armed", stop)
    with pytest.raises(KeyboardInterrupt):
        run.step()
    monkeypatch.undo()
    assert "store.committed" in points, "the transaction was not cut"
    assert not outside.taken
    assert list(run.attempts["status"]) == ["SUBMITTING"] * 2
    check_goes_on(run, outside)


def test_a_handler_that_does_not_raise_is_called_once_and_stays(tmp_path: Path) -> None:
    run, outside = make(tmp_path / "base")
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    mine = signal.getsignal(signal.SIGINT)
    try:
        stopped_at(3000, run.step)
        assert heard == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    check_goes_on(run, outside)


def test_two_signals_that_were_held_are_both_handled() -> None:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(number)

    @interrupts.held()
    def both() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(SystemExit) as caught:
            both()
        assert isinstance(caught.value.__context__, KeyboardInterrupt)
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_forked_child_holds_nothing() -> None:
    def stop() -> None:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with interrupts.held():
        assert in_child(stop) == ENDED


def test_a_thread_neither_holds_nor_lets_go() -> None:
    def work() -> None:
        with interrupts.held(), interrupts.heard():
            pass

    reached = []

    @interrupts.held()
    def hold() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        signal.raise_signal(signal.SIGINT)
        reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        hold()
    assert reached
