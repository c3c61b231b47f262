"""Directories of runs that come, go, and are put in each other's place."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from crashes import in_child

import matterstack as ms
from matterstack import crash_points
from matterstack.core.attempts import Attempt, Observation, Seen, Submitted
from matterstack.errors import RunExistsError, RunNotFoundError
from matterstack.operators.base import Operator
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.run_lock import RunLock


def asking(base: Path) -> ms.Run:
    """Return a run with a question to a person and a kit that waits to be carried away."""
    schema = {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}
    flow = ms.Workflow([ms.Task("ask", instructions="x?", schema=schema, operator="human")])
    flow.add_task(ms.Task("far", "true", operator="kits"))
    operators = {"human": ms.HumanOperator(), "kits": ms.ManualHPCOperator()}
    run = ms.initialize_run("w", flow, base_path=base, run_id="r", operators=operators)
    run.step()
    run.step()
    return run


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


ACTIONS: dict[str, Callable[[ms.Run, Path], object]] = {
    "step": lambda run, _: run.step(),
    "wait": lambda run, _: run.wait(timeout_s=5),
    "pause": lambda run, _: run.pause(),
    "resume": lambda run, _: run.resume(),
    "cancel": lambda run, _: run.cancel(),
    "retry": lambda run, _: run.retry("ask"),
    "respond": lambda run, _: run.respond("ask", {"x": 1}),
    "declare_lost": lambda run, _: run.declare_lost("far"),
    "export_kits": lambda run, place: run.export_kits(place / "out.zip"),
    "import_kits": lambda run, place: run.import_kits(place / "kits.zip"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_handle_never_touches_the_run_that_took_the_place_of_its_own(tmp_path: Path, action: str) -> None:
    mine = asking(tmp_path)
    mine.export_kits(tmp_path / "kits.zip")
    kept = tmp_path / "a kept one"
    mine.path.rename(kept)
    other = asking(tmp_path)
    before = content(other.path), content(kept)
    with pytest.raises(RunNotFoundError) as caught:
        ACTIONS[action](mine, tmp_path)
    assert str(kept) in str(caught.value), "it says where its own went"
    assert (content(other.path), content(kept)) == before
    assert not (tmp_path / "out.zip").exists()
    other.respond("ask", {"x": 2})
    other.step()
    assert other.tasks.loc["0.ask", "status"] == "COMPLETED"
    ms.open_run(kept).step()


def test_a_handle_of_a_directory_that_is_gone_says_so(tmp_path: Path) -> None:
    run = asking(tmp_path)
    shutil.rmtree(run.path)
    for action in ("step", "pause", "respond"):
        with pytest.raises(RunNotFoundError, match="not there any more: it was moved or removed"):
            ACTIONS[action](run, tmp_path)
    assert not run.path.exists()
    asking(tmp_path)
    with pytest.raises(RunNotFoundError, match="another directory is in its place"):
        run.step()


class Mover(Operator):
    """Has the run's directory renamed, and another put in its place, while it is asked."""

    def __init__(self) -> None:
        self.move: Callable[[], object] = lambda: None

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {attempt.token: Submitted() for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        self.move()
        return {attempt.token: Observation(Seen.ENDED) for attempt in attempts}

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted]:
        return {}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        return []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_tick_across_a_move_changes_nothing_and_says_where_the_run_went(tmp_path: Path, replaced: bool) -> None:
    mover = Mover()
    flow = ms.Workflow([ms.Task("a", ["x"], operator="mover")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, run_id="r", operators={"mover": mover})
    run.step()
    new = tmp_path / "elsewhere"

    def move() -> None:
        run.path.rename(new)
        if replaced:
            ms.initialize_run("w", flow, base_path=tmp_path, run_id="r", operators={"mover": mover})

    mover.move = move
    with pytest.raises(RunNotFoundError, match="elsewhere"):
        run.step()
    mover.move = lambda: None
    moved = ms.open_run(new, operators={"mover": mover})
    assert list(moved.attempts["status"]) == ["SUBMITTED"]
    assert moved.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    if replaced:
        assert ms.open_run(run.path, operators={"mover": mover}).attempts.empty


@pytest.mark.parametrize(
    "looks_at",
    [(RunDirectory, "read_config"), (RunLock, "acquire"), (RunDirectory, "config_stamp")],
)
def test_a_directory_that_is_renamed_between_two_looks_at_it_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks_at: tuple[type, str]
) -> None:
    made = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, run_id="r")
    run, new = ms.open_run(made.path), tmp_path / "elsewhere"
    kept = getattr(*looks_at)

    def look(*given: Any) -> Any:
        if made.path.exists():
            made.path.rename(new)
        return kept(*given)

    monkeypatch.setattr(*looks_at, look)
    with pytest.raises(RunNotFoundError, match="moved"):
        run.step()
    monkeypatch.undo()
    assert ms.open_run(new).wait(timeout_s=60) is ms.RunStatus.COMPLETED


