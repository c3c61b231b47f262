"""What the doctor says of runs, file systems, hosts and Slurms that are well, and of those that are not."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from lying_disk import lying_disk
from slurm_lab import Cluster, cluster
from small_disk import fill
from ssh_lab import Server, server
from users import as_user, root

import matterstack as ms
from matterstack import cli
from matterstack.core.diagnosis import Diagnosis, Grade
from matterstack.operators.jobs.surroundings import examine_slurm, examine_ssh
from matterstack.orchestration.examination import examine_run
from matterstack.storage import file_system
from matterstack.storage.run_directory import RunDirectory
from matterstack.storage.run_lock import RunLock


def grades(found: list[Diagnosis]) -> dict[str, str]:
    """Return the worst grade of each thing; what is not well says what to do."""
    assert all(bool(one.remedy) == (one.grade is not Grade.WELL) for one in found)
    order = list(Grade)
    return {one.what: str(max((o.grade for o in found if o.what == one.what), key=order.index)) for one in found}


def said(found: list[Diagnosis], what: str) -> str:
    return "; ".join(one.why for one in found if one.what == what)


# -- a file system ------------------------------------------------------------------------------


def test_a_good_file_system_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    found = file_system.examine(tmp_path)
    assert set(grades(found).values()) == {"well"}
    assert {"locks", "hard links", "renames", "bringing to disk", "clock", "room"} <= set(grades(found))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("locks", "why"), [("none", "does not lock"), ("lie", "gives one lock to two holders")])
def test_locks_that_do_not_exclude(tmp_path: Path, locks: str, why: str) -> None:
    with lying_disk(tmp_path / "disk", locks=locks, links=False) as disk:
        found = file_system.examine(disk.views[0])
    assert grades(found)["locks"] == "wrong"
    assert why in said(found, "locks")
    assert grades(found)["hard links"] == "weak"


def test_a_lock_that_only_its_own_process_respects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two openings in one process exclude each other; the other process looks at another file."""
    plain = file_system._another_gets

    def elsewhere(file: Path) -> str | None:
        program = file_system._TRY.replace("sys.argv[1]", "sys.argv[1] + '.other'")
        (file.parent / "run.lock.other").touch()
        monkeypatch.setattr(file_system, "_TRY", program)
        return plain(file)

    monkeypatch.setattr(file_system, "_another_gets", elsewhere)
    found = file_system.examine(tmp_path)
    assert grades(found)["locks"] == "wrong"
    assert "(flock, fcntl)" in said(found, "locks")


def test_a_disk_without_room_and_one_that_cannot_be_written(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk, 100_000)
    found = file_system.examine(small_disk)
    assert (grades(found)["room"], grades(found)["locks"]) == ("wrong", "well")
    assert cli.main(["doctor", "/proc"]) == 1
    assert capsys.readouterr().out.startswith("wrong  writing: nothing can be made in /proc")


def test_a_file_server_whose_clock_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    real = time.time
    monkeypatch.setattr(file_system.time, "time", lambda: real() + 100)
    found = file_system.examine(tmp_path)
    assert grades(found)["clock"] == "wrong"
    assert "100 s behind" in said(found, "clock")


# -- a run and a workspace ----------------------------------------------------------------------


def make(base: Path, run_id: str = "r", **more: object) -> ms.Run:
    flow = ms.Workflow([ms.Task("a", "true", **more)])  # type: ignore[arg-type]
    return ms.initialize_run("w", flow, base_path=base, run_id=run_id)


