"""Many tasks: all of them end, and what a tick costs follows what changed, not what exists."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from crashes import points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Seen,
    Submitted,
)
from matterstack.errors import OperatorUnreachableError
from matterstack.operators.base import Operator, Traits
from matterstack.orchestration.loop_memory import LoopMemory
from matterstack.storage import database


class Completer(Operator):
    """Takes attempts, and completes as many as it is told to at each look."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.ok = True
        self.finish = most

    def max_live(self, directory: Path) -> int:
        return self.most

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        return {attempt.token: Observation(Seen.ENDED, ok=self.ok) for attempt in attempts[: self.finish]}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Absent]:
        return {attempt.token: Absent() for attempt in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


def layered(width: int, layers: int) -> ms.Workflow:
    flow = ms.Workflow()
    for layer in range(layers):
        for n in range(width):
            above = [f"t{layer - 1}.{n}", f"t{layer - 1}.{(n + 1) % width}"] if layer else []
            flow.add_task(ms.Task(f"t{layer}.{n}", ["/bin/true"], dependencies=above, operator="fake"))
    return flow


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect every SQL statement that connections opened inside carry out."""
    statements: list[str] = []
    connect = database.connect

    def traced(path: Path, mode: str, *rest: float) -> database.Connection:
        connection = connect(path, mode, *rest)
        connection.set_trace_callback(statements.append)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(database, "connect", traced)
        yield statements


def test_120_tasks_really_run(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    flow = ms.Workflow()
    for layer in range(6):
        for n in range(20):
            above = [f"t{layer - 1}.{n}", f"t{layer - 1}.{(n + 1) % 20}"] if layer else []
            flow.add_task(
                witnessed(f"t{layer}.{n}", f"echo '{{\"n\": {n}}}' > result.json", ledger, dependencies=above)
            )
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=4)})
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert len(starts(ledger)) == 120
    check_executions(run, ledger)
    assert list(run.results["n"]) == [n for _ in range(6) for n in range(20)]
    # Dependencies were over before their dependants began.
    times = run.tasks.set_index("task_id")
    for task in flow:
        for above in task.dependencies:
            assert times.loc[above, "ended_at"] <= times.loc[task.task_id, "started_at"]


def test_a_tick_costs_what_changed_and_not_what_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tick in a run of 200 and of 10,000 tasks carries out the same statements."""
    counts: dict[int, dict[str, int]] = {}
    with counted(monkeypatch) as statements:
        for width in (20, 1000):
            fake = Completer(10)
            run = ms.initialize_run("w", layered(width, 10), base_path=tmp_path, operators={"fake": fake})
            run.step()
            statements.clear()
            fake.finish = 0
            run.step()
            idle = len(statements)
            statements.clear()
            fake.finish = 10
            report = run.step()
            assert (report.completed, report.submitted) == (10, 10)
            counts[width * 10] = {"idle": idle, "busy": len(statements)}
            commits = sum(statement == "COMMIT" for statement in statements)
            writes = sum(statement == "BEGIN IMMEDIATE" for statement in statements)
            assert writes <= 2, "N ready tasks cost two transactions"
            assert commits <= 4
    assert counts[200] == counts[10_000]
    assert counts[10_000]["idle"] <= 12
    assert counts[10_000]["busy"] <= 12 + 10 * 25


def test_room_at_one_operator_does_not_make_the_loop_spin_for_tasks_of_another(tmp_path: Path) -> None:
    """A person's operator always has room; tasks that wait for the only place on this machine cannot use it."""
    flow = ms.Workflow([ms.Task(f"t{n}", "sleep 0.5") for n in range(3)])
    operators = {"local": ms.LocalOperator(max_active=1), "human": ms.HumanOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    began = time.monotonic()
    reports = list(run.ticks(timeout_s=120))
    halves = (time.monotonic() - began) / 0.5
    assert run.status is ms.RunStatus.COMPLETED
    assert len(reports) <= 20 * max(3, halves), "a task is looked at some ten times in half a second"


class Shared(Completer):
    """A scheduler that many share: asked seldom, and given its work in small portions."""

    traits = Traits(poll_s=2.0, most_at_once=10)

    def __init__(self) -> None:
        super().__init__(1000)
        self.finish = 0
        self.looks: list[float] = []

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        self.looks.append(time.monotonic())
        return super().check_status(attempts)


def test_a_loop_of_ticks_asks_a_shared_scheduler_seldom_and_a_step_asks_it_at_once(tmp_path: Path) -> None:
    flow = layered(30, 1)
    for n in range(60):
        flow.add_task(ms.Task(f"here{n}", "sleep 0.02"))
    shared = Shared()
    operators = {"fake": shared, "local": ms.LocalOperator(max_active=1)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    ticks = run.ticks(timeout_s=60)
    submitted = 0
    for number, report in enumerate(ticks):
        submitted += report.submitted
        if number == 0:
            assert report.submitted <= 10 + 1
        if report.completed and run.counts.completed == 60:
            break
    assert number > 2 * len(shared.looks), "the ticks that the local commands woke asked nobody else"
    assert all(later - earlier >= 2.0 for earlier, later in itertools.pairwise(shared.looks))
    assert (run.attempts["operator"] == "fake").sum() == 30
    before = len(shared.looks)
    run.step()
    run.step()
    assert len(shared.looks) == before + 2
    shared.finish = 1000
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_a_glance_is_no_answer_of_an_operator_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable(Shared):
        traits = Traits(poll_s=60.0, most_at_once=10)

        def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
            return {attempt.token: Submitted(to_start=True) for attempt in attempts}

        def start(self, attempts: Sequence[Attempt]) -> None:
            raise OperatorUnreachableError("the scheduler is down")

    unreachable = Unreachable()
    flow = layered(3, 1)
    for n in range(20):
        flow.add_task(ms.Task(f"here{n}", "sleep 0.02"))
    operators = {"fake": unreachable, "local": ms.LocalOperator(max_active=1)}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    monkeypatch.setattr(LoopMemory, "may_only_poll_files", lambda self, operator: operator == "fake")
    for _ in run.ticks(timeout_s=60):
        if run.counts.completed == 20:
            break
    assert not unreachable.looks
    assert "the scheduler is down" in repr(run.explain())


def test_a_single_step_submits_all_that_is_ready(tmp_path: Path) -> None:
    run = ms.initialize_run("w", layered(30, 1), base_path=tmp_path, operators={"fake": Shared()})
    assert run.step().submitted == 30


def test_10_000_tasks_of_a_fake_operator_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Completer(500)
    with counted(monkeypatch) as statements:
        run = ms.initialize_run("w", layered(1000, 10), base_path=tmp_path, operators={"fake": fake})
        assert run.wait(timeout_s=300) is ms.RunStatus.COMPLETED
    assert run.counts.completed == 10_000
    assert len(statements) <= 10_000 * 25
    assert (run.attempts["status"] == "COMPLETED").all()


def test_no_statement_scans_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement of a busy tick reaches its rows through an index, and no question makes a table of its own."""
    with counted(monkeypatch) as statements:
        run = ms.initialize_run("w", layered(20, 10), base_path=tmp_path, operators={"fake": Completer(10)})
        run.step()
        statements.clear()
        run.step()
    connection = sqlite3.connect(run.path / "state.sqlite")
    try:
        for statement in {s for s in statements if s.split()[0] in ("SELECT", "UPDATE", "DELETE")}:
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
                for table in ("tasks", "attempts", "dependencies", "events", "t", "a", "d", "p"):
                    assert not detail.startswith(f"SCAN {table}") or "USING INDEX live" in detail, (statement, detail)
            if statement.startswith("SELECT"):
                codes = [code for _, code, *_ in connection.execute(f"EXPLAIN {statement}")]
                assert "OpenEphemeral" not in codes, statement
    finally:
        connection.close()


def test_a_counter_that_does_not_agree_with_its_rows_is_found(tmp_path: Path) -> None:
    run = ms.initialize_run("w", layered(20, 3), base_path=tmp_path, operators={"fake": Completer(10)})
    run.step()
    run.step()
    assert run.store.check() == []
    program = [sys.executable, "-m", "matterstack", "check", str(run.path)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "The database agrees with itself.\n")
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE iterations SET completed = completed + 1")
        connection.execute("UPDATE tasks SET unmet = 5 WHERE task_id = 't2.7'")
        connection.execute("UPDATE attempts SET status = 'LOST' WHERE id = 15")
        connection.execute("INSERT INTO dependencies VALUES (1, 999)")
    found = "\n".join(run.store.check())
    for wanted in (
        "iteration 0: completed is stored as 11, and 10 are there",
        "task 0.t2.7: it waits for 5 dependencies, and 2 are not satisfied",
        "task 0.t0.14: it is SUBMITTED, and has 1 attempts of 1, 0 of them live",
        "names a row of tasks that is not there",
    ):
        assert wanted in found
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.strip() == found


def test_a_failure_at_the_root_of_10_000_tasks_skips_them_in_one_tick(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("root", "exit 1")])
    for n in range(5000):
        flow.add_task(ms.Task(f"a{n}", "true", dependencies=["root"]))
        flow.add_task(ms.Task(f"b{n}", "true", dependencies=[f"a{n}", f"a{max(0, n - 1)}"]))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert run.counts.skipped == 10_000
    assert run.tasks.loc["0.a7", "reason"] == "root failed"
    run.retry("root")
    assert run.status is ms.RunStatus.RUNNING
    assert (run.counts.pending, run.counts.ready) == (10_001, 1)


def test_no_statement_takes_more_variables_the_more_tasks_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes 32,766 variables where nobody built it for more; here it takes 20."""
    real = database.connect

    def connect(path: Path, mode: str, *rest: float) -> database.Connection:
        connection = real(path, mode, *rest)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 20)
        return connection

    monkeypatch.setattr(database, "connect", connect)
    fake = Completer(100)
    flow = ms.Workflow([ms.Task(f"t{n}", ["x"], operator="fake") for n in range(100)])
    flow.add_task(ms.Task("last", ["x"], operator="fake", dependencies=[f"t{n}" for n in range(100)]))
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"fake": fake})
    fake.ok = False
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert (run.counts.failed, run.counts.skipped) == (100, 1)
    run.retry()
    assert (run.counts.ready, run.counts.pending) == (100, 101)
    assert run.store.check() == []
    assert run.store.attempts_of([f"o{n}" for n in range(100)]) == []
    fake.ok = True
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