class Counted(ms.Campaign):
    """Counts how often it is asked for a plan, and does something then."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.calls = 0
        self.then = then

    def plan(self, state: Any) -> ms.Workflow | None:
        self.calls += 1
        self.then()
        return ms.Workflow([ms.Task("a", "true")])


@pytest.mark.parametrize("kind", ["run", "folder", "file", "broken link"])
def test_a_run_id_that_is_taken_is_refused_before_anything_is_planned(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "workspaces/w/runs/r"
    if kind == "run":
        ms.initialize_run("w", Counted(), base_path=tmp_path, run_id="r")
    else:
        final.parent.mkdir(parents=True)
    if kind == "folder":
        final.mkdir()
    elif kind == "file":
        final.touch()
    elif kind == "broken link":
        final.symlink_to("nowhere")
    campaign = Counted()
    with pytest.raises(RunExistsError):
        ms.initialize_run("w", campaign, base_path=tmp_path, run_id="r")
    assert campaign.calls == 0
    assert os.listdir(final.parent) == ["r"]


@pytest.mark.parametrize("point", ["initialize.staged", "initialize.configured", "initialize.filled"])
def test_what_a_killed_initialization_left_is_gone_with_the_next_one(tmp_path: Path, point: str) -> None:
    def initialize(run_id: str) -> ms.Run:
        return ms.initialize_run("w", Counted(), base_path=tmp_path, run_id=run_id)

    in_child(lambda: initialize("killed"), lambda: crash_points.arm("kill", point))
    runs = tmp_path / "workspaces/w/runs"
    assert [name.startswith(".killed.") for name in os.listdir(runs)] == [True]
    initialize("next")
    assert os.listdir(runs) == ["next"]


def test_an_initialization_under_way_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while it plans, with its lock held, nor in the moment before it has the lock."""
    moments = []

    def another(moment: str) -> None:
        if moment == "initialize.staged" and not moments:
            moments.append(moment)
            ms.initialize_run("w", Counted(), base_path=tmp_path, run_id="during.the.staging")

    monkeypatch.setattr(crash_points, "_armed", another)
    planning = Counted(lambda: ms.initialize_run("w", Counted(), base_path=tmp_path, run_id="during.the.plan"))
    run = ms.initialize_run("w", planning, base_path=tmp_path, run_id="r")
    assert run.wait(timeout_s=30)
    assert moments
    assert sorted(os.listdir(run.path.parent)) == ["during.the.plan", "during.the.staging", "r"]


def test_the_log_of_an_initialization_names_where_the_run_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "matterstack")
    run = ms.initialize_run("w", Counted(), base_path=tmp_path, run_id="r")
    said = [record.getMessage() for record in caplog.records]
    assert any(str(run.path) in message for message in said)
    assert not any(".new" in message for message in said)
