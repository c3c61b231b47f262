"""Results that come after their attempt has failed are taken in on a person's word, and the task goes on with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crashes import killed_at
from kit_lab import execute, pack

import matterstack as ms
from matterstack.errors import KitError, RunStatusError, UnknownTaskError


def fail(base: Path, **task: Any) -> tuple[ms.Run, Path, Path]:
    """Make a run whose first kit failed while it was carried; return it with the kit at home and away, run there."""
    flow = ms.Workflow(
        [
            ms.Task("a", "cat in > OUTCAR; echo '{\"e_eV\": -2}' > result.json", operator="manual",
                    **{"outputs": ["OUTCAR"], "files": {"in": "x\n"}, **task}),
            ms.Task("b", "cat OUTCAR", files={"OUTCAR": ms.FromTask("a", "OUTCAR")}),
        ]
    )  # fmt: skip
    operators = {"manual": ms.ManualHPCOperator(empty_output_grace_s=0), "local": ms.LocalOperator()}
    run = ms.initialize_run("w", flow, base_path=base, operators=operators)
    run.step()
    home = run.path / "operators/manual/0.a.1"
    away = base / "away/0.a.1"
    shutil.copytree(home, away)
    assert execute(away).returncode == 0
    (home / "output").mkdir()
    for _ in range(3):
        run.step()
    assert run.attempts.loc["0.a.1", "status"] == "FAILED"
    return run, home, away


def bring(away: Path, home: Path) -> None:
    for name in ("output", "output.sha256", "status.json"):
        shutil.rmtree(home / name, ignore_errors=True)
        (shutil.copytree if name == "output" else shutil.copy)(away / name, home / name)


def check_taken(run: ms.Run) -> None:
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    assert run.results.loc["0.a", "e_eV"] == -2
    assert (run.path / "operators/local/0.b.1/stdout.txt").read_text() == "x\n"
    assert dict(run.attempts["status"]) == {"0.a.1": "FAILED", "0.a.2": "COMPLETED", "0.b.1": "COMPLETED"}
    assert json.loads((run.path / "operators/manual/0.a.2/status.json").read_text())["of"] == "0.a.1"


@pytest.mark.parametrize("retries", [0, 1])
def test_results_that_were_copied_home_too_late(tmp_path: Path, retries: int) -> None:
    run, home, away = fail(tmp_path, retries=retries)
    with pytest.raises(
        KitError, match=r"the results of 0\.a\.1 .* are not whole: output/ is empty; nothing was changed"
    ):
        run.take_late("a")
    assert len(run.attempts) == 1 + retries
    bring(away, home)
    run.take_late("a")
    check_taken(run)


@pytest.mark.parametrize(
    "policy",
    [
        {"on_failure": "ask"},
        {"retries": 1, "retry_delay_s": 3600},
        {"restart": {"in": "result.json"}},
        {"restart": {"in": "result.json"}, "on_failure": "ask", "cache": True},
    ],
)
def test_results_of_a_task_that_asks_or_waits_or_would_begin_elsewhere(tmp_path: Path, policy: dict[str, Any]) -> None:
    run, home, away = fail(tmp_path, **policy)
    bring(away, home)
    run.take_late("a")
    check_taken(run)
    assert not run.made_from("a").links, "not of what came too late: that is the result itself"
    assert run.store.check() == []


def test_results_of_before_a_word_are_not_those_of_the_task(tmp_path: Path) -> None:
    run, home, away = fail(tmp_path, restart={"in": "result.json"})
    bring(away, home)
    run.retry("a", files={"in": b"y"})
    with pytest.raises(KitError, match=r"made from other inputs than 0\.a\.2: inputs/in differs"):
        run.take_late("a", attempt=1)
    (run.path / "operators/manual/0.a.2/output").mkdir()
    for _ in range(3):
        run.step()
    assert run.attempts.loc["0.a.2", "status"] == "FAILED"
    with pytest.raises(KitError, match=r"made from other inputs than 0\.a\.3: inputs/in differs"):
        run.take_late("a", attempt=1)


@pytest.mark.parametrize("retries", [0, 1])
def test_results_in_an_archive_that_came_too_late(tmp_path: Path, retries: int) -> None:
    run, _, away = fail(tmp_path, retries=retries)
    archive = pack(away.parent, tmp_path / "back.zip")
    told = run.import_kits(archive)
    assert (told.taken, told.late) == ([], ["0.a.1"])
    run.take_late("a", archive)
    check_taken(run)
    assert run.import_kits(archive).late == ["0.a.1"]
    with pytest.raises(RunStatusError, match="the run is COMPLETED"):
        run.take_late("a", archive)


def test_from_a_shell(tmp_path: Path) -> None:
    run, _, away = fail(tmp_path)
    archive = pack(away.parent, tmp_path / "back.zip")
    program = [sys.executable, "-m", "matterstack", "take-late", str(run.path)]
    done = subprocess.run([*program, "a", str(archive), "--json"], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["run_id"]) == (0, run.run_id), done.stderr
    check_taken(run)
    wrong = subprocess.run(program, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "the following arguments are required: TASK" in wrong.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda away: (away / "status.json").write_text('{"status": "FAILED"}'), "status.json says FAILED"),
        (lambda away: (away / "status.json").write_text('{"status": "RUNNING"}'), "left no end"),
        (lambda away: (away / "output/OUTCAR").write_text("y"), "SHA-256 differs"),
        (lambda away: (away / "output/OUTCAR").unlink(), "OUTCAR is missing"),
    ],
)
def test_results_that_are_not_whole_change_nothing(tmp_path: Path, change: Any, says: str) -> None:
    run, home, away = fail(tmp_path)
    change(away)
    bring(away, home)
    events = len(run.events)
    with pytest.raises(KitError, match=says):
        run.take_late("a")
    assert (run.status, len(run.events)) == (ms.RunStatus.FAILED, events)


def test_results_made_from_other_inputs_are_not_those_of_the_task(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("1\n")
    flow = ms.Workflow(
        [
            ms.Task("first", f"cat {source} > given"),
            ms.Task("a", "cat in > OUTCAR", operator="manual", files={"in": ms.FromTask("first", "given")}),
        ]
    )
    operators = {"manual": ms.ManualHPCOperator(empty_output_grace_s=0), "local": ms.LocalOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    run.wait(timeout_s=60)
    home = run.path / "operators/manual/0.a.1"
    assert execute(home).returncode == 0
    results = {name: (home / name).rename(tmp_path / name) for name in ("output", "status.json", "output.sha256")}
    (home / "output").mkdir()
    assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    source.write_text("2\n")
    run.retry("first")
    run.wait(timeout_s=60)
    shutil.rmtree(home / "output")
    for name, path in results.items():
        path.rename(home / name)
    with pytest.raises(KitError, match="made from other inputs than 0.a.2: inputs/in differs".replace(".", r"\.")):
        run.take_late("a")
    assert run.attempts.loc["0.a.2", "status"] == "WAITING"


def test_what_there_is_to_take_late(tmp_path: Path) -> None:
    run, home, away = fail(tmp_path, retries=1)
    with pytest.raises(UnknownTaskError):
        run.take_late("nobody")
    with pytest.raises(RunStatusError, match="has no attempt with a kit that failed"):
        run.take_late("b")
    with pytest.raises(RunStatusError, match="has no attempt 2 with a kit that failed"):
        run.take_late("a", attempt=2)
    with pytest.raises(KitError, match="there is no file"):
        run.take_late("a", tmp_path / "nowhere.zip")
    run.pause()
    with pytest.raises(RunStatusError, match=r"PAUSED.*run\.resume\(\) first"):
        run.take_late("a")
    run.resume()
    # The next kit came home meanwhile: there is nothing late any more.
    second = home.parent / "0.a.2"
    assert execute(second).returncode == 0
    bring(away, home)
    with pytest.raises(RunStatusError, match=r"0\.a\.2 has results of its own"):
        run.take_late("a")
    assert run.wait(timeout_s=60) is ms.RunStatus.COMPLETED
    with pytest.raises(RunStatusError, match="the run is COMPLETED"):
        run.take_late("a")


@pytest.mark.parametrize(
    ("point", "hit"),
    [("tick.locked", 1), ("submit.prepared", 1), ("tick.made", 1), ("kits.placed", 1), ("kits.placed", 2)],
)
def test_killed_while_late_results_are_taken(tmp_path: Path, point: str, hit: int) -> None:
    run, home, away = fail(tmp_path)
    bring(away, home)
    killed_at(point, hit, lambda: ms.open_run(run.path).take_late("a"))
    run.take_late("a")
    check_taken(run)
    assert list(run.path.glob("operators/.import*")) == [], "what the killed one had unpacked is gone"
