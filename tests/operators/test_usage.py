"""What local commands used, CPU time and memory: as the kernel tells it to who waits for them, or not at all."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import pytest

import matterstack as ms
from matterstack.core.attempts import Observation, Seen
from matterstack.operators.local.runner.messages import flaw
from tests.helpers.runners import kill_runner

#: Computes for half a second of CPU time and holds 150 MiB, in a process below that of the command.
_WORK = "import time; held = b'x' * (150 << 20)\nwhile time.process_time() < 0.5: pass"
_ENDED = {
    "event": "ended",
    "token": "ms-x",
    "exit_code": 0,
    "reason": None,
    "note": None,
    "external_id": "7:8",
    "started_at": 1.0,
    "ended_at": 2.0,
}


def run_of(base: Path, *tasks: ms.Task) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"local": ms.LocalOperator()})


def work() -> int:
    import time

    held = b"x" * (150 << 20)
    while time.process_time() < 0.5:
        pass
    return len(held)


def test_an_attempt_tells_the_cpu_time_and_the_memory_of_all_that_it_waited_for(tmp_path: Path) -> None:
    child = f'{sys.executable} -c "{_WORK}"'
    run = run_of(tmp_path, ms.Task("works", f"{child}; exit 3", allow_failure=True), ms.Task("idles", "sleep 0.3"))
    run.wait(timeout_s=60)
    works, idles = run.attempts.loc["0.works.1"], run.attempts.loc["0.idles.1"]
    assert works["exit_code"] == 3
    assert works["cpu_s"] >= 0.5
    assert 150 / 1024 < works["peak_memory_gib"] < 1
    assert 0 <= idles["cpu_s"] < 0.3, "to sleep costs nothing"
    assert math.isnan(idles["peak_memory_gib"]), "what the kernel tells of it is the memory of the runner"
    assert json.loads(run.store.query("SELECT usage FROM attempts WHERE exit_code = 3")[0][0]).keys() == {
        "cpu_s",
        "peak_memory_gib",
    }


def test_a_call_that_begins_warm_is_measured_by_itself(tmp_path: Path) -> None:
    flow = ms.Workflow()
    for number in range(2):
        flow.add(f"works{number}", work)
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=1)})
    run.wait(timeout_s=60)
    assert run.attempts["cpu_s"].between(0.5, 5).all(), "each its own, not that of the server"
    assert run.attempts["peak_memory_gib"].between(150 / 1024, 1).all()


def test_of_an_attempt_whose_runner_was_killed_nothing_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    command = f"[ $MATTERSTACK_ATTEMPT = 2 ] || read word < {tmp_path}/gate"
    run = run_of(tmp_path, ms.Task("x", command, retries=1))
    run.step()
    with open(tmp_path / "gate", "w"):  # it runs
        kill_runner(run)
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert list(run.attempts["status"]) == ["LOST", "COMPLETED"]
    assert list(run.attempts["cpu_s"].notna()) == [False, True]
    assert run.store.query("SELECT usage FROM attempts ORDER BY id")[0] == (None,)


def test_what_a_runner_of_before_tells_is_taken_without_it() -> None:
    assert flaw(_ENDED) is None
    assert flaw(_ENDED | {"cpu_s": None, "peak_memory_gib": 0.5}) is None


@pytest.mark.parametrize("lie", ["much", -1.0, float("nan"), float("inf"), True, [1]])
@pytest.mark.parametrize("name", ["cpu_s", "peak_memory_gib"])
def test_an_amount_that_makes_no_sense_is_not_taken(name: str, lie: object) -> None:
    assert f"its {name} is" in str(flaw(_ENDED | {name: lie}))
    seen = Observation(Seen.ENDED, **{name: lie}).plausible()
    assert getattr(seen, name) is None
    assert "is no" in str(seen.reason)


@pytest.mark.parametrize("usage", ["{", "[]", '{"cpu_s": "much"}', '{"cpu_s": null}', "{}"])
def test_what_the_database_of_a_stranger_says_of_usage_disturbs_no_table(tmp_path: Path, usage: str) -> None:
    import sqlite3
    from contextlib import closing

    run = run_of(tmp_path, ms.Task("x", "true"))
    run.wait(timeout_s=60)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as there, there:
        there.execute("UPDATE attempts SET usage = ?", (usage,))
    assert run.attempts["cpu_s"].dtype == "float64"
    assert run.attempts["cpu_s"].isna().all()
