"""At the limit of its budget nothing more of a run starts, what runs ends, and a person may raise it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from crashes import killed_at, points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.errors import InvalidConfigError


def made(base: Path, budget: dict[str, Any], *tasks: ms.Task) -> ms.Run:
    flow = ms.Workflow(tasks or [witnessed(f"t{n}", "true", base / "ledger") for n in range(5)])
    return ms.initialize_run("w", flow, base_path=base, run_id="r", config={"budget": budget})


def test_no_more_tasks_are_begun_than_there_may_be(tmp_path: Path) -> None:
    run = made(tmp_path, {"tasks": 3})
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert (run.spent.tasks, sum(starts(tmp_path / "ledger").values())) == (3, 3)
    (blocker, *_) = run.explain()
    assert blocker.why.startswith("the budget is spent: 3 of 3 tasks")
    assert run.resume().wait(timeout_s=60) is ms.RunStatus.PAUSED, "it is still spent"
    ms.open_run(run.path).configure(budget={"tasks": 4})
    assert run.resume().wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert run.spent.tasks == 4
    run.configure(budget={"tasks": None})
    assert ms.open_run(run.path).resume().wait(timeout_s=60) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_the_limit_is_named_while_something_still_runs(tmp_path: Path) -> None:
    run = made(
        tmp_path,
        {"tasks": 1},
        ms.Task("long", f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"),
        ms.Task("next", "true"),
    )
    run.step()
    for looking in (run, ms.open_run(run.path)):
        (blocker,) = (one for one in looking.explain() if one.what == "run")
        assert blocker.why == "the budget is spent: 1 of 1 tasks"
        assert "run.configure(budget=" in blocker.remedy
    run.configure(budget={"tasks": 2})
    assert "budget" not in repr(run.explain())
    (tmp_path / "go").touch()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_a_run_that_ends_at_its_limit_ends(tmp_path: Path) -> None:
    run = made(tmp_path, {"tasks": 5})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_core_hours_are_those_of_the_cores_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    cores = ms.Resources(nodes=2, tasks=4, cpus_per_task=250)
    first = ms.Task("first", f"cat {tmp_path}/gate", resources=cores)
    run = made(tmp_path, {"core_h": 1e-4}, first, ms.Task("second", "true", dependencies="first"))
    while not run.spent.core_h:
        run.step()
    assert run.step().submitted == 0
    with open(tmp_path / "gate", "w"):  # what runs goes on to its end
        pass
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert list(run.tasks["status"]) == ["COMPLETED", "PENDING"]
    (row,) = run.store.attempts()
    assert row.started_at is not None
    assert row.ended_at is not None
    assert run.spent.core_h == pytest.approx((row.ended_at - row.started_at) * 2000 / 3600)
    assert (run.configure(budget={"core_h": 1e9}).resume().wait(timeout_s=60)) is ms.RunStatus.COMPLETED


def test_the_clock_stands_while_the_run_is_paused(tmp_path: Path) -> None:
    run = made(tmp_path, {"wall_h": 1e-9})
    assert run.spent.wall_h == 0
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    spent = run.spent.wall_h
    assert 0 < spent == run.spent.wall_h == ms.open_run(run.path).spent.wall_h
    assert run.configure(budget={"wall_h": 1}).resume().wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.spent.wall_h > spent


def test_killed_at_every_point_at_the_limit(tmp_path: Path) -> None:
    def work(base: Path) -> None:
        ms.open_run(base / "workspaces/w/runs/r").wait(timeout_s=60)

    def prepare(name: str) -> Path:
        base = tmp_path / name
        base.mkdir()
        made(base, {"tasks": 2})
        return base

    first = prepare("first")
    for point, hit in points_of(lambda: work(first), tmp_path / "points"):
        if not point.startswith(("store.", "submit.")):
            continue
        base = prepare(f"{point}.{hit}")
        killed_at(point, hit, lambda base=base: work(base))  # type: ignore[misc]
        work(base)
        run = ms.open_run(base / "workspaces/w/runs/r")
        assert (run.status, run.spent.tasks) == (ms.RunStatus.PAUSED, 2)
        check_executions(run, base / "ledger")


@pytest.mark.parametrize("wrong", [{"task": 1}, {"tasks": 0}, {"core_h": "1"}, {"wall_h": float("nan")}, 5])
def test_a_budget_that_makes_no_sense_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidConfigError):
        made(tmp_path, wrong)
    run = made(tmp_path / "other", {"tasks": 1})
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(InvalidConfigError):
        run.configure(budget=wrong)
    with pytest.raises(InvalidConfigError):
        run.configure()
    assert (run.path / "config.json").read_bytes() == before
