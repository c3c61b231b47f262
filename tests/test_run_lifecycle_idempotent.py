"""Stepping again does nothing twice, whatever died when."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, in_child, killed_at, points_of, sampled
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack import crash_points as testing
from tests.helpers.runners import kill_runner


class TwoRounds(ms.Campaign):
    """Two iterations, one with a task that fails once; analyze counts its own calls in the state."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger

    def initial_state(self) -> Any:
        return {"round": 0, "sum": 0}

    def plan(self, state: Any) -> ms.Workflow | None:
        if state["round"] == 2:
            return None
        return ms.Workflow(
            [
                witnessed("a", "echo '{\"value\": 1}' > result.json", self.ledger),
                witnessed("b", '[ "$MATTERSTACK_ATTEMPT" = 2 ]', self.ledger, dependencies=["a"], retries=1),
                witnessed("c", "true", self.ledger, dependencies=["a", "b"]),
            ]
        )

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        return {"round": state["round"] + 1, "sum": state["sum"] + results["a"].data["value"]}


def make(base: Path, run_id: str = "r") -> ms.Run:
    return ms.initialize_run(
        "w",
        TwoRounds(base / "ledger"),
        base_path=base,
        run_id=run_id,
        operators={"local": ms.LocalOperator(max_active=2)},
    )


def reopen(base: Path) -> ms.Run:
    return ms.open_run(base / "workspaces/w/runs/r", campaign=TwoRounds(base / "ledger"))


def step(base: Path) -> None:
    reopen(base).step()


def go_on(base: Path) -> None:
    assert reopen(base).wait(timeout_s=60) is ms.RunStatus.COMPLETED


def check_undisturbed(base: Path) -> None:
    """Check that the run ended as one that nobody disturbed."""
    run = reopen(base)
    assert run.status is ms.RunStatus.COMPLETED
    assert run.campaign_state == {"round": 2, "sum": 2}
    assert list(run.tasks["status"]) == ["COMPLETED"] * 6
    assert list(run.tasks["attempt"]) == [1, 2, 1] * 2
    check_executions(run, base / "ledger")
    assert not list(run.path.glob("operators/*/.*.new"))
    assert sum(starts(base / "ledger").values()) == 8
    counts = run.counts
    assert (counts.total, counts.completed, counts.ready, counts.unfinished) == (3, 3, 0, 0)


def test_an_undisturbed_run_is_what_recovery_is_compared_with(tmp_path: Path) -> None:
    make(tmp_path)
    go_on(tmp_path)
    check_undisturbed(tmp_path)


def test_ten_steps_without_change_submit_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow([witnessed("held", f"cat {gate}", tmp_path / "ledger")])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    reports = [run.step() for _ in range(10)]
    assert [report.submitted for report in reports] == [1] + [0] * 9
    with open(gate, "w"):  # opens when the command reads: it has started
        pass
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 1
    assert len(run.attempts) == 1


def test_ten_steps_of_ten_processes_submit_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow([witnessed("held", f"cat {gate}", tmp_path / "ledger")])
    path = ms.initialize_run("w", flow, base_path=tmp_path).path
    for _ in range(10):
        assert in_child(lambda: ms.open_run(path).step()) == ENDED
    with open(gate, "w"):
        pass
    assert ms.open_run(path).wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 1


def test_killed_after_the_submission_and_before_the_database_knows(tmp_path: Path) -> None:
    make(tmp_path)
    assert killed_at("submit.submitted", 1, lambda: reopen(tmp_path).step())
    run = reopen(tmp_path)
    assert list(run.attempts["status"]) == ["SUBMITTING"]
    go_on(tmp_path)
    check_undisturbed(tmp_path)


