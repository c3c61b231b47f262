"""A run that is COMPLETED goes on with another plan, and a notebook that is run again takes up what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from crashes import ENDED, in_child, killed_at, points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.errors import CampaignError, RunExistsError, RunStatusError


class Rounds(ms.Campaign):
    """As many iterations as it is told."""

    def __init__(self, ledger: Path, most: int = 1) -> None:
        self.ledger, self.most = ledger, most

    def initial_state(self) -> Any:
        return 0

    def plan(self, state: Any) -> ms.Workflow | None:
        return ms.Workflow([witnessed("t", "true", self.ledger)]) if state < self.most else None

    def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
        return state + 1


class More(Rounds):
    """Others."""


def made(base: Path) -> ms.Run:
    run = ms.initialize_run("w", Rounds(base / "ledger"), base_path=base, run_id="r")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    return run


def test_a_completed_run_plans_again_by_a_word_only(tmp_path: Path) -> None:
    run = made(tmp_path)
    assert ms.open_run(run.path).reopen().status is ms.RunStatus.COMPLETED
    assert run.reason == "reopened by a person: Rounds planned nothing more"
    other = ms.open_run(run.path)  # a process that had it open before
    run.reopen(campaign=More(tmp_path / "ledger", most=3))
    assert (run.status, run.iteration) == (ms.RunStatus.RUNNING, 1)
    with pytest.raises(RunStatusError, match="only one that is COMPLETED"):
        run.reopen()
    assert in_child(lambda: ms.open_run(run.path).wait(timeout_s=60)) == ENDED
    assert other.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert (run.campaign_state, run.iteration) == (3, 2)
    check_executions(run, tmp_path / "ledger")


def test_a_campaign_that_raises_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    run = made(tmp_path)
    config = (run.path / "config.json").read_bytes()
    with pytest.raises(CampaignError, match="could not plan"):
        run.reopen(campaign=More(tmp_path, most="many"))  # type: ignore[arg-type]
    assert (run.status, run.reason) == (ms.RunStatus.COMPLETED, None)
    assert (run.path / "config.json").read_bytes() == config


def test_killed_at_every_point_of_a_reopening(tmp_path: Path) -> None:
    def work(base: Path) -> None:
        run = ms.open_run(base / "workspaces/w/runs/r")
        if run.status is ms.RunStatus.COMPLETED and run.campaign_state == 1:
            run.reopen(campaign=More(base / "ledger", most=2))

    def prepare(name: str) -> Path:
        base = tmp_path / name
        base.mkdir()
        made(base)
        return base

    first = prepare("first")
    points = points_of(lambda: work(first), tmp_path / "points")
    assert ("reopen.planned", 1) in points
    for point, hit in points:
        base = prepare(f"{point}.{hit}")
        assert killed_at(point, hit, lambda base=base: work(base))  # type: ignore[misc]
        work(base)
        run = ms.open_run(base / "workspaces/w/runs/r")
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        assert (run.campaign_state, sum(starts(base / "ledger").values())) == (2, 2)


def test_a_notebook_that_is_run_again_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "POSCAR"
    source.write_text("Cu")

    def notebook(change: Callable[[ms.Workflow], object] = lambda flow: None, command: str = "cat POSCAR") -> ms.Run:
        flow = ms.Workflow([ms.Task("relax", command, files={"POSCAR": source}), ms.Task("band", "true")])
        flow.add("sum", sum_of, [1, 2])
        change(flow)
        return ms.initialize_run("w", flow, base_path=tmp_path, run_id="r", if_exists="open")

    assert notebook().wait(timeout_s=60) is ms.RunStatus.COMPLETED
    again = notebook()
    assert (again.status, len(again.attempts), len(list((tmp_path / "workspaces/w/runs").iterdir()))) == (
        ms.RunStatus.COMPLETED,
        3,
        1,
    )
    before = sorted(path.name for path in (again.path / "files").iterdir())
    with pytest.raises(RunExistsError, match="'more' is not in it"):
        notebook(lambda flow: flow.add_task(ms.Task("more", "true")))
    with pytest.raises(RunExistsError, match="'relax' differs in command"):
        notebook(command="cat POSCAR; true")
    source.write_text("Ag")
    with pytest.raises(RunExistsError, match=r"'relax' differs in files; open_run\(path\)"):
        notebook()
    assert sorted(path.name for path in (again.path / "files").iterdir()) == before
    with pytest.raises(RunExistsError, match="one workflow, and not of Rounds"):
        ms.initialize_run("w", Rounds(tmp_path), base_path=tmp_path, run_id="r", if_exists="open")


def test_a_campaign_is_taken_up_by_its_source(tmp_path: Path) -> None:
    made(tmp_path)
    run = ms.initialize_run("w", Rounds(tmp_path / "ledger", 5), base_path=tmp_path, run_id="r", if_exists="open")
    assert run.status is ms.RunStatus.COMPLETED
    with pytest.raises(RunExistsError, match="not of More"):
        ms.initialize_run("w", More(tmp_path), base_path=tmp_path, run_id="r", if_exists="open")
    with pytest.raises(RunExistsError, match="was made of a campaign"):
        ms.initialize_run("w", ms.Workflow([ms.Task("t", "true")]), base_path=tmp_path, run_id="r", if_exists="open")


def sum_of(numbers: list[int]) -> int:
    return sum(numbers)