class Rounds(ms.Campaign):
    """So many iterations of one task."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def initial_state(self) -> int:
        return 0

    def plan(self, state: int) -> ms.Workflow | None:
        return ms.Workflow([ms.Task("t", ["/bin/true"])]) if state < self.rounds else None

    def analyze(self, state: int, results: object) -> int:
        return state + 1


def test_an_iteration_of_a_loop_is_two_commits(tmp_path: Path) -> None:
    def commits(rounds: int) -> int:
        run = ms.initialize_run("w", Rounds(rounds), base_path=tmp_path, run_id=f"r{rounds}")
        points = points_of(lambda: run.wait(timeout_s=60), tmp_path / f"points{rounds}")
        moves = run.events[run.events["subject"] == "attempt"].groupby("iteration")["at"].nunique()
        # On a busy machine a command is not over when it has been handed over: that it runs, and its end, are commits
        # of their own.
        later = int((moves - 1).sum())
        return sum(point == "store.committed" for point, _ in points) - later

    assert commits(25) - commits(5) <= 2 * 20, (
        "its end with what became of its submission; what follows, with the intents"
    )


def test_a_single_step_stops_at_what_was_planned(tmp_path: Path) -> None:
    run = ms.initialize_run("w", Rounds(2), base_path=tmp_path)
    while run.iteration == 0:
        run.step()
    assert list(run.tasks["status"]) == ["COMPLETED", "PENDING"], "one may look at it before it is submitted"