def _each_point(tmp_path: Path, work: Callable[[Path], object], prepare: Callable[[Path], object]) -> int:
    """Kill `work` at every crash point, at a sample of the arrivals, each time in a run of its own; heal; compare."""
    first = tmp_path / "first"
    first.mkdir()
    prepare(first)
    killed = 0
    for point, hit in sampled(points_of(lambda: work(first), tmp_path / "points")):
        base = tmp_path / f"{point}.{hit}"
        base.mkdir()
        prepare(base)
        # Timing may merge two ticks into one, so a late arrival need not come again.
        killed += killed_at(point, hit, partial(work, base))
        if not (base / "workspaces/w/runs/r").exists():
            make(base)
        go_on(base)
        check_undisturbed(base)
    return killed


def test_killed_at_every_point_of_initialization(tmp_path: Path) -> None:
    assert _each_point(tmp_path, make, lambda _: None) >= 5


def test_killed_at_every_point_of_submission_and_analysis(tmp_path: Path) -> None:
    assert _each_point(tmp_path, go_on, make) >= 24


@pytest.mark.parametrize("action", ["raise", "EIO", "ENOSPC"])
def test_a_call_that_fails_once_at_any_point_leaves_a_run_that_goes_on(tmp_path: Path, action: str) -> None:
    make(tmp_path)
    survived = 0
    for hit in range(1, 200):
        code = in_child(
            lambda: reopen(tmp_path).wait(timeout_s=60),
            partial(testing.arm, action, "*", hit),
        )
        assert code >= 0
        survived += 1
        if reopen(tmp_path).status is ms.RunStatus.PAUSED:
            reopen(tmp_path).resume()
        if reopen(tmp_path).status is ms.RunStatus.COMPLETED:
            break
    assert survived > 3
    check_undisturbed(tmp_path)


def test_plan_that_raises_pauses_and_is_called_again_after_resume(tmp_path: Path) -> None:
    class Fragile(TwoRounds):
        broken = True

        def plan(self, state: Any) -> ms.Workflow | None:
            if state["round"] == 1 and self.broken:
                raise ZeroDivisionError("no metals left")
            return super().plan(state)

    campaign = Fragile(tmp_path / "ledger")
    run = ms.initialize_run("w", campaign, base_path=tmp_path, run_id="r")
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED
    assert "ZeroDivisionError: no metals left" in (run.reason or "")
    assert run.campaign_state == {"round": 0, "sum": 0}, "nothing half-done is stored"
    assert run.step().status is ms.RunStatus.PAUSED
    run.resume()
    assert run.wait(timeout_s=60) is ms.RunStatus.PAUSED, "still broken"
    campaign.broken = False
    run.resume()
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    check_undisturbed(tmp_path)


