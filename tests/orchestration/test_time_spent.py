"""Where time went: counted by function, operator, iteration and group, as the budget counts it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import matterstack as ms
from matterstack.errors import PlotError


def relax(x: int) -> int:
    return x


class Twice(ms.Campaign):
    """Two iterations of three tasks: a call, a command of four cores that is tried twice, and one of a group."""

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: Any) -> ms.Workflow | None:
        if state == 2:
            return None
        flow = ms.Workflow()
        flow.add("relax-Al", relax, state)
        once = "[ $MATTERSTACK_ATTEMPT = 2 ]"
        flow.add_task(ms.Task("scf-1", once, retries=1, resources=ms.Resources(cpus_per_task=4)))
        flow.add_task(ms.Task("other", "true", group="scf"))
        return flow

    def analyze(self, state: Any, results: Any) -> Any:
        return state + 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ms.Run:
    base = tmp_path_factory.mktemp("time")
    run = ms.initialize_run("w", Twice(), base_path=base, operators={"local": ms.LocalOperator()})
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    return run


def test_each_attempt_is_counted_once_whatever_it_is_counted_by(run: ms.Run) -> None:
    attempts = run.attempts
    ran_s = (attempts["ended_at"] - attempts["started_at"]).dt.total_seconds()
    waited_s = (attempts["started_at"] - attempts["submitted_at"]).dt.total_seconds()
    for by, keys in (
        ("function", {"", "relax"}),
        ("operator", {"local"}),
        ("iteration", {0, 1}),
        ("group", {"relax", "scf"}),
    ):
        spent = run.time_spent(by=by)
        assert (set(spent.index), spent.index.name) == (keys, by)
        assert list(spent[["attempts", "completed", "failed"]].sum()) == [8, 6, 2]
        assert spent["running_s"].sum() == pytest.approx(ran_s.sum(), abs=1e-4)
        assert spent["waiting_s"].sum() == pytest.approx(waited_s.sum(), abs=1e-4)
        assert spent["core_hours"].sum() == pytest.approx(run.spent.core_h), "as the budget counts them"
        assert spent["cpu_s"].sum() == pytest.approx(attempts["cpu_s"].sum())
        assert spent["peak_memory_gib"].max() == attempts["peak_memory_gib"].max()
    spent = run.time_spent("group")
    assert list(spent.loc["scf", ["attempts", "completed", "failed"]]) == [6, 4, 2]
    wide = attempts["task_id"] == "scf-1"
    assert run.time_spent().loc["", "core_hours"] * 3600 == pytest.approx(
        (ran_s * wide * 4).sum() + ran_s[attempts["task_id"] == "other"].sum(), abs=1e-4
    )


def test_where_most_went_comes_first_and_iterations_come_in_their_order(run: ms.Run) -> None:
    assert list(run.time_spent("iteration").index) == [0, 1]
    assert run.time_spent("group")["core_hours"].is_monotonic_decreasing


def test_the_share_of_the_cores_that_was_used_is_of_what_was_measured(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("x", "true", retries=1)]), base_path=tmp_path)
    run.wait(timeout_s=60)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as there, there:
        there.execute("UPDATE attempts SET submitted_at = 100, started_at = 103, ended_at = 113, usage = ?",
                      ('{"cpu_s": 7.5, "peak_memory_gib": 2}',))  # fmt: skip
        there.execute("INSERT INTO attempts (task, attempt, status, token, submitted_at, started_at, ended_at) "
                      "VALUES (1, 2, 'LOST', 'ms-2', 113, 114, 214)")  # fmt: skip
    (spent,) = run.time_spent("operator").to_dict("records")
    assert spent == pytest.approx(
        {"attempts": 2, "completed": 1, "failed": 1, "waiting_s": 4, "running_s": 110, "core_hours": 110 / 3600,
         "cpu_s": 7.5, "cpu_efficiency": 0.75, "peak_memory_gib": 2}
    )  # fmt: skip


def test_what_was_cached_took_no_time(tmp_path: Path) -> None:
    def once() -> ms.Run:
        task = ms.Task("x", "echo '{}' > result.json", cache=True)
        run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path)
        run.wait(timeout_s=60)
        return run

    once()
    again = once()
    assert again.attempts["cached"].notna().all()
    with closing(sqlite3.connect(again.path / "state.sqlite")) as there, there:
        there.execute("UPDATE attempts SET ended_at = submitted_at + 5")  # to look for it took long
    spent = again.time_spent().loc[""]
    assert list(spent[["attempts", "completed", "waiting_s", "running_s", "core_hours"]]) == [1, 1, 0, 0, 0]
    assert pd.isna(spent["cpu_s"])


def test_what_waits_for_a_person_has_waited_up_to_now(tmp_path: Path) -> None:
    operators = {"human": ms.HumanOperator()}
    task = ms.Task("ask", operator="human", instructions="Is it good?")
    run = ms.initialize_run("w", ms.Workflow([task]), base_path=tmp_path, operators=operators)
    assert run.time_spent().empty, "nothing was submitted"
    began = time.time()
    run.wait(timeout_s=60)
    first = run.time_spent("operator").loc["human"]
    assert 0 < first["waiting_s"] <= time.time() - began
    assert first["running_s"] == 0
    assert run.time_spent("operator").loc["human", "waiting_s"] > first["waiting_s"], "and it goes on"


def test_what_attempts_do_not_have_in_common_is_refused(tmp_path: Path) -> None:
    run = ms.initialize_run("w", ms.Workflow([ms.Task("x", "true")]), base_path=tmp_path)
    with pytest.raises(PlotError, match="by must be one of 'function', 'operator', 'iteration', 'group'"):
        run.time_spent("colour")
