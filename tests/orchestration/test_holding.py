"""Single tasks and groups: cancelled, kept back and released, and which of them go first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from crashes import killed_at, points_of
from ledger import check_executions, witnessed

import matterstack as ms
from matterstack.errors import RunStatusError, UnknownTaskError


def under_way(base: Path) -> ms.Run:
    """Return a run with one command that ends only when it is stopped, and others that wait."""
    os.mkfifo(base / "gate")
    flow = ms.Workflow(
        [
            witnessed("live", f"cat {base}/gate", base / "ledger", group="g"),
            witnessed("after", "true", base / "ledger", dependencies="live"),
            witnessed("x-1", "true", base / "ledger", group="x"),
            witnessed("x-2", "true", base / "ledger", group="x"),
        ]
    )
    operators = {"local": ms.LocalOperator(max_active=1, kill_grace_s=0.1)}
    run = ms.initialize_run("w", flow, base_path=base, run_id="r", operators=operators)
    run.step()
    return run


def stands(run: ms.Run) -> list[str]:
    return list(run.tasks["status"])


def test_a_cancelled_task_is_stopped_and_the_run_goes_on(tmp_path: Path) -> None:
    run = under_way(tmp_path)
    run.cancel_task("live", reason="not needed")
    with pytest.raises(RunStatusError, match="being stopped"):
        run.retry("live")
    run.cancel_task(group="x")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert stands(run) == ["CANCELLED", "SKIPPED", "CANCELLED", "CANCELLED"]
    assert run.tasks.loc["0.after", "reason"] == "live was cancelled"
    while run.step().live:
        pass
    assert list(run.attempts["status"]) == ["CANCELLED"]
    for wrong in (lambda: run.cancel_task("x-1"), lambda: run.hold(group="none")):
        with pytest.raises(RunStatusError):
            wrong()


def test_killed_at_every_point_of_a_cancellation(tmp_path: Path) -> None:
    def work(base: Path) -> None:
        run = ms.open_run(base / "workspaces/w/runs/r")
        if run.store.task(0, "live").status == "SUBMITTED":  # type: ignore[union-attr]
            run.cancel_task("live")
        run.step()

    def prepare(name: str) -> Path:
        base = tmp_path / name
        base.mkdir()
        under_way(base)
        return base

    first = prepare("first")
    for point, hit in points_of(lambda: work(first), tmp_path / "points"):
        base = prepare(f"{point}.{hit}")
        killed_at(point, hit, lambda base=base: work(base))  # type: ignore[misc]
        work(base)
        run = ms.open_run(base / "workspaces/w/runs/r")
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        while run.step().live:
            pass
        assert stands(run) == ["CANCELLED", "SKIPPED", "COMPLETED", "COMPLETED"]
        check_executions(run, base / "ledger")


def test_what_is_held_waits_and_says_why(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [ms.Task("a", "[ $MATTERSTACK_ATTEMPT = 2 ]", retries=1, group="g"), ms.Task("b", "true", ["a"])]
    )
    flow.add_task(ms.Task("c", "true", group="g"))
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.hold(group="g", reason="the license is away")
    assert (run.counts.pending, run.counts.ready) == (3, 0)
    assert run.step().waits_for == "people"
    said = run.explain()
    assert (said[0].why, said[0].remedy) == ("it is held: the license is away", "run.release('a')")
    assert said[0].since is not None
    with pytest.raises(RunStatusError, match="not held"):
        run.release("b")
    with pytest.raises(UnknownTaskError):
        run.hold("zz")
    run.release("a")
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    assert stands(run) == ["COMPLETED", "COMPLETED", "PENDING"]
    assert ms.open_run(run.path).release().wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_live_task_that_is_held_ends_and_is_not_tried_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    flow = ms.Workflow([ms.Task("a", f"[ $MATTERSTACK_ATTEMPT = 2 ] || {{ cat {tmp_path}/gate; false; }}", retries=1)])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.step()
    run.hold("a")
    with open(tmp_path / "gate", "w"):
        pass
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    assert (stands(run), len(run.attempts), run.counts.ready) == (["PENDING"], 1, 0)
    assert run.release("a").wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_higher_priorities_go_first_through_the_index(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task(f"t{n}", "true", priority=n % 3) for n in range(9)])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=1)})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.attempts["task_id"]) == ["t2", "t5", "t8", "t1", "t4", "t7", "t0", "t3", "t6"]


def test_a_tick_reaches_what_is_ready_through_the_index(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("t", "true")]), base_path=tmp_path)
    asked: list[str] = []
    query: Callable[..., list[tuple[object, ...]]] = run.store.query

    def heard(sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        asked.extend(row[3] for row in query(f"EXPLAIN QUERY PLAN {sql}", parameters))  # type: ignore[misc]
        return query(sql, parameters)

    run.store.query = heard  # type: ignore[method-assign, assignment]
    run.store.ready_tasks("local", 10, 0.0)
    run.store.ready_operators(0.0)
    run.store.next_start(["local"])
    assert all("ready_tasks" in step or "VIRTUAL TABLE" in step for step in asked), asked


def test_what_is_held_before_its_turn_stays_held_when_that_comes(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("a", "true"), ms.Task("b", "true", ["a"])])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    run.hold("b")
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    assert (stands(run), run.counts.ready) == (["COMPLETED", "PENDING"], 0)
    assert run.release("b").wait(timeout_s=60) is ms.RunStatus.COMPLETED
