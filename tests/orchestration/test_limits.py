"""Limits of a workspace: never over one, whatever is killed when; fair to all runs; and what waits says for whom."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from crashes import ENDED, in_child, killed_at, points_of, sampled
from ledger import starts, witnessed
from limit_lab import Room, kill_at_random

import matterstack as ms
from matterstack import crash_points
from matterstack.core.attempts import Absent, Attempt, Observation, Seen, Submitted
from matterstack.errors import (
    InvalidConfigError,
    InvalidTaskError,
    RunNotFoundError,
    RunStatusError,
)
from matterstack.notebook.board import Board
from matterstack.notebook.details import details_html
from matterstack.operators.base import Operator
from matterstack.storage import limits
from matterstack.storage.limits import Ledger
from matterstack.storage.reader import StoreReader
from matterstack.storage.run_lock import RunLock

#: Says so where more are in at once than may be.
GUARDED = (
    "mkdir -p {base}/in; touch {base}/in/$MATTERSTACK_TOKEN; "
    "[ $(ls {base}/in | wc -l) -le {most} ] || echo $MATTERSTACK_TOKEN >> {base}/over; "
    "sleep {s}; rm {base}/in/$MATTERSTACK_TOKEN"
)


class Instrument(Operator):
    """Holds what it is given until it is told that all of it has ended."""

    def __init__(self) -> None:
        self.ends = False

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        seen = Observation(Seen.ENDED, ok=True) if self.ends else Observation(Seen.RUNNING)
        return {attempt.token: seen for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Absent]:
        return {attempt.token: Absent() for attempt in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return [attempt.token for attempt in attempts]


def wanting(task_id: str, command: str = "true", priority: int = 0, **named: int) -> ms.Task:
    return ms.Task(task_id, command, priority=priority, resources=ms.Resources(named=named))


def make(base: Path, run_id: str, tasks: Sequence[ms.Task], **settings: Any) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow(list(tasks)), base_path=base, run_id=run_id, **settings)


def held_open(base: Path, run_id: str, tasks: int, **named: int) -> tuple[ms.Run, Instrument]:
    """Return a run of tasks that end when they are told to."""
    instrument = Instrument()
    flow = [
        ms.Task(f"t{n}", ["x"], operator="instrument", resources=ms.Resources(named=named or {"furnace": 1}))
        for n in range(tasks)
    ]
    return make(base, run_id, flow, operators={"instrument": instrument}), instrument


def held(base: Path, name: str = "furnace") -> tuple[int, str]:
    row = ms.limits("w", base).set_index("name").loc[name]
    return int(row["held"]), str(row["by"])


# -- what is refused beforehand, and what is said -----------------------------------------------


def test_a_task_that_could_never_get_what_it_names_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidTaskError, match=r"'t' wants 1 of furnace.*has no limit: ms.set_limits\('w', furnace=1"):
        make(tmp_path, "r", [wanting("t", furnace=1)])
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    with pytest.raises(InvalidTaskError, match=r"'t' wants 2 of furnace, and the limit .* is 1: .*furnace=2"):
        make(tmp_path, "r", [wanting("s", furnace=1), wanting("t", furnace=2)])
    assert not list((tmp_path / "workspaces/w/runs").glob("*"))
    run = make(tmp_path, "r", [wanting("t", "exit 1", furnace=1)])
    assert run.wait(timeout_s=30) is ms.RunStatus.FAILED
    with pytest.raises(InvalidTaskError, match="wants 2 of furnace"):
        run.retry("t", resources={"named": {"furnace": 2}})
    run.retry("t", resources={"named": {}}, command="true")
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_a_later_plan_that_names_what_there_is_not_pauses_the_run_and_says_so(tmp_path: Path) -> None:
    class Second(ms.Campaign):
        def initial_state(self) -> int:
            return 0

        def plan(self, state: int) -> ms.Workflow | None:
            return ms.Workflow([wanting("t", furnace=1) if state else ms.Task("t", "true")]) if state < 2 else None

        def analyze(self, state: int, results: object) -> int:
            return state + 1

    run = ms.initialize_run("w", Second(), base_path=tmp_path)
    assert run.wait(timeout_s=30) is ms.RunStatus.PAUSED
    assert "furnace, for which the workspace 'w' has no limit" in (run.reason or "")
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    assert run.resume().wait(timeout_s=30) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize("amount", [-1, 1.5, True, "1", 2**53])
def test_an_amount_that_makes_no_sense(tmp_path: Path, amount: Any) -> None:
    with pytest.raises(InvalidConfigError, match="furnace must be a whole number"):
        ms.set_limits("w", base_path=tmp_path, furnace=amount)
    with pytest.raises(InvalidTaskError, match="no name of a resource"):
        ms.set_limits("w", base_path=tmp_path, Furnace=1)
    with pytest.raises(RunNotFoundError):
        ms.limits("w", tmp_path)


def test_who_waits_says_for_what_and_for_whom(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=3)
    first, instrument = held_open(tmp_path, "first", 2)
    second, _ = held_open(tmp_path, "second", 2)
    for run in (first, second):
        run.step()
    report = second.step()
    assert (report.submitted, report.waits_for) == (0, "work")
    assert report.look_again_s is not None
    assert report.look_again_s <= 1
    assert "furnace" in (report.reason or "")
    (blocker,) = [one for one in second.explain() if one.what == "task t1"]
    said = "waits for furnace: 3 of 3 are held by run first (2), this run (1), since "
    assert said in blocker.why
    assert str(second.tasks.loc["0.t1", "reason"]).startswith(said), "the table says so, too"
    board = Board(second.store)
    board.refresh()
    assert said in details_html(second, board, "0.t1")
    assert not str(second.tasks.loc["0.t0", "reason"]).startswith(said)
    assert blocker.since is not None
    assert list(ms.limits("w", tmp_path).iloc[0]) == ["furnace", 3, 3, "first (2), second (1)", "second"]
    ms.set_limits("w", base_path=tmp_path, furnace=0)
    (blocker,) = [one for one in second.explain() if one.what == "task t1"]
    assert "the limit of the workspace 'w' is 0" in blocker.why
    assert "furnace=1" in blocker.remedy
    ms.set_limits("w", base_path=tmp_path, furnace=None)
    assert second.step().submitted == 0
    assert "has no limit" in repr(second.explain())
    assert pd.isna(ms.limits("w", tmp_path)["amount"].iloc[0])
    ms.set_limits("w", base_path=tmp_path, furnace=2)
    instrument.ends = True
    first.step()
    assert second.step().submitted == 1
    assert "waits for furnace" not in repr(second.explain())


def test_doctor_names_a_run_that_cannot_be_found_and_what_to_do(tmp_path: Path) -> None:
    def doctor() -> tuple[int, str]:
        program = [sys.executable, "-m", "matterstack", "doctor", str(tmp_path / "workspaces/w")]
        done = subprocess.run(program, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    run, _ = held_open(tmp_path, "r", 0)
    code, said = doctor()
    assert (code, "The workspace has no limits." in said) == (0, True)
    ms.set_limits("w", base_path=tmp_path, furnace=2)
    run, _ = held_open(tmp_path, "s", 2)
    run.step()
    code, said = doctor()
    assert (code, "s (2)" in said) == (0, True)
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    shutil.move(run.path, tmp_path / "away")
    code, said = doctor()
    assert code == 1
    assert "run s holds 2 reservations, and there is no run at runs/s any more" in said
    assert "matterstack release-reservations w s " in said
    assert "2 of furnace are held, and the limit is 1" in said


# -- what is held, and by whom ------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["completed", "cancelled", "cancelled alone", "lost"])
def test_what_is_over_is_given_back_however_it_ended(tmp_path: Path, ends: str) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run, instrument = held_open(tmp_path, "r", 2)
    run.step()
    assert (held(tmp_path), run.step().submitted) == ((1, "r (1)"), 0)
    if ends == "cancelled":
        run.cancel()
        assert held(tmp_path) == (0, "")
        return
    if ends == "completed":
        instrument.ends = True
    elif ends == "lost":
        run.declare_lost("t0")
    else:
        run.cancel_task("t0")
    run.step()
    assert run.step().submitted == 1
    assert held(tmp_path) == (1, "r (1)")


def test_a_run_that_was_moved_keeps_what_it_holds_until_it_is_back_or_a_person_says_otherwise(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run, instrument = held_open(tmp_path, "moved", 1)
    waits, _ = held_open(tmp_path, "waits", 1)
    for one in (run, waits):
        one.step()
    with pytest.raises(RunStatusError, match="1 of its attempts that hold something are not over"):
        ms.release_reservations("w", "moved", tmp_path)
    with pytest.raises(RunNotFoundError, match="'moved_'"):
        ms.release_reservations("w", "moved_", tmp_path)
    away = tmp_path / "away"
    shutil.move(run.path, away)
    assert ms.open_run(waits.path, operators={"instrument": Instrument()}).step().submitted == 0
    (blocker,) = [one for one in waits.explain() if one.what == "task t0"]
    assert "there is no run at runs/moved any more" in blocker.why
    assert "ms.release_reservations('w', run_id='moved'" in blocker.remedy
    # Where it is now it ends, which the ledger of the workspace does not hear of.
    instrument.ends = True
    elsewhere = ms.open_run(away, operators={"instrument": instrument})
    assert elsewhere.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert held(tmp_path) == (1, "moved (1)")
    # A later run of its name is another one.
    make(tmp_path, "moved", [ms.Task("t", "true")]).step()
    assert held(tmp_path) == (1, "moved (1)")
    shutil.rmtree(run.path)
    shutil.move(away, run.path)
    ms.open_run(run.path).step()
    assert held(tmp_path) == (0, "")
    assert waits.step().submitted == 1
    shutil.rmtree(waits.path)
    assert ms.release_reservations("w", "waits", tmp_path) == 1
    assert held(tmp_path) == (0, "")


def test_a_copy_of_a_run_gives_nothing_of_the_original_back(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run, _ = held_open(tmp_path, "r", 1)
    run.step()
    copy = run.path.with_name("copy")
    shutil.copytree(run.path, copy)
    ms.trust(copy)
    ended = Instrument()
    ended.ends = True
    assert ms.open_run(copy, operators={"instrument": ended}).wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert held(tmp_path) == (1, "r (1)")


def test_in_no_workspace_nothing_is_granted_and_explain_says_so(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run, _ = held_open(tmp_path, "r", 1)
    shutil.move(run.path, tmp_path / "away")
    away = ms.open_run(tmp_path / "away", operators={"instrument": Instrument()})
    assert away.step().submitted == 0
    assert "its run is in no workspace" in repr(away.explain())


def test_a_ledger_that_cannot_be_used_keeps_only_those_back_that_want_something(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run = make(tmp_path, "r", [wanting("hot", furnace=1), ms.Task("cold", "true")])
    ledger = tmp_path / "workspaces/w/limits.sqlite"
    whole = ledger.read_bytes()
    ledger.write_bytes(b"damaged" * 100)
    for _ in run.ticks(timeout_s=60):
        if run.counts.completed == 1:
            break
    assert list(run.tasks["status"]) == ["PENDING", "COMPLETED"]
    assert "limits.sqlite is no database" in repr(run.explain())
    ledger.write_bytes(whole)
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_what_could_not_be_written_into_the_ledger_is_not_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run = make(tmp_path, "r", [wanting("hot", furnace=1), ms.Task("cold", "true")])
    journal = tmp_path / "workspaces/w/limits.sqlite-journal"
    failed = []

    def full(point: str) -> None:
        if point == "store.commit" and journal.exists() and journal.stat().st_size:
            failed.append(point)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(crash_points, "_armed", full)
    assert run.step().submitted == 1
    assert failed
    monkeypatch.setattr(crash_points, "_armed", None)
    assert held(tmp_path) == (0, "")
    assert list(run.tasks["status"]) == ["PENDING", "SUBMITTED"]
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


def test_a_ledger_that_another_program_keeps_locked_holds_a_tick_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run = make(tmp_path, "r", [wanting("hot", furnace=1), ms.Task("cold", "true")])
    monkeypatch.setattr(limits, "_PATIENCE_S", 0.3)
    with opened(monkeypatch) as names, closing(sqlite3.connect(tmp_path / "workspaces/w/limits.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert run.step().submitted == 1
        assert names.count("limits.sqlite") == 1
        assert "stayed locked by another program" in repr(run.explain())
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED


# -- who comes first ----------------------------------------------------------------------------


def test_those_behind_tasks_that_wait_go_on(tmp_path: Path) -> None:
    """Two places at the operator, twenty tasks first in line for a furnace that another run has."""
    ms.set_limits("w", base_path=tmp_path, furnace=1, license=9)
    other, instrument = held_open(tmp_path, "other", 1)
    other.step()
    furnace = ms.Resources(named={"furnace": 1})
    tasks = [wanting(f"hot{n}", furnace=1) for n in range(20)]
    tasks += [ms.Task("elsewhere", ["x"], operator="instrument", resources=furnace)]
    tasks += [wanting("licensed", license=1), ms.Task("cold", "true"), wanting("both", license=1, furnace=1)]
    run = make(tmp_path, "r", tasks, operators={"local": ms.LocalOperator(max_active=2), "instrument": instrument})
    reports = []
    for report in run.ticks(timeout_s=60):
        reports.append(report)
        if run.counts.completed == 2:
            break
    done = run.tasks[run.tasks["status"] == "COMPLETED"]["task_id"]
    assert set(done) == {"licensed", "cold"}
    assert len(reports) < 60, "a loop does not spin for what waits"
    instrument.ends = True
    other.step()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize("many", [1, 60])
def test_those_behind_go_on_however_many_limits_are_short_and_whatever_else_is_called_so(
    tmp_path: Path, many: int
) -> None:
    names = [f"f{n}" for n in range(many)]
    ms.set_limits("w", base_path=tmp_path, **dict.fromkeys(names, 1))
    tasks = [wanting(f"hot_{name}", **{name: 1}) for name in names]
    tasks += [ms.Task("cold", "true", env={"f0": "no resource"}), ms.Task("cool", "true")]
    run = make(tmp_path, "r", tasks, operators={"local": ms.LocalOperator(max_active=many)})
    ms.set_limits("w", base_path=tmp_path, **dict.fromkeys(names, 0))
    for _ in run.ticks(timeout_s=60):
        if run.counts.completed == 2:
            break
    assert list(run.tasks["status"]) == ["PENDING"] * many + ["COMPLETED"] * 2


def test_those_behind_take_no_more_places_than_are_left(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    (tmp_path / "in").mkdir()
    hot = ms.Resources(named={"furnace": 1})
    tasks = [ms.Task(f"hot{n}", "true", operator="room", resources=hot) for n in range(2)]
    tasks += [ms.Task(f"cold{n}", "true", operator="room") for n in range(2)]
    run = make(tmp_path, "r", tasks, operators={"room": Room(tmp_path, places=2, at_once=2)})
    assert run.step().submitted == 2
    assert list(run.tasks["status"]) == ["SUBMITTED", "PENDING", "SUBMITTED", "PENDING"]


def test_a_place_goes_on_to_the_next_in_the_tick_that_sees_it_free(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    tasks = [ms.Task(f"t{n}", "true", operator="room") for n in range(3)]
    run = make(tmp_path, "r", tasks, operators={"room": Room(tmp_path, places=1, at_once=1)})
    reports = [run.step() for _ in tasks]
    assert [(one.completed, one.submitted, one.live) for one in reports] == [(0, 1, 1), (1, 1, 1), (1, 1, 1)]


def test_a_run_of_many_tasks_leaves_the_next_place_to_the_single_one_of_another(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=2)
    many, instrument = held_open(tmp_path, "many", 1000)
    single, _ = held_open(tmp_path, "single", 1)
    many.step()
    assert held(tmp_path) == (2, "many (2)")
    assert single.step().submitted == 0
    instrument.ends = True
    many.step()  # both are over, and nothing was free before
    instrument.ends = False
    assert many.step().submitted == 1, "the other place is the other's"
    assert single.step().submitted == 1
    assert held(tmp_path) == (2, "many (1), single (1)")


def test_a_loop_that_waits_begins_within_two_seconds_of_the_place(tmp_path: Path) -> None:
    """Counted in looks, not in seconds: a loop that waits for a limit pauses for one second at most."""
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    other, instrument = held_open(tmp_path, "other", 1)
    other.step()
    run, _ = held_open(tmp_path, "r", 1)
    looks = [report.look_again_s for report, _ in zip(run.ticks(timeout_s=60), range(6), strict=False)]
    assert all(look is not None and look <= 1 for look in looks)
    instrument.ends = True
    other.step()
    assert run.step().submitted == 1


def test_priority_of_a_task_counts_across_runs(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    first, instrument = held_open(tmp_path, "first", 1)
    first.step()
    patient = make(tmp_path, "patient", [wanting("t", furnace=1)])
    urgent = make(tmp_path, "urgent", [wanting("t", priority=5, furnace=1)])
    for run in (patient, urgent):
        assert run.step().submitted == 0
    instrument.ends = True
    first.step()
    assert patient.step().submitted == 0
    assert "run urgent comes before it" in repr(patient.explain())
    assert urgent.step().submitted == 1


# -- what it costs ------------------------------------------------------------------------------


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Collect the names of the databases that are opened."""
    from matterstack.storage import database

    names: list[str] = []
    connect = database.connect

    def noted(path: Path, mode: str, *rest: float) -> database.Connection:
        names.append(path.name)
        return connect(path, mode, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(database, "connect", noted)
        yield names


def test_a_run_that_names_nothing_does_not_open_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run = make(tmp_path, "r", [ms.Task("t0", "true"), ms.Task("t1", "true", dependencies="t0")])
    run.step()  # the first one of a process looks once whether it holds something
    with opened(monkeypatch) as names:
        assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert "limits.sqlite" not in names


def test_a_look_of_a_run_that_waits_goes_through_its_ready_tasks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    other, _ = held_open(tmp_path, "other", 1)
    other.step()
    run = make(tmp_path, "r", [wanting(f"t{n}", furnace=1) for n in range(1500)])
    through = []
    asked = StoreReader.ready_tasks

    def noted(self: StoreReader, operator: str, limit: int, at: float, *without: Sequence[str]) -> Any:
        through.append(bool(without))
        return asked(self, operator, limit, at, *without)

    monkeypatch.setattr(StoreReader, "ready_tasks", noted)
    for _ in range(3):
        assert run.step().submitted == 0
    assert through.count(True) == 1


def test_a_table_says_why_each_task_waits_in_as_many_statements_for_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    ask = StoreReader.query

    def noted(self: StoreReader, sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return ask(self, sql, *rest)

    monkeypatch.setattr(StoreReader, "query", noted)

    def asked(run: ms.Run) -> int:
        statements.clear()
        assert len(run.tasks) == len(run.store.tasks())
        return len(statements) - 1

    unlimited = [asked(make(tmp_path, f"free{n}", [ms.Task(f"t{i}", "true") for i in range(n)])) for n in (2, 200)]
    assert unlimited == [1, 1], "where no limit is set, nothing is asked for it"
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    held_open(tmp_path, "other", 1)[0].step()
    counts = []
    for many in (2, 200):
        run = make(tmp_path, f"r{many}", [wanting(f"t{n}", furnace=1) for n in range(many)])
        run.step()
        counts.append(asked(run))
        assert all("waits for furnace" in reason for reason in run.tasks["reason"])
    assert counts[0] == counts[1]


# -- whatever is killed when --------------------------------------------------------------------


def two_runs(base: Path, tasks: int = 2) -> None:
    """Make two runs that share a furnace, whose tasks say so if two are in it at once."""
    base.mkdir()
    ms.set_limits("w", base_path=base, furnace=1)
    command = GUARDED.format(base=base, most=1, s=0)
    for run_id in ("a", "b"):
        flow = [
            witnessed(f"t{n}", command, base / "ledger", resources=ms.Resources(named={"furnace": 1}))
            for n in range(tasks)
        ]
        make(base, run_id, flow)


def runs_of(base: Path) -> list[ms.Run]:
    return [ms.open_run(base / "workspaces/w/runs" / run_id) for run_id in ("a", "b")]


def go_round(base: Path) -> None:
    """Step both in turn, until they are over."""
    runs = runs_of(base)
    while any(run.status in (ms.RunStatus.PENDING, ms.RunStatus.RUNNING) for run in runs):
        for run in runs:
            run.wait(timeout_s=0)
            never_over(base)


def never_over(base: Path) -> None:
    """Check what is live against what is held: each live attempt is held, and no more than there is."""
    ledger = Ledger(base / "workspaces/w")
    standing = ledger.standing()
    assert all(standing.held(name) <= amount for name, amount in standing.amounts.items())
    live = set().union(
        *(StoreReader(run / "state.sqlite").live_tokens() for run in (base / "workspaces/w/runs").glob("[!.]*"))
    )
    assert live <= {one.token for one in ledger.reservations()}


def check_all_ended(base: Path, tasks: int = 2) -> None:
    assert not (base / "over").exists()
    for run in runs_of(base):
        run.step()  # killed after its very last commit, it holds something until somebody wants it or steps it
        assert run.status is ms.RunStatus.COMPLETED
        assert list(run.attempts["attempt"]) == [1] * tasks
    assert max(starts(base / "ledger").values()) == 1
    assert len(starts(base / "ledger")) == 2 * tasks
    assert held(base) == (0, "")


def test_killed_at_every_point_of_two_runs_that_share_one_place(tmp_path: Path) -> None:
    """Of the arrivals at a point a sample is taken."""
    two_runs(tmp_path / "first")
    points = points_of(partial(go_round, tmp_path / "first"), tmp_path / "points")
    check_all_ended(tmp_path / "first")
    mine = {point for point, _ in points if point.startswith("limits.")}
    assert mine == {"limits.reserved", "limits.giving_back", "limits.given_back"}
    killed = 0
    for point, hit in sampled((point, hit) for point, hit in points if point.startswith(("limits.", "store."))):
        base = tmp_path / f"{point}.{hit}"
        two_runs(base)
        killed += killed_at(point, hit, partial(go_round, base))
        never_over(base)
        assert in_child(partial(go_round, base)) == ENDED
        check_all_ended(base)
    assert killed >= 9


def test_one_step_after_a_kill_submits_what_the_kill_kept_from_being_stored(tmp_path: Path) -> None:
    two_runs(tmp_path / "base", 1)
    a, _ = runs_of(tmp_path / "base")
    assert killed_at("limits.reserved", 1, a.step)
    assert ms.open_run(a.path).step().submitted == 1
    assert a.wait(timeout_s=30) is ms.RunStatus.COMPLETED


@pytest.mark.parametrize(("point", "stored"), [("limits.reserved", []), ("limits.giving_back", ["COMPLETED"])])
def test_what_a_killed_run_left_is_given_back_by_whoever_wants_it(
    tmp_path: Path, point: str, stored: list[str]
) -> None:
    """Nobody steps the run that was killed any more: the other one finds out, and goes on."""
    base = tmp_path / "base"
    two_runs(base, 1)
    a, b = runs_of(base)
    assert killed_at(point, 1, partial(a.wait, timeout_s=90))
    assert (held(base), list(a.attempts["status"])) == ((1, "a (1)"), stored)
    with RunLock(a.path / "run.lock"):  # whoever steps it now may be about to store what it holds
        looks_again_at_once = b.step().look_again_s == 0
        assert held(base) == ((1, "a (1)") if not stored else (0, ""))
        assert looks_again_at_once is bool(stored)
    b = ms.open_run(b.path)
    assert b.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert a.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    check_all_ended(base, 1)


def test_killed_at_random_by_several_processes_nothing_is_over_and_nothing_lost(tmp_path: Path) -> None:
    """A sample of ``tests/benchmarks/many.py reservations``, which makes ten thousand."""
    said = kill_at_random(tmp_path / "base", runs=3, tasks=20, places=4, seed=7, every_s=0.2)
    assert said.kills >= 3
    assert (said.completed, said.attempts, said.over, said.held) == (60, 60, 0, 0)
