"""Jobs on a real Slurm that fails, hangs, forgets and lies: one execution an attempt, and never a guess."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import evidence_lab
import pytest
from crashes import in_child, killed_at
from hypothesis import given
from hypothesis import strategies as st
from ledger import check_executions, starts, witnessed
from slurm_lab import Cluster, cluster, mended
from slurm_runs import status, task, until, until_begun
from waiting import gate, wait_for

import matterstack as ms
from matterstack.errors import InvalidConfigError, InvalidTaskError, RunLockedError
from matterstack.operators.jobs import slurm
from matterstack.operators.jobs.scheduler import (
    Job,
    NewJob,
    parse_sacct,
    parse_sbatch,
    parse_squeue,
)
from matterstack.operators.sbatch import sbatch_options


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    with cluster(26817, SLURM_LAB_CPUS="16", SLURM_LAB_MINJOBAGE="300") as running:
        yield running


@pytest.fixture
def healthy(lab: Cluster) -> Iterator[Cluster]:
    with mended(lab) as running:
        yield running


def start(base: Path, *tasks: ms.Task, step: bool = True, **settings: Any) -> ms.Run:
    operator = ms.SlurmOperator(**{"timeout_s": 60.0, "poll_s": 0.1, **settings})
    run = ms.initialize_run("w", ms.Workflow(tasks), base_path=base, operators={"slurm": operator})
    if step:
        run.step()
    return run


def reason(run: ms.Run, name: str = "a") -> str:
    return str(run.tasks.loc[f"0.{name}", "reason"])


# -- the ordinary ----------------------------------------------------------------------------


def test_jobs_run_and_their_results_come_home(healthy: Cluster, tmp_path: Path) -> None:
    run = start(
        tmp_path,
        task(tmp_path, "a", "echo '{\"energy_eV\": -1}' > result.json; echo x > final.xyz", outputs=["final.xyz"]),
        task(tmp_path, "b", "echo lost >&2; exit 3", allow_failure=True),
        task(tmp_path, "c", "kill -SEGV $$", allow_failure=True),
        task(tmp_path, "d", "cat final.xyz", files={"final.xyz": ms.FromTask("a", "final.xyz")}),
        ms.Task(
            "e",
            'echo "$ODD" > stdout2; cat note',
            operator="slurm",
            files={"note": "it's $HOME `x`"},
            env={"ODD": "a'b\"c$d"},
        ),
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["COMPLETED", "FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert reason(run, "b") == "exit code 3; stderr ends with: lost"
    assert run.tasks.loc["0.c", "exit_code"] == -signal.SIGSEGV
    assert (run.path / "operators/slurm/0.e.1/stdout2").read_text() == "a'b\"c$d\n"
    assert run.results.loc["0.a", "energy_eV"] == -1
    assert run.attempts["external_id"].str.isdigit().all()
    assert (run.path / "operators/slurm/0.e.1/stdout.txt").read_text() == "it's $HOME `x`"
    assert sorted(starts(tmp_path / "ledger").values()) == [1] * 4


def test_no_secret_stays_in_a_run_on_slurm(healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", evidence_lab.SECRET)
    run = start(tmp_path, evidence_lab.signed("slurm"))
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    evidence_lab.assert_no_secret_stays(run, tmp_path)


def test_one_question_and_one_release_a_tick_whatever_the_number(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    true_start = subprocess.Popen

    def counted(command: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(command[4])  # behind what has it tell its end: sh -c SCRIPT sh
        return true_start(command, *args, **kwargs)

    run = start(tmp_path, *(task(tmp_path, f"t{i}") for i in range(12)), step=False)
    monkeypatch.setattr(subprocess, "Popen", counted)
    run.step()
    assert calls == ["sbatch"] * 12 + ["scontrol"]
    calls.clear()
    run.step()
    assert calls == ["squeue"]
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_only_so_many_run_and_wait_in_the_queue(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, *(task(tmp_path, f"t{i}", gate(tmp_path)) for i in range(6)), max_queued=4, max_active=2)
    wait_for(lambda: (run.step(), sum(state == "RUNNING" for _, _, state in healthy.jobs()) == 2)[1])
    for _ in range(3):
        run.step()
    states = [state for _, _, state in healthy.jobs() if state in ("RUNNING", "PENDING")]
    assert sorted(states) == ["PENDING", "PENDING", "RUNNING", "RUNNING"]
    assert "held until there is room" in repr(run.explain())
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_what_slurm_would_never_take_is_refused_with_its_words(healthy: Cluster, tmp_path: Path) -> None:
    run = start(
        tmp_path,
        task(tmp_path, "a", resources=ms.Resources(partition="nowhere")),
        task(tmp_path, "b", resources=ms.Resources(memory_gib=1e6)),
        task(tmp_path, "c", resources=ms.Resources(extra=["--no-such-option"])),
        task(tmp_path, "d"),
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.FAILED
    assert list(run.tasks["status"]) == ["FAILED", "FAILED", "FAILED", "COMPLETED"]
    for name in ("a", "c"):
        assert "Slurm refused it" in reason(run, name)
    assert reason(run, "b") == "BadConstraints: Slurm says that it can never start"
    assert sum(starts(tmp_path / "ledger").values()) == 1


# -- a scheduler that lies -------------------------------------------------------------------


def test_a_submission_that_failed_and_yet_arrived_is_adopted(healthy: Cluster, tmp_path: Path) -> None:
    path = start(tmp_path, task(tmp_path), step=False).path
    run = ms.open_run(path, operators={"slurm": ms.SlurmOperator(timeout_s=2.0)})
    with healthy.stopped("slurmctld"):
        run.step()
        assert status(run) == "SUBMITTING"
        run.step()
        assert status(run) == "SUBMITTING", "being unable to ask is no answer"
        assert "could not be asked" in repr(run.explain())
    run = ms.open_run(path)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert not [job for job in healthy.jobs() if job[1].startswith("ms-") and job[2] == "PENDING"]


def test_an_id_that_slurm_gives_again_is_no_identity(healthy: Cluster, tmp_path: Path) -> None:
    held = start(tmp_path, task(tmp_path, "a", gate(tmp_path)), max_active=1)
    number = held.attempts.loc["0.a.1", "external_id"]
    # The controller forgets the job, as one that is killed before it saves its state does, and another gets its id.
    token = held.attempts.loc["0.a.1", "token"]
    healthy.command("scancel", f"--name={token}")
    other = healthy.command(
        "sbatch", "--parsable", "--job-name=somebody-else", "--output=/dev/null", "--wrap=sleep 60"
    ).strip()
    store = held._session.store
    with store.transaction():
        store._connection().execute("UPDATE attempts SET external_id = ?", (other,))
    run = ms.open_run(held.path, operators={"slurm": ms.SlurmOperator(grace_s=0.5)})
    until(run, "LOST")
    assert "never began, and cannot any more" in reason(run)
    assert ("somebody-else", "CANCELLED") not in {(name, state) for _, name, state in healthy.jobs()}
    assert number != other
    assert starts(tmp_path / "ledger") == {}


def test_a_controller_killed_after_it_gave_an_id_loses_the_job(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, retries=1), step=False, grace_s=1.0)
    run.operators["slurm"].start = lambda attempts: healthy.kill("slurmctld")  # type: ignore[method-assign]
    run.step()
    again = ms.open_run(run.path)
    again.step()
    assert status(again) == "SUBMITTED", "a dead controller says nothing about the job"
    healthy.start()
    assert again.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(again, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 1


def test_a_queue_that_hangs_or_fails_holds_nobody_up(
    healthy: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = ms.Workflow([task(tmp_path, "a", gate(tmp_path)), witnessed("here", "true", tmp_path / "ledger")])
    local = ms.LocalOperator()
    operators = {"slurm": ms.SlurmOperator(timeout_s=60.0), "local": local}
    patient = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    patient.step()
    until_begun(patient)
    both = ms.open_run(patient.path, operators={"slurm": ms.SlurmOperator(timeout_s=1.0), "local": local})
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for text in (
        "#!/bin/sh\nexec sleep 60\n",
        "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n",
        "#!/bin/sh\nexit 1\n",
    ):
        (bin_ / "squeue").write_text(text)
        (bin_ / "squeue").chmod(0o755)
        with monkeypatch.context() as broken:
            broken.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
            until(both, "COMPLETED", "here")
            assert status(both) == "RUNNING"
    assert "could not be asked" in repr(both.explain())
    (tmp_path / "go").write_text("")
    wait_for(lambda: (patient.step(), patient.status is ms.RunStatus.COMPLETED)[1])
    check_executions(patient, tmp_path / "ledger")


def test_a_finished_job_that_the_queue_has_forgotten(tmp_path: Path) -> None:
    with cluster(26847, SLURM_LAB_CPUS="4", SLURM_LAB_MINJOBAGE="5") as forgetful:
        run = start(tmp_path, task(tmp_path, "good"), task(tmp_path, "bad", "exit 4", allow_failure=True), grace_s=1.0)
        wait_for(lambda: sum(starts(tmp_path / "ledger").values()) == 2)
        wait_for(lambda: not [job for job in forgetful.jobs() if job[1].startswith("ms-")])
        assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
        assert list(run.tasks["exit_code"]) == [0, 4]
        check_executions(run, tmp_path / "ledger")


# -- how jobs end ----------------------------------------------------------------------------


def test_cancelled_by_somebody(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)))
    until(run, "RUNNING")
    healthy.command("scancel", str(run.attempts.loc["0.a.1", "external_id"]))
    until(run, "FAILED")
    assert re.match(r"CANCELLED: ran \S+ of \S+", reason(run))


def test_requeued_by_an_administrator_runs_once(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)), grace_s=1.0)
    until_begun(run)
    number = str(run.attempts.loc["0.a.1", "external_id"])
    healthy.command("scontrol", "update", f"jobid={number}", "requeue=1")
    healthy.command("scontrol", "requeue", number)
    # The job is told later, and a command that may go on before that would end well.
    over = ("RUNNING", "COMPLETING")
    wait_for(lambda: not [job for job, _, state in healthy.jobs() if job == number and state in over])
    (tmp_path / "go").write_text("")
    wait_for(lambda: (run.step(), status(run) in ("LOST", "FAILED", "COMPLETED"))[1])
    assert sum(starts(tmp_path / "ledger").values()) == 1
    assert status(run) == "LOST"


def test_held_by_an_administrator_is_left_held_and_said(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a"), max_active=1)
    number = str(run.attempts.loc["0.a.1", "external_id"])
    healthy.command("scontrol", "hold", number)
    healthy.command("scontrol", "update", f"jobid={number}", "priority=0")
    for _ in range(3):
        run.step()
    assert "JobHeldAdmin" in repr(run.explain())
    assert starts(tmp_path / "ledger") == {}
    healthy.command("scontrol", "release", number)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED


def test_a_controller_that_has_forgotten_what_it_released_is_told_again(healthy: Cluster, tmp_path: Path) -> None:
    tasks = [
        task(tmp_path, "z", gate(tmp_path)),
        task(tmp_path, "a", "exit 3", allow_failure=True),
        task(tmp_path, "b"),
    ]
    run = start(tmp_path, *tasks, max_active=1)
    until(run, "RUNNING", "z")
    healthy.save(tmp_path / "saved")  # a and b are held
    (tmp_path / "go").write_text("")
    mine = run.path / "operators/slurm/0.a.1/.matterstack"
    wait_for(lambda: (run.step(), list(mine.glob("released.*")))[1])
    wait_for((mine / "exit.json").exists)
    healthy.restore(tmp_path / "saved")
    number = run.attempts.loc["0.b.1", "external_id"]
    (run.path / f"operators/slurm/0.b.1/.matterstack/released.{number}").touch()  # as that of a
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, run.explain()
    assert reason(run) == "exit code 3"
    check_executions(run, tmp_path / "ledger")


def test_what_a_person_holds_after_its_release_is_left_held(healthy: Cluster) -> None:
    scheduler = ms.SlurmOperator().scheduler

    def submit(*options: str) -> str:
        return healthy.command("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap=sleep 1000").strip()

    blocks = submit("--ntasks=16")  # what is released waits for its turn
    wait_for(lambda: (blocks, "RUNNING") in {(job, state) for job, _, state in healthy.jobs()})
    never, held = submit("--hold"), submit("--hold")
    assert scheduler.forgotten([never, held]) == [never, held]
    scheduler.release([held])
    wait_for(lambda: scheduler.forgotten([never, held]) == [never])
    healthy.command("scontrol", "hold", held)
    assert scheduler.forgotten([never, held]) == [never]


def test_a_dependency_that_can_never_be_satisfied_ends_the_attempt(healthy: Cluster, tmp_path: Path) -> None:
    failed = healthy.command("sbatch", "--parsable", "--output=/dev/null", "--chdir=/tmp", "--wrap=exit 1").strip()
    wait_for(lambda: (failed, "FAILED") in {(number, state) for number, _, state in healthy.jobs()})
    run = start(tmp_path, task(tmp_path), max_active=1)
    number = str(run.attempts.loc["0.a.1", "external_id"])
    healthy.command("scontrol", "update", f"jobid={number}", f"dependency=afterok:{failed}")
    assert run.wait(timeout_s=180) is ms.RunStatus.FAILED
    assert reason(run) == "DependencyNeverSatisfied: Slurm says that it can never start"
    assert starts(tmp_path / "ledger") == {}


@pytest.mark.parametrize(
    ("vandal", "ends"),
    [
        ("mkdir .matterstack/exit.json", "LOST"),
        (
            "ln -s /etc/passwd .matterstack/exit.json; while ! [ -e ../0.b.1/.matterstack/exit.json ]; do sleep 0.1; done",
            "COMPLETED",
        ),
        ("mkdir etc; rm -rf .matterstack/claim; ln -s ../etc .matterstack/claim", "COMPLETED"),
        ("mkdir .matterstack/exit.json .matterstack/missing.json", "live"),
        ("rm -rf ../0.a.1", "LOST"),
    ],
)
@pytest.mark.parametrize("pack", [1, 5])
def test_a_job_that_spoils_its_own_directory_holds_up_no_other(
    healthy: Cluster, tmp_path: Path, vandal: str, ends: str, pack: int
) -> None:
    wide = ms.Resources(cpus_per_task=2)  # so that it is in no chunk with the other
    run = start(tmp_path, task(tmp_path, "a", vandal, resources=wide), task(tmp_path, "b"), pack=pack, grace_s=0.5)
    until(run, "COMPLETED", "b")
    if ends == "live":
        wait_for(lambda: (run.step(), "cannot be looked at" in repr(run.explain()))[1])
    else:
        until(run, ends)
    assert "could not be asked" not in repr(run.explain())


def test_a_daemon_of_the_node_that_dies_and_comes_back(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)))
    until_begun(run)
    healthy.kill("slurmd")
    run.step()
    healthy.start()
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_over_its_time_and_again_with_more(healthy: Cluster, tmp_path: Path) -> None:
    command = f'[ "$MATTERSTACK_ATTEMPT" = 2 ] || {{ {gate(tmp_path)}; }}'
    resources = ms.Resources(walltime_s=1, walltime_factor=120)
    run = start(
        tmp_path,
        task(tmp_path, "a", command, resources=resources, retries=2, retry_on={"TIMEOUT"}),
        task(tmp_path, "b", "exit 1", retries=5, retry_on=["TIMEOUT"]),
    )
    until_begun(run)
    number = str(run.attempts.loc["0.a.1", "external_id"])
    healthy.command("scontrol", "update", f"JobId={number}", "EndTime=now")  # Slurm's least limit is a minute
    assert run.wait(timeout_s=180) is ms.RunStatus.FAILED
    assert status(run) == "FAILED"
    assert re.match(r"TIMEOUT: ran \S+ of \S+", str(run.attempts.loc["0.a.1", "reason"]))
    assert status(run, attempt=2) == "COMPLETED"
    assert len(run.attempts) == 3, "what is not listed is not tried again"
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("when", ["submitting", "submitted", "held", "running", "ended"])
@pytest.mark.parametrize("pack", [1, 5])
def test_cancelling_the_run_cancels_the_job(healthy: Cluster, tmp_path: Path, when: str, pack: int) -> None:
    command = "true" if when == "ended" else gate(tmp_path)
    tasks = [task(tmp_path, name, command) for name in ("a", "b")]
    run = start(tmp_path, *tasks, step=False, pack=pack, **({"max_active": 1} if when == "held" else {}))
    if when == "submitting":
        killed_at("submit.submitted", 1, lambda: ms.open_run(run.path).step())
    elif when == "submitted":
        killed_at("submit.stored", 1, lambda: ms.open_run(run.path).step())
    else:
        run.step()
    names = set(run.attempts["external_id"] if pack > 1 and when != "submitting" else run.attempts["token"])
    if when == "running":
        until(run, "RUNNING")
    if when == "ended":
        wait_for(lambda: {state for _, name, state in healthy.jobs() if name in names} == {"COMPLETED"})
    ms.open_run(run.path).cancel(timeout_s=120)
    assert (run.attempts["status"] == "CANCELLED").all()
    wait_for(lambda: not [job for job in healthy.jobs() if job[1].startswith("ms-") and job[2] == "COMPLETING"])
    left = {state for _, name, state in healthy.jobs() if name in names}
    assert left <= {"CANCELLED", "COMPLETED"}
    assert not [job for job in healthy.jobs() if job[1].startswith("ms-") and job[2] not in slurm.ENDED]


# -- drivers that die or race ----------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [
        "store.committed",
        "submit.prepared",
        "submit.submitted",
        "store.commit",
        "submit.stored",
        "tick.polled",
        "tick.made",
    ],
)
@pytest.mark.parametrize("hit", [1, 2])
def test_the_submitter_is_killed_at_each_step(healthy: Cluster, tmp_path: Path, point: str, hit: int) -> None:
    run = start(tmp_path, task(tmp_path, "a"), task(tmp_path, "b"), step=False, grace_s=5.0)
    killed_at(point, hit, lambda: ms.open_run(run.path).step())
    killed_at(point, hit, lambda: ms.open_run(run.path).step())
    assert ms.open_run(run.path).wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 2
    tokens = set(run.attempts["token"])
    assert not [job for job in healthy.jobs() if job[1] in tokens and job[2] in slurm.QUEUED], "a job is left over"


def test_six_submitters_race(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, *(task(tmp_path, f"t{i}") for i in range(8)), step=False)

    def drive() -> None:
        mine = ms.open_run(run.path)
        while mine.status not in (ms.RunStatus.COMPLETED, ms.RunStatus.FAILED):
            try:
                mine.step()
            except RunLockedError:
                continue

    threads = [threading.Thread(target=lambda: in_child(drive)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=180)
    assert run.status is ms.RunStatus.COMPLETED, list(run.attempts["reason"])
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 8


def test_a_job_that_begins_while_the_queue_is_asked_is_not_taken_for_a_requeued_one(tmp_path: Path) -> None:
    class Late:
        """A queue whose answer is older than what the job has done meanwhile."""

        def submit_held(self, jobs: Sequence[NewJob]) -> dict[str, str]:
            self.directory, self.token = Path(jobs[0].directory), jobs[0].token
            return {self.token: "1.server"}  # other schedulers do not number their jobs

        def release(self, ids: Any) -> bool:
            return True

        def poll(self, tokens: Any) -> list[Job]:
            subprocess.run(["/bin/sh", "-c", "mkdir -p .matterstack/claim"], cwd=self.directory, check=True)
            return [Job("1.server", self.token, "PENDING", "Priority", "0:00", "1:00")]

        def find(self, tokens: Any, since: float) -> list[Job]:
            return []

        def cancel(self, ids: Any, token: Any = None) -> None:
            raise AssertionError("a job that has just begun was cancelled")

    operator = ms.SlurmOperator()
    operator.scheduler = Late()
    run = ms.initialize_run("w", ms.Workflow([task(tmp_path, "a")]), base_path=tmp_path, operators={"slurm": operator})
    run.step()
    run.step()
    assert status(run) == "SUBMITTED"


class MoreSteps:
    """Gives a calculation that did not converge one step more."""

    def check(self, directory: Path) -> bool:
        return "not converged" in (directory / "stdout.txt").read_text()

    def correct(self, directory: Path) -> dict[str, int]:
        steps = int((directory / "steps").read_text()) + 1
        (directory / "steps").write_text(str(steps))
        return {"steps": steps}


class Broken:
    def check(self, directory: Path) -> bool:
        return True

    def correct(self, directory: Path) -> None:
        raise OSError("no such pseudopotential")


@pytest.mark.parametrize("pack", [1, 5])
def test_handlers_mend_the_inputs_of_the_next_attempt(healthy: Cluster, tmp_path: Path, pack: int) -> None:
    converge = '[ "$(cat steps)" -ge 3 ] || { echo not converged; exit 1; }'
    tasks = [task(tmp_path, name, converge, retries=3, files={"steps": "1"}) for name in ("a", "b")]
    run = start(tmp_path, *tasks, handlers=[MoreSteps()], pack=pack, grace_s=5.0)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    attempts = run.attempts[run.attempts["task_id"] == "a"]
    assert list(attempts["status"]) == ["FAILED", "FAILED", "COMPLETED"]
    said = json.loads((run.path / "operators/slurm/0.a.3/corrections.json").read_text())
    assert [(one["attempt"], one["handler"], one["done"]) for one in said] == [
        (1, "MoreSteps", {"steps": 2}),
        (2, "MoreSteps", {"steps": 3}),
    ]
    described = json.loads((run.path / "config.json").read_text())["operators"]["slurm"]
    assert described["settings"] is None  # so it has to be passed to open_run again


def test_a_handler_that_raises_fails_the_attempt_with_its_words(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a", "exit 1", retries=1, allow_failure=True), handlers=[Broken()])
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert "no such pseudopotential" in reason(run)
    with pytest.raises(InvalidConfigError, match="check"):
        ms.SlurmOperator(handlers=[object()])  # type: ignore[list-item]


class Watching(MoreSteps):
    """Looks at what runs, too."""

    is_monitor = True
    monitor_every_s = 0.0


@pytest.mark.parametrize("pack", [1, 5])
def test_a_monitor_stops_a_job_that_runs(healthy: Cluster, tmp_path: Path, pack: int) -> None:
    converge = '[ "$(cat steps)" -ge 2 ] || { echo not converged; sleep 1000; }'
    tasks = [
        task(tmp_path, name, converge, retries=1, files={"steps": steps}) for name, steps in (("a", "1"), ("b", "2"))
    ]
    run = start(tmp_path, *tasks, handlers=[Watching()], pack=pack, grace_s=5.0)
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED, run.explain()
    attempts = run.attempts[["task_id", "status"]].to_records(index=False).tolist()
    assert sorted(attempts) == [("a", "COMPLETED"), ("a", "FAILED"), ("b", "COMPLETED")]
    assert run.attempts.loc["0.a.1", "reason"].startswith("stopped by Watching")
    check_executions(run, tmp_path / "ledger")


def packed(base: Path, *tasks: ms.Task, **settings: Any) -> ms.Run:
    return start(base, *tasks, **{"pack": 50, "grace_s": 5.0, **settings})


def chunk_jobs(cluster: Cluster, run: ms.Run) -> list[tuple[str, str, str]]:
    names = set(run.attempts["external_id"])
    return [job for job in cluster.jobs() if job[1] in names]


def test_many_attempts_share_a_job_and_each_ends_in_its_own_way(healthy: Cluster, tmp_path: Path) -> None:
    run = packed(
        tmp_path,
        *(task(tmp_path, f"t{i}", f"echo '{{\"i\": {i}}}' > result.json") for i in range(20)),
        ms.Task("odd", 'echo "$ODD"', operator="slurm", env={"ODD": "a'b\"c$d"}),
        task(tmp_path, "bad", "echo lost >&2; exit 3", allow_failure=True),
        task(tmp_path, "long", "sleep 300", resources=ms.Resources(walltime_s=5), allow_failure=True),
        task(tmp_path, "also", "true", resources=ms.Resources(walltime_s=5)),
    )
    assert run.attempts["external_id"].nunique() == 2
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert sorted(run.results["i"].dropna()) == list(range(20))
    assert (run.path / "operators/slurm/0.odd.1/stdout.txt").read_text() == "a'b\"c$d\n"
    assert "exit code 3; stderr ends with: lost" in reason(run, "bad")
    assert "TIMEOUT" in reason(run, "long")
    assert sum(starts(tmp_path / "ledger").values()) == 23


def signs_and_adds(ledger: str, number: int, then: str = "") -> int:
    import colorsys
    import os
    import time

    with open(ledger, "a") as file:
        file.write(f"start {os.environ['MATTERSTACK_TOKEN']}\n")
    if then == "waits":
        time.sleep(300)
    if then == "exits":
        os._exit(3)
    if then == "crashes":
        os.kill(os.getpid(), 11)
    return number + len(colorsys.__name__)


def starts_of(run: ms.Run) -> dict[str, str]:
    notes = (run.path / "operators/slurm").glob("*/.matterstack/start")
    return {note.parent.parent.name: note.read_text().strip() for note in notes}


def calling(base: Path, *kinds: str, **settings: Any) -> ms.Run:
    flow = ms.Workflow()
    short = {"resources": ms.Resources(walltime_s=2)}  # of those that wait, and are a chunk of their own
    for number, kind in enumerate(kinds):
        options = {"allow_failure": True, "operator": "slurm", **(short if kind == "waits" else {})}
        flow.add(f"t{number}", ms.task(signs_and_adds, **options), str(base / "ledger"), number, kind)
    operator = ms.SlurmOperator(timeout_s=60.0, poll_s=0.1, pack=50, grace_s=5.0, **settings)
    return ms.initialize_run("w", flow, base_path=base, operators={"slurm": operator})


def test_calls_of_a_chunk_begin_warm_and_each_ends_in_its_own_way(healthy: Cluster, tmp_path: Path) -> None:
    run = calling(tmp_path, "", "waits", "exits", "crashes", "", "", "waits")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert starts_of(run) == {f"0.t{number}.1": "warm" for number in range(7)}
    assert [run.value(f"t{number}") for number in (0, 4, 5)] == [8, 12, 13]
    assert "TIMEOUT" in reason(run, "t1")
    assert "TIMEOUT" in reason(run, "t6")
    assert "exit code 3" in reason(run, "t2")
    assert "exit code -11" in reason(run, "t3")
    check_executions(run, tmp_path / "ledger")


def test_calls_of_a_chunk_begin_cold_where_that_is_wanted(healthy: Cluster, tmp_path: Path) -> None:
    cold = calling(tmp_path, "", "", warm=False)
    assert cold.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert set(starts_of(cold).values()) == {"cold: its operator has warm=False"}
    assert cold.value("t1") == 9


def test_a_chunk_that_is_killed_goes_on_where_it_stood(healthy: Cluster, tmp_path: Path) -> None:
    run = packed(
        tmp_path,
        task(tmp_path, "t0"),
        task(tmp_path, "t1", gate(tmp_path), retries=1),
        *(task(tmp_path, f"t{i}") for i in range(2, 8)),
    )
    until_begun(run, "t1")
    ((number, _, _),) = chunk_jobs(healthy, run)
    healthy.command("scancel", number)
    # The job is told later, and a command that may go on at once would end before that.
    wait_for(lambda: (number, "CANCELLED") in {(job, state) for job, _, state in healthy.jobs()})
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    attempts = run.attempts.groupby("task_id").size()
    assert attempts.loc["t1"] == 2  # only the one that was interrupted ran again
    assert attempts.drop("t1").eq(1).all()
    check_executions(run, tmp_path / "ledger")


def test_an_attempt_whose_chunk_was_killed_is_lost_while_the_next_job_of_it_works_on(
    healthy: Cluster, tmp_path: Path
) -> None:
    run = packed(
        tmp_path,
        task(tmp_path, "t0", "sleep 300", allow_failure=True),
        task(tmp_path, "t1", gate(tmp_path)),
        grace_s=1.0,
    )
    until_begun(run, "t0")
    ((number, _, _),) = chunk_jobs(healthy, run)
    healthy.command("scancel", number)
    until(run, "LOST", "t0")
    assert f"job {number} of its chunk ended while it ran" in reason(run, "t0")
    until(run, "RUNNING", "t1")
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_commands_that_break_their_directory_or_cannot_start_leave_the_chunk_working(
    healthy: Cluster, tmp_path: Path
) -> None:
    run = packed(
        tmp_path,
        task(tmp_path, "gone", "rm -rf ../0.gone.1", allow_failure=True),
        ms.Task("unknown", ["no-such-program"], operator="slurm", allow_failure=True),
        ms.Task("secret", "true", env={"KEY": "env:NOWHERE_SET"}, operator="slurm", allow_failure=True),
        task(tmp_path, "ignores", "trap '' TERM; kill -TERM $$; exit 0"),
        task(tmp_path, "last"),
        grace_s=1.0,
    )
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert list(run.tasks["status"]) == ["FAILED", "FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert "no-such-program: command not found" in reason(run, "unknown")
    assert "NOWHERE_SET has to be set" in reason(run, "secret")
    assert "its directory is gone" in reason(run, "gone")
    assert len(chunk_jobs(healthy, run)) == 1


def test_attempts_of_a_chunk_are_cancelled_alone(healthy: Cluster, tmp_path: Path) -> None:
    run = packed(tmp_path, *(task(tmp_path, f"t{i}", gate(tmp_path)) for i in range(4)))
    until_begun(run, "t0")
    run.cancel(timeout_s=120)
    assert set(run.attempts["status"]) == {"CANCELLED"}
    # One that has told its end may be over only in a moment.
    wait_for(lambda: not [job for job in chunk_jobs(healthy, run) if job[2] == "COMPLETING"])
    assert not [job for job in chunk_jobs(healthy, run) if job[2] not in slurm.ENDED]
    assert sum(starts(tmp_path / "ledger").values()) == 1


@pytest.mark.parametrize(
    "point", ["submit.prepared", "submit.submitted", "store.commit", "submit.stored", "tick.polled"]
)
@pytest.mark.parametrize("hit", [1, 2])
def test_the_submitter_of_a_chunk_is_killed(healthy: Cluster, tmp_path: Path, point: str, hit: int) -> None:
    run = packed(tmp_path, *(task(tmp_path, f"t{i}") for i in range(5)), step=False)
    killed_at(point, hit, lambda: ms.open_run(run.path).step())
    killed_at(point, hit, lambda: ms.open_run(run.path).step())
    assert ms.open_run(run.path).wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 5


def test_two_jobs_of_one_attempt_run_its_command_once(healthy: Cluster, tmp_path: Path) -> None:
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)))
    until_begun(run)
    directory = run.path / "operators/slurm/0.a.1"
    token = run.attempts.loc["0.a.1", "token"]
    second = healthy.command(
        "sbatch",
        "--parsable",
        f"--job-name={token}",
        "--output=slurm-2.out",
        f"--chdir={directory}",
        str(directory / ".matterstack/job.sh"),
    ).strip()
    wait_for(lambda: (second, "COMPLETED") in {(job, state) for job, _, state in healthy.jobs()})
    assert "claimed by another job" in (directory / "slurm-2.out").read_text()
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 1


def test_a_held_job_of_an_attempt_that_no_run_has_stored_is_cancelled(healthy: Cluster, tmp_path: Path) -> None:
    """As a submission leaves it that seemed to fail, and arrived when its attempt had another job."""
    run = start(tmp_path, task(tmp_path, "a", gate(tmp_path)))
    named = f"--job-name={run.attempts.loc['0.a.1', 'token']}"
    stray = healthy.command("sbatch", "--parsable", "--hold", named, "--output=/dev/null", "--wrap=true").strip()
    wait_for(lambda: (run.step(), stray not in {job for job, _, state in healthy.jobs() if state == "PENDING"})[1])
    (tmp_path / "go").write_text("")
    assert run.wait(timeout_s=180) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


# -- parsers and checks ----------------------------------------------------------------------


@given(st.text())
def test_parsers_take_any_text(text: str) -> None:
    assert parse_sbatch(text) is None or parse_sbatch(text).isdigit()  # type: ignore[union-attr]
    for job in [*parse_squeue(text), *parse_sacct(text)]:
        assert job.id.isdigit()


def test_resources_become_options() -> None:
    resources = ms.Resources(nodes=2, tasks=8, cpus_per_task=4, memory_gib=3, gpus=1, walltime_s=90_061, partition="long",
                             account="mat", qos="high", constraint="a&b", extra=["--exclusive"])  # fmt: skip
    assert sbatch_options(resources.scaled(1)) == [
        "--nodes=2", "--ntasks=8", "--cpus-per-task=4", "--gpus=1", "--partition=long", "--account=mat", "--qos=high",
        "--constraint=a&b", "--mem=1536M", "--time=1-01:01:01", "--exclusive",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"partition": "a\n#SBATCH --uid=0"},
        {"account": "--uid=0"},
        {"qos": "a b"},
        {"constraint": ""},
        {"extra": "--x"},
        {"walltime_factor": 0.5},
    ],
)
def test_values_that_are_options_in_disguise_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidTaskError):
        ms.Resources(**wrong)


@pytest.mark.parametrize(
    "option",
    ["-p long", "long", "--job-name=x", "--job-na=x", "--wrap=evil", "--exclusive\n--uid=0", "--array=1-9", "--", ""],
)
def test_options_that_would_take_the_job_out_of_our_hands(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidTaskError):
        start(tmp_path, task(tmp_path, resources=ms.Resources(extra=[option])), step=False)
    with pytest.raises(InvalidConfigError):
        ms.SlurmOperator(options=[option])