def test_killed_runner_with_commands_under_way(tmp_path: Path) -> None:
    """The runner dies with its command alive: the attempt is not started again, and ends LOST."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f'[ "$MATTERSTACK_ATTEMPT" = 2 ] || cat {gate}'
    flow = ms.Workflow([witnessed("held", command, tmp_path / "ledger", retries=1)])
    run = ms.initialize_run("w", flow, base_path=tmp_path, run_id="r")
    run.step()
    with open(gate, "w") as gate_end:  # the command has started
        kill_runner(run)
        for _ in range(4):
            report = run.step()
            assert report.live == 1
        assert list(run.attempts["attempt"]) == [1], "alive, so not lost"
        gate_end.write("go\n")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert list(run.attempts["status"]) == ["LOST", "COMPLETED"]
    assert "was killed" in run.attempts["reason"].iloc[0]
    check_executions(run, tmp_path / "ledger")


def failed_run(base: Path) -> ms.Run:
    flow = ms.Workflow(
        [
            witnessed("a", '[ "$MATTERSTACK_ATTEMPT" = 2 ]', base / "ledger"),
            witnessed("b", "true", base / "ledger", dependencies=["a"]),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=base, run_id="r")
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    return run


def test_killed_at_every_point_of_a_retry(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    failed_run(first)
    points = points_of(lambda: ms.open_run(first / "workspaces/w/runs/r").retry(), tmp_path / "points")
    assert points == [("store.commit", 1), ("store.committed", 1)]
    for point, hit in points:
        base = tmp_path / point
        base.mkdir()
        path = failed_run(base).path
        assert killed_at(point, hit, ms.open_run(path).retry)
        run = ms.open_run(path)
        if run.status is ms.RunStatus.FAILED:
            run.retry()
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        assert list(run.tasks["attempt"]) == [2, 1]
        check_executions(run, base / "ledger")


def held_run(base: Path) -> Path:
    """Return a run with a command under way that ends only when it is stopped."""
    os.mkfifo(base / "gate")
    command = f"echo $$ > {base}/pid; cat {base}/gate"
    flow = ms.Workflow([witnessed("a", command, base / "ledger"), ms.Task("b", "true", dependencies=["a"])])
    run = ms.initialize_run(
        "w", flow, base_path=base, run_id="r", operators={"local": ms.LocalOperator(kill_grace_s=0.1)}
    )
    run.step()
    return run.path


def test_killed_at_every_point_of_a_cancellation(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    path = held_run(first)
    points = points_of(lambda: ms.open_run(path).cancel(), tmp_path / "points")
    assert len(points) >= 6
    for point, hit in points:
        base = tmp_path / f"{point}.{hit}"
        base.mkdir()
        path = held_run(base)
        with open(base / "gate", "w"):  # the command is under way
            killed_at(point, hit, ms.open_run(path).cancel)
            run = ms.open_run(path).cancel()
        assert run.status is ms.RunStatus.CANCELLED
        assert list(run.tasks["status"]) == ["CANCELLED", "CANCELLED"]
        assert list(run.attempts["status"]) == ["CANCELLED"]
        assert not Path(f"/proc/{(base / 'pid').read_text().strip()}/environ").exists()


@pytest.mark.parametrize("first", ["store.committed", "attempt.filled", "submit.submitted"])
def test_recovery_killed_at_every_point_of_its_own(tmp_path: Path, first: str) -> None:
    base = tmp_path / "count"
    base.mkdir()
    make(base)
    assert killed_at(first, 1, lambda: reopen(base).step())
    points = points_of(lambda: reopen(base).step(), tmp_path / "points")
    assert len(points) >= 5
    for point, hit in points:
        base = tmp_path / f"{point}.{hit}"
        base.mkdir()
        make(base)
        assert killed_at(first, 1, partial(step, base))
        killed_at(point, hit, partial(step, base))
        go_on(base)
        check_undisturbed(base)


RUNNER_POINTS = ["runner.claiming", "runner.claimed", "runner.started", "runner.ended", "runner.journalled"]


@pytest.mark.parametrize("point", RUNNER_POINTS)
def test_runner_killed_at_every_point_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """No attempt is started twice; one whose end nobody saw is LOST, and the retry policy decides."""
    for hit in (1, 2, 3, 4):
        base = tmp_path / str(hit)
        base.mkdir()
        ledger = base / "ledger"
        tasks = [
            witnessed(f"t{n}", "true", ledger, dependencies=[f"t{n - 2}"] if n > 1 else [], retries=3) for n in range(6)
        ]
        run = ms.initialize_run(
            "w", ms.Workflow(tasks), base_path=base, operators={"local": ms.LocalOperator(max_active=2)}
        )
        monkeypatch.setenv("MATTERSTACK_CRASH_RUNNER", f"kill:{point}:{hit}")
        run.step()
        monkeypatch.delenv("MATTERSTACK_CRASH_RUNNER")
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        check_executions(run, ledger)
        lost = (run.attempts["status"] == "LOST").sum()
        assert lost <= 2, "at most those that were running"
        seen = run.attempts["exit_code"].notna()
        assert run.attempts["cpu_s"].notna().equals(seen), "what an attempt used is known where its end is"
        if point in ("runner.claimed", "runner.started"):
            assert lost >= 1
        if point == "runner.journalled":
            assert "LOST" not in set(run.attempts[run.attempts["exit_code"].notna()]["status"])
