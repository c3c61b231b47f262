"""What a view costs does not depend on how large its run is: what is read, kept, sent, and waited for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import matterstack as ms
from matterstack.notebook import follower
from matterstack.notebook.table_view import WINDOW

TASKS = 3000


@pytest.fixture
def large(tmp_path: Path) -> ms.Run:
    """A run of four kinds of tasks, of which each waits for one of the kind before."""
    kinds = ("relax", "scf", "bands", "dos")
    flow = ms.Workflow(
        [
            ms.Task(f"{kind}-{n}", "true", group=kind, dependencies=[f"{kinds[at - 1]}-{n}"] if at else [])
            for at, kind in enumerate(kinds)
            for n in range(TASKS // 4)
        ]
    )
    return ms.initialize_run("w", flow, base_path=tmp_path)


def end_one(run: ms.Run, row: int) -> None:
    """Have a task end, as a step of another process does."""
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE tasks SET status = 'CANCELLED' WHERE id = ?", (row,))
        connection.execute("UPDATE iterations SET pending = pending - 1, ready = ready - 1, cancelled = cancelled + 1")
        connection.execute(
            "INSERT INTO events (at, task, event, status) VALUES (1790000000.0, ?, 'cancel', 'CANCELLED')", (row,)
        )


def reads(run: ms.Run, act: Callable[[], object]) -> list[str]:
    """Return the statements that a database is asked while something is done."""
    said: list[str] = []
    connection = run.store._connection()
    connection.set_trace_callback(said.append)
    act()
    connection.set_trace_callback(None)
    return said


def test_ten_cockpits_of_a_run_read_its_database_once(large: ms.Run) -> None:
    run = ms.open_run(large.path)
    first = run.watch()
    follow = first.follower
    end_one(run, 1)
    alone = reads(run, follow.look)
    assert "CANCELLED" in {row[1] for row in first.table.window["rows"]}
    others = [run.watch() for _ in range(9)]
    end_one(run, 2)
    together = reads(run, follow.look)
    assert len(together) == len(alone)
    for cockpit in (first, *others):
        assert cockpit.follower is follow
        assert cockpit.dag.state["counts"]["N"] == 2
        assert [row[1] for row in cockpit.table.window["rows"][:2]] == ["CANCELLED"] * 2
        assert ["N", 2] in cockpit.head.standing["parts"]
        assert "0.relax-1" in cockpit.journal.value
    assert reads(run, follow.look) == ["PRAGMA data_version"], "and nothing but that when nothing changed"


def test_what_is_sent_of_a_change_is_a_window_and_a_letter_a_node(large: ms.Run) -> None:
    run = ms.open_run(large.path)
    table, dag = run.table(), run.dag()
    sent: dict[str, Any] = {}
    for view, names in ((table, ["window"]), (dag, ["graph", "state"])):
        view.observe(lambda change: sent.update({change["name"]: change["new"]}), names)
    end_one(run, 5)
    table.follower.look()
    assert set(sent) == {"window", "state"}, "a change of status draws nothing anew"
    assert len(sent["window"]["rows"]) == WINDOW
    assert len(json.dumps(sent["window"])) < 100 * WINDOW + 1000
    assert len(sent["state"]["codes"]) == 4
    assert len(json.dumps(sent["state"])) < 1000


def test_a_graph_counts_on_with_what_changed_as_if_it_were_drawn_anew(large: ms.Run) -> None:
    run = ms.open_run(large.path)
    shown = {"groups": run.dag(), "every": run.dag(collapse="tasks"), "one": run.dag(collapse="iteration")}
    some = run.graph.subgraph([f"0.{kind}-{n}" for kind in ("relax", "scf") for n in range(3, 40)])
    shown["some"] = run.dag(some)
    shown["opened"] = run.dag()
    shown["opened"]._heard(None, {"change": {"expanded": ["0:relax"]}}, None)
    assert len(shown["opened"].graph["nodes"]) == TASKS // 4 + 3
    for row in (10, 11, 12):
        end_one(run, row)
        shown["groups"].follower.look()
    for name, view in shown.items():
        anew = view.drawing.__class__(view.shape, view.collapse, view.expanded, view.drawing.room)
        assert view.state == anew.state(), name
    assert shown["some"].state["counts"]["N"] == 3


def test_a_very_large_run_is_shown_at_once_and_read_beside_the_kernel(
    large: ms.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_MOST_AT_ONCE", 1000)
    run = ms.open_run(large.path)
    end_one(run, 7)
    gate = threading.Event()
    read = follower.Reading.run
    monkeypatch.setattr(follower.Reading, "run", lambda reading: gate.wait(60) and read(reading))

    async def scene() -> None:
        table, dag = run.table(), run.dag()
        assert table.follower.reads
        assert len(table.window["rows"]) == WINDOW
        assert (table.window["total"], table.window["found"]) == (TASKS, TASKS)
        assert dag.graph["nodes"] == []
        assert dag.graph["note"] == f"reading {TASKS} tasks …"
        assert sum(dag.state["counts"].values()) == TASKS
        assert dag.state["counts"]["N"] == 1
        assert f"{TASKS // 4 - 1} ready" in dag.twin_text()
        gate.set()
        async with asyncio.timeout(60):
            while table.follower.reads:
                await asyncio.sleep(0.01)
        assert len(dag.graph["nodes"]) == 4
        assert dag.graph["note"] == ""
        table._heard(None, {"change": {"asked": {"first": TASKS, "number": "1"}}}, None)
        assert table.window["rows"][-1][0] == f"0.dos-{TASKS // 4 - 1}"
        end_one(run, 700)
        table.follower.look()
        assert dag.state["counts"]["N"] == 2
        table.follower.task.cancel()

    asyncio.run(scene())


def test_a_part_of_a_very_large_run_waits_until_it_is_read(large: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_MOST_AT_ONCE", 1000)
    run = ms.open_run(large.path)

    async def scene() -> None:
        dag = run.dag(run.graph.subgraph(["0.dos-700", "0.bands-700"]))
        assert {node["key"] for node in dag.graph["nodes"]} == {"0.dos-700", "0.bands-700"}
        assert len(dag.graph["edges"]) == 1
        dag.follower.task.cancel()

    asyncio.run(scene())


def test_a_new_view_begins_with_what_is_true_now(large: ms.Run) -> None:
    run = ms.open_run(large.path)
    kept = run.watch()
    end_one(run, 720)
    assert run.dag().state["counts"]["N"] == 1
    assert kept.dag.state["counts"]["N"] == 1, "and so do those that are there"


def test_many_rows_are_told_and_few_are_kept(large: ms.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from matterstack.notebook import board

    monkeypatch.setattr(board, "_MOST_TOLD", 400)
    table = ms.open_run(large.path).table()
    for first in (0, 800, 1600, 2400, 0):
        table._heard(None, {"change": {"asked": {"first": first, "number": str(first)}}}, None)
        assert len(table.window["rows"]) == WINDOW
        assert len(table.board._told) <= 400
    assert table.window["rows"][0][0] == "0.relax-0"
