"""The whole lifecycle against an outside that accepts then errors, lags, forgets and lies."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import matterstack as ms
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Refused,
    Seen,
    Submitted,
)
from matterstack.core.states import LIVE_ATTEMPT
from matterstack.errors import MatterstackError, OperatorUnreachableError
from matterstack.operators.base import Operator
from matterstack.orchestration import tick


class Outside(Operator):
    """A scheduler somewhere, and the moods it is in."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}  # token: queued, running, done, failed
        self.executions: Counter[str] = Counter()
        self.mood = "honest"

    def max_live(self, directory: Path) -> int:
        return 3

    def _reach(self) -> None:
        if self.mood == "unreachable":
            raise OperatorUnreachableError("the link is down")
        if self.mood == "raises":
            raise RuntimeError("squeue: something odd")

    def submit(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Refused]:
        self._reach()
        if self.mood == "refuses":
            return {attempt.token: Refused("no such partition") for attempt in attempts}
        for attempt in attempts:
            if attempt.token not in self.jobs:  # a name is taken once
                self.jobs[attempt.token] = "queued"
        if self.mood == "accepts, then errors":
            raise RuntimeError("sbatch: timed out")
        if self.mood == "accepts, and says nothing":
            return {}
        return {attempt.token: Submitted(f"job of {attempt.token}") for attempt in attempts}

    def check_status(self, attempts: Sequence[Attempt]) -> Mapping[str, Observation]:
        self._reach()
        if self.mood == "lags":
            return {}
        if self.mood == "babbles":
            strange = {f"{a.token}x": Observation(Seen.ENDED) for a in attempts}
            return strange | {a.token: Observation(Seen.REJECTED, reason="?") for a in attempts}
        if self.mood == "forgets":
            for attempt in attempts:
                self.jobs.pop(attempt.token, None)
        seen = {}
        for attempt in attempts:
            match self.jobs.get(attempt.token):
                case "queued":
                    seen[attempt.token] = Observation(Seen.QUEUED)
                case "running":
                    seen[attempt.token] = Observation(Seen.RUNNING)
                case "done":
                    seen[attempt.token] = Observation(Seen.ENDED)
                case "failed":
                    seen[attempt.token] = Observation(Seen.ENDED, ok=False, reason="TIMEOUT")
                case None:
                    seen[attempt.token] = Observation(Seen.VANISHED, reason="purged")
        return seen

    def find(self, attempts: Sequence[Attempt]) -> Mapping[str, Submitted | Absent]:
        self._reach()
        if self.mood == "lags":
            return {}
        if self.mood == "lies":  # says it never heard of them
            return {attempt.token: Absent() for attempt in attempts}
        return {a.token: Submitted(None) if a.token in self.jobs else Absent() for a in attempts}

    def cancel(self, attempts: Sequence[Attempt]) -> list[str]:
        self._reach()
        if self.mood == "lags":
            return []
        for attempt in attempts:
            self.jobs.pop(attempt.token, None)
        return [attempt.token for attempt in attempts]

    def collect_results(self, attempt: Attempt) -> Any:
        self._reach()
        return {"token": attempt.token}


MOODS = st.sampled_from(
    ["honest"] * 3
    + ["unreachable", "raises", "refuses", "accepts, then errors", "accepts, and says nothing"]
    + ["lags", "babbles", "forgets", "lies"]
)


class Lifecycle(RuleBasedStateMachine):
    """Whatever the outside and the person do, each job runs once and the run can always be brought to its end."""

    @initialize(edges=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8), retries=st.integers(0, 2))
    def begin(self, edges: set[tuple[int, int]], retries: int) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.outside = Outside()
        flow = ms.Workflow()
        for n in range(6):
            above = [f"t{a}" for a, b in edges if b == n and a < n]
            flow.add_task(ms.Task(f"t{n}", "true", dependencies=above, operator="outside", retries=retries))
        self.run = ms.initialize_run(
            "w", flow, base_path=self.base, operators={"outside": self.outside}, config={"suspend_after": 4}
        )
        self.over: dict[str, str] = {}
        self.events = 0
        # The pauses between questions are of this clock: an example that is tried again takes the same way.
        self.now = time.time()
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(tick, "time", SimpleNamespace(time=lambda: self.now))

    @rule(mood=MOODS)
    def step(self, mood: str) -> None:
        self.outside.mood = mood
        self.now += 0.3
        self.run.step()

    @rule(data=st.data(), ok=st.booleans())
    @precondition(lambda self: self.outside.jobs)
    def job_ends(self, data: st.DataObject, ok: bool) -> None:
        token = data.draw(st.sampled_from(list(self.outside.jobs)))  # in their order: tokens are random
        if self.outside.jobs[token] == "queued":
            self.outside.jobs[token] = "running"
            self.outside.executions[token] += 1
        elif self.outside.jobs[token] == "running":
            self.outside.jobs[token] = "done" if ok else "failed"

    @rule(action=st.sampled_from(["pause", "resume", "resume", "retry"]))
    def person_acts(self, action: str) -> None:
        with suppress(MatterstackError):  # refused with a reason: nothing changed
            getattr(self.run, action)()

    @rule()
    def another_kernel(self) -> None:
        self.run = ms.open_run(self.run.path, operators={"outside": self.outside})

    @invariant()
    def nothing_doubled_and_counted_right(self) -> None:
        if not hasattr(self, "run"):
            return
        assert max(self.outside.executions.values(), default=0) <= 1
        attempts = self.run.attempts
        live = attempts[attempts["status"].isin([str(status) for status in LIVE_ATTEMPT])]
        assert not live["task_id"].duplicated().any()
        done = attempts[attempts["status"] == "COMPLETED"]
        assert len(self.run.events) >= self.events, "the journal only grows"
        self.events = len(self.run.events)
        for token, status in zip(attempts["token"], attempts["status"], strict=True):
            assert self.over.get(token, status) == status, "what is over stays as it is"
            if status in ("COMPLETED", "FAILED", "LOST", "CANCELLED"):
                self.over[token] = status
        for token in done["token"]:
            assert self.outside.executions[token] == 1, "COMPLETED means that it ran"
        statuses = Counter(self.run.tasks["status"])
        counts = self.run.counts
        blocked = self.run.tasks["reason"].astype(str).str.startswith("waits for").sum()
        assert (counts.completed, counts.failed, counts.skipped) == (
            statuses["COMPLETED"],
            statuses["FAILED"],
            statuses["SKIPPED"],
        )
        assert (counts.pending, counts.submitted) == (statuses["PENDING"], statuses["SUBMITTED"])
        assert counts.ready == counts.pending - blocked

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        self.patched.undo()
        self.outside.mood = "honest"
        for _ in range(60):
            if self.run.status is ms.RunStatus.PAUSED:
                self.run.resume()
            store = self.run._session.store
            with store.transaction():  # no waiting for the pauses between questions
                store.set_troubles([], list(store.troubles()))
            report = self.run.step()
            for token, state in list(self.outside.jobs.items()):
                if state == "queued":
                    self.outside.executions[token] += 1
                if state in ("queued", "running"):
                    self.outside.jobs[token] = "done"
            if report.status in (ms.RunStatus.COMPLETED, ms.RunStatus.FAILED):
                break
        self.nothing_doubled_and_counted_right()
        assert self.run.status in (ms.RunStatus.COMPLETED, ms.RunStatus.FAILED), str(self.run.explain())
        assert self.run.counts.unfinished == 0
        shutil.rmtree(self.base)


Lifecycle.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLifecycle = Lifecycle.TestCase
