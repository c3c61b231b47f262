"""What follows a failure: a delay before the next attempt, and a person who is asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from crashes import killed_at, points_of
from ledger import check_executions, starts, witnessed

import matterstack as ms
from matterstack.errors import AnswerConflictError, AnswerRefusedError
from matterstack.notebook.forms import RequestForm


def asking(base: Path, **settings: Any) -> ms.Run:
    command = "read n < POSCAR; echo $n > CONTCAR; echo too coarse >&2; grep -q fine INCAR"
    files = {"POSCAR": b"1\n", "INCAR": b"rough"}
    flow = ms.Workflow(
        [
            witnessed("relax", command, base / "ledger", files=files, on_failure="ask", **settings),
            witnessed("band", "true", base / "ledger", dependencies="relax"),
            witnessed("other", "true", base / "ledger"),
        ]
    )
    return ms.initialize_run("w", flow, base_path=base, run_id="r")


def stands(run: ms.Run) -> list[str]:
    return list(run.tasks["status"])


def test_a_failure_asks_and_the_answer_mends_it(tmp_path: Path) -> None:
    run = asking(tmp_path, retries=1)
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    assert stands(run) == ["PENDING", "PENDING", "COMPLETED"]
    assert (run.counts.pending, run.counts.ready) == (2, 0)
    run = ms.open_run(run.path)
    (request,) = run.inbox()
    assert (request.name, request.operator_kind) == ("0.relax.2", "human")
    for said in ("exit code 1", "too coarse", "CONTCAR"):
        assert said in request.instructions
    assert "waits for a word" in run.explain()[0].why
    for wrong in ({}, {"decision": "go"}, {"decision": "skip", "command": "true"}, {"decision": "retry", "files": 1}):
        with pytest.raises(AnswerRefusedError):
            run.respond("relax", wrong)
    with pytest.raises(AnswerConflictError):
        run.respond("relax", {"decision": "fail"}, attempt=1)
    assert stands(run)[0] == "PENDING"
    form = RequestForm(request, lambda _: run)
    assert not form.over
    assert form.request["answerable"]
    assert form._judge({"number": 1, "value": {"decision": "go"}, "submit": True}).over is None
    assert form.follower.board.codes == b"WBC"
    changes = {"INCAR": "fine\n", "POSCAR": {"left": "CONTCAR"}}
    run.respond(
        "relax", {"decision": "retry", "files": changes, "resources": {"walltime_s": 60}, "comment": "too coarse"}
    )
    assert str(run.tasks.loc["0.relax", "reason"]).endswith("walltime_s 60: too coarse")
    assert list(run.inbox()) == []
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    said = "files INCAR, POSCAR from CONTCAR of relax.2; resources walltime_s 60"
    assert run.attempts.loc["0.relax.3", "changes"] == said
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize(
    ("decision", "status", "tasks"),
    [
        ("skip", ms.RunStatus.COMPLETED, ["SKIPPED", "SKIPPED", "COMPLETED"]),
        ("fail", ms.RunStatus.FAILED, ["FAILED", "SKIPPED", "COMPLETED"]),
    ],
)
def test_a_person_may_give_it_up(tmp_path: Path, decision: str, status: ms.RunStatus, tasks: list[str]) -> None:
    run = asking(tmp_path)
    run.wait(timeout_s=60)
    run.respond("relax", {"decision": decision, "comment": "not worth it"})
    assert "not worth it" in str(run.tasks.loc["0.relax", "reason"])
    assert run.wait(timeout_s=60) is status
    assert stands(run) == tasks
    assert run.counts.ready == 0
    if status is ms.RunStatus.FAILED:
        run.retry("relax", files={"INCAR": b"fine"})
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_killed_anywhere_from_the_failure_to_the_attempt_after_the_answer(tmp_path: Path) -> None:
    def work(base: Path) -> None:
        run = ms.open_run(base / "workspaces/w/runs/r")
        run.wait(timeout_s=60)
        if run.inbox():
            run.respond("relax", {"decision": "retry", "files": {"INCAR": "fine\n"}})
        run.step()

    def prepare(name: str) -> Path:
        base = tmp_path / name
        base.mkdir()
        asking(base).step()
        return base

    first = prepare("first")
    points = [point for point in points_of(lambda: work(first), tmp_path / "points") if point[0].startswith("store.")]
    assert len(points) >= 6
    for point, hit in points:
        base = prepare(f"{point}.{hit}")
        killed_at(point, hit, lambda base=base: work(base))  # type: ignore[misc]
        for _ in range(3):
            work(base)
        run = ms.open_run(base / "workspaces/w/runs/r")
        assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
        check_executions(run, base / "ledger")
        assert sum(starts(base / "ledger").values()) == 4


def test_the_next_attempt_waits_and_each_further_one_longer(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"retries": 2, "retry_delay_s": 0.4, "retry_delay_factor": 3}
    flow = ms.Workflow([ms.Task("t", "[ $MATTERSTACK_ATTEMPT = 3 ]", **policy)])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    until: list[float] = []
    for _ in run.ticks(timeout_s=60):
        ((not_before,),) = run.store.query("SELECT not_before FROM tasks")
        until += [] if not_before is None or not_before in until else [not_before]
    at = [event.at for event in run.store.events() if event.event in ("retry", "submit")]
    assert [after - before for before, after in zip(at[1::2], until, strict=True)] == pytest.approx([0.4, 1.2])
    assert all(after >= wanted for wanted, after in zip(until, at[2::2], strict=True))


def test_a_delay_without_end_is_a_year(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("t", "false", retries=1, retry_delay_s=1e300)])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    while "its next attempt waits until" not in repr(run.explain()):
        run.step()
    ((until,),) = run.store.query("SELECT not_before FROM tasks")
    assert 365 * 86400 < until - time.time() <= 366 * 86400


def test_a_delay_outlives_the_process_and_a_person_may_cut_it_short(tmp_path: Path) -> None:
    flow = ms.Workflow([ms.Task("t", "[ $MATTERSTACK_ATTEMPT = 2 ]", retries=1, retry_delay_s=3600)])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    while "its next attempt waits until" not in repr(run.explain()):
        run.step()
    began = time.monotonic()
    assert run.wait(timeout_s=0.1) is ms.RunStatus.RUNNING
    assert time.monotonic() - began < 1800
    run = ms.open_run(run.path)
    report = run.step()
    assert (report.submitted, report.live, report.look_again_s) == (0, 0, 30.0)
    (blocker,) = run.explain()
    assert "its next attempt waits until" in blocker.why
    assert run.retry("t").wait(timeout_s=60) is ms.RunStatus.COMPLETED