def test_a_run_that_is_well_and_one_that_is_over(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert grades(examine_run(run.path)) == dict.fromkeys(
        ("lock", "database", "trust", "environment", "operators"), "well"
    )
    run.wait(timeout_s=180)
    assert "COMPLETED" in said(examine_run(run.path), "run")


def test_an_export_has_no_lock_and_is_well_without(tmp_path: Path) -> None:
    exported = make(tmp_path).export(tmp_path / "exported")
    assert not (exported / "run.lock").exists()
    found = examine_run(exported)
    assert grades(found)["lock"] == "well"
    assert said(found, "lock") == "there is none yet, as in an export: the first step makes it"


@root
def test_a_lock_that_may_not_be_opened_is_not_laid_to_the_file_system(tmp_path: Path) -> None:
    def act() -> str:
        with tempfile.TemporaryDirectory() as folder:
            run = make(Path(folder))
            (run.path / "run.lock").chmod(0)
            found = examine_run(run.path)
        return f"{grades(found)['lock']}: {said(found, 'lock')}"

    examine_run(make(tmp_path).path)  # everything is imported
    assert as_user(41001, act).startswith("weak: run.lock cannot be opened: [Errno 13] Permission denied")


def test_what_keeps_a_run_from_being_stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    with RunLock(RunDirectory(run.path).lock):
        assert f"pid {os.getpid()}" in said(examine_run(run.path), "lock")
        assert "has been stepping this run" in said(examine_run(run.path), "lock")
    config = json.loads((run.path / "config.json").read_text())
    config["operators"]["mine"] = None
    config["environment"]["python"] = "/no/such/python"
    (run.path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another_home"))
    found = examine_run(run.path)
    assert grades(found) == {
        "lock": "well", "database": "well", "trust": "wrong", "environment": "wrong", "operators": "weak"
    }  # fmt: skip
    assert "1 command or function" in said(found, "trust")
    config["operators"]["mine"] = {"kind": "of_the_future", "settings": {}}
    (run.path / "config.json").write_text(json.dumps(config))
    assert grades(examine_run(run.path))["configuration"] == "wrong"


def test_a_database_that_contradicts_itself_and_one_that_is_damaged(tmp_path: Path) -> None:
    run = make(tmp_path)
    with closing(sqlite3.connect(run.path / "state.sqlite")) as connection, connection:
        connection.execute("UPDATE iterations SET completed = 5")
    assert "completed is stored as 5" in said(examine_run(run.path), "database")
    (run.path / "state.sqlite").write_bytes(b"no database" * 1000)
    found = examine_run(run.path)
    assert grades(found)["database"] == "wrong"
    assert [one.what for one in found] == ["lock", "database"]


def test_a_limit_that_a_run_waits_for(tmp_path: Path) -> None:
    ms.set_limits("w", base_path=tmp_path, furnace=1)
    run = make(tmp_path, resources=ms.Resources(named={"furnace": 1}))
    ms.set_limits("w", base_path=tmp_path, furnace=0)
    run.step()
    found = examine_run(run.path)
    assert grades(found)["limits"] == "weak"
    assert "furnace" in said(found, "limits")


def test_a_workspace_with_a_run_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    (make(tmp_path, "bad").path / "state.sqlite").write_bytes(b"no database" * 1000)
    assert cli.main(["doctor", "w"]) == 1
    assert "wrong  runs: bad cannot be read" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "workspaces/w/runs/bad")
    assert cli.main(["doctor", "w"]) == 0


# -- a host and a Slurm -------------------------------------------------------------------------


def test_limits_that_cannot_be_read_are_a_diagnosis_among_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    (tmp_path / "workspaces/w/limits.sqlite").write_text("no database")
    assert cli.main(["doctor", str(tmp_path / "workspaces/w"), "--json"]) == 1
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["diagnoses"]}
    assert (found["limits"]["grade"], found["runs"]["grade"]) == ("wrong", "well")
    assert "limits.sqlite is no database" in found["limits"]["why"]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster(27417, SLURM_LAB_MINJOBAGE="30") as running:
        yield running


@pytest.fixture(scope="module")
def link(slurm: Cluster) -> Iterator[Server]:
    with server() as running:
        yield running


def test_a_slurm_that_answers_without_accounting(slurm: Cluster) -> None:
    found = examine_slurm()
    assert grades(found) == {
        "Slurm": "well", "its queue": "well", "its partitions": "well", "its accounting": "weak", "its limits": "well"
    }  # fmt: skip
    assert "forgets a job 30 s after its end" in said(found, "its accounting")
    assert "MaxArraySize" in said(found, "its limits")


def test_a_slurm_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = examine_slurm()
    assert grades(found) == {"Slurm": "wrong"}
    assert "no job can be submitted" in said(found, "Slurm")


def test_a_host_that_ssh_reaches_and_its_slurm(link: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(grades(examine_ssh("cluster")).values()) == {"well"}
    assert cli.main(["doctor", "--ssh", "cluster", "--slurm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["diagnoses"]
    assert {one["what"] for one in found} >= {"reaching it", "Python there", "rsync there", "its queue"}
    assert grades(examine_ssh("cluster", "no_such_python"))["Python there"] == "wrong"


def test_a_host_that_is_not_reached_and_a_shell_that_prints(
    link: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examine_ssh("nobody.invalid")
    assert grades(found) == {"reaching it": "wrong"}
    real = shutil.which("ssh")
    (tmp_path / "ssh").write_text(f'#!/bin/sh\ncase "$*" in *-G*) ;; *) echo Welcome ;; esac\nexec {real} "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = examine_ssh("cluster")
    assert grades(found)["its shell"] == "wrong"
    assert "'Welcome'" in said(found, "its shell")
    assert grades(found)["Python there"] == "well"
