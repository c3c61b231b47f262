"""The journal says whose word each was that a person gave: their account; what ticks do is nobody's word."""

from __future__ import annotations

import os
import pwd
from collections import Counter
from pathlib import Path

import pytest

import matterstack as ms


class Rounds(ms.Campaign):
    """Plan a workflow, and as many rounds more as are wanted."""

    def __init__(self, more: int = 0) -> None:
        self.more = more

    def plan(self, state: object) -> ms.Workflow | None:
        """Return what comes next."""
        if state == "over":
            return ms.Workflow([ms.Task("more", "true")]) if self.more else None
        return ms.Workflow(
            [
                ms.Task("asks", "exit 1", on_failure="ask"),
                ms.Task("fails", "test -e ../../../go"),
                ms.Task("no", "true", group="g"),
                ms.Task("after", "true", dependencies=["no"], allow_failure=True),
                ms.Task("x", "true"),
            ]
        )

    def analyze(self, state: object, results: object) -> object:
        """Count nothing."""
        return "over"


def test_every_word_of_a_person_has_their_account_and_no_move_of_a_tick_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")  # which anybody may set
    run = ms.initialize_run("w", Rounds(), base_path=tmp_path)
    run.hold(["x", "fails"])
    run.cancel_task(group="g")
    run.step()
    run.pause().resume().release("x").release()
    assert run.wait(timeout_s=60) is ms.RunStatus.RUNNING
    run.respond("asks", {"decision": "skip"})
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    (run.path / "go").touch()
    run.retry("fails").tag("a", task_id="x")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    run.clean(do=True)
    run.reopen(Rounds(1)).pack()
    journal = run.events
    mine = journal[journal["who"].notna()]
    assert set(mine["who"]) == {pwd.getpwuid(os.getuid()).pw_name}
    assert Counter(mine["event"]) == {
        "hold": 2,
        "cancel": 1,
        "skip": 2,  # what waits for the task that was cancelled, and by an answer
        "pause": 1,
        "resume": 1,
        "release": 2,
        "retry": 2,  # the task, and the run
        "tag": 1,
        "cleaned": 1,
        "packed": 3,  # but "no" and "after", of which there is no attempt
        "reopen": 1,
    }
    assert set(journal[journal["who"].isna()]["event"]) >= {"start", "submit", "ended", "fail", "complete"}
