"""What an operator or a command may do wrong, and what the run makes of it."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ledger import check_executions, starts, witnessed
from waiting import wait_for

import matterstack as ms
from matterstack.core.attempts import (
    Absent,
    Attempt,
    Observation,
    Refused,
    Seen,
    Submitted,
)
from matterstack.errors import AttemptFailedError, OperatorUnreachableError, RunStatusError
from matterstack.operators.requests import kit_results
from tests.helpers.runners import kill_runner


class Shaky(ms.LocalOperator):
    """A local operator whose methods raise what a test says, as often as it says."""

    def __init__(self, **errors: Sequence[BaseException | None]) -> None:
        super().__init__(max_active=2)
        self.errors = {name: list(planned) for name, planned in errors.items()}

    def _raise(self, name: str) -> None:
        if self.errors.get(name):
            error = self.errors[name].pop(0)
            if error is not None:
                raise error

    def prepare(self, attempt: Attempt) -> None:
        self._raise("prepare")

    def submit(self, attempts: Any) -> Any:
        self._raise("submit")
        replies = super().submit(attempts)
        self._raise("submitted")
        return replies

    def check_status(self, attempts: Any) -> Any:
        self._raise("check_status")
        return super().check_status(attempts)

    def find(self, attempts: Any) -> Any:
        self._raise("find")
        return super().find(attempts)

    def cancel(self, attempts: Any) -> Any:
        self._raise("cancel")
        return super().cancel(attempts)

    def collect_results(self, attempt: Attempt) -> Any:
        self._raise("collect_results")
        return super().collect_results(attempt)


def start(base: Path, operator: ms.LocalOperator, **settings: Any) -> ms.Run:
    """Return a run of one task at a shaky operator, and one at a healthy one."""
    flow = ms.Workflow(
        [
            witnessed("shaky", "true", base / "ledger", operator="shaky", **settings),
            witnessed("healthy", "true", base / "ledger"),
        ]
    )
    return ms.initialize_run("w", flow, base_path=base, operators={"shaky": operator, "local": ms.LocalOperator()})


BOOM = ZeroDivisionError("boom")
CANNOT_TELL = [OperatorUnreachableError("the link is down"), BOOM]


@pytest.mark.parametrize("method", ["submit", "submitted", "check_status"])
@pytest.mark.parametrize("error", CANNOT_TELL)
def test_cannot_tell_changes_no_status_and_is_asked_again(tmp_path: Path, method: str, error: Exception) -> None:
    run = start(tmp_path, Shaky(**{method: [error]}))
    run.step()
    if method == "check_status":
        run.step()
    assert run.tasks.loc["0.shaky", "status"] == "SUBMITTED"
    said = str(run.explain())
    assert "operator shaky: it could not be asked 1 times" in said
    assert str(error) in said
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert list(run.attempts["attempt"]) == [1, 1], "no attempt was given up"
    check_executions(run, tmp_path / "ledger")
    assert "could not be asked" not in str(run.explain()), "forgotten once it answered"


@pytest.mark.parametrize("error", CANNOT_TELL)
def test_find_that_raises_leaves_the_submission_open(tmp_path: Path, error: Exception) -> None:
    run = start(tmp_path, Shaky(submitted=[BOOM], find=[error, error]))
    for _ in range(3):
        run.step()
        assert run.tasks.loc["0.shaky", "status"] == "SUBMITTED"
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 2


@pytest.mark.parametrize("method", ["prepare", "collect_results"])
def test_error_about_one_attempt_fails_it_and_the_retry_policy_decides(tmp_path: Path, method: str) -> None:
    run = start(tmp_path, Shaky(**{method: [BOOM]}), retries=1)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    attempts = run.attempts[run.attempts["task_id"] == "shaky"]
    assert list(attempts["status"]) == ["FAILED", "COMPLETED"]
    assert "ZeroDivisionError: boom" in attempts["reason"].iloc[0]
    assert "Traceback" in attempts["reason"].iloc[0]


@pytest.mark.parametrize("method", ["prepare", "collect_results"])
def test_unreachable_while_preparing_or_collecting_waits(tmp_path: Path, method: str) -> None:
    run = start(tmp_path, Shaky(**{method: [OperatorUnreachableError("no link")] * 2}))
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert list(run.attempts["attempt"]) == [1, 1]


def test_an_error_that_says_why_is_shown_without_a_traceback(tmp_path: Path) -> None:
    run = start(tmp_path, Shaky(collect_results=[AttemptFailedError("the energy is not converged")]))
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert run.tasks.loc["0.shaky", "reason"] == "its results cannot be collected: the energy is not converged"
    assert run.tasks.loc["0.healthy", "status"] == "COMPLETED", "siblings go on"


def test_refused_submission_fails_the_attempt(tmp_path: Path) -> None:
    class Picky(ms.LocalOperator):
        def submit(self, attempts: Any) -> Any:
            return {attempt.token: Refused("no such partition") for attempt in attempts}

    run = start(tmp_path, Picky())
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert run.tasks.loc["0.shaky", "reason"] == "no such partition"
    assert list(run.attempts["status"]) == ["FAILED", "COMPLETED"]


def test_answers_that_make_no_sense_change_nothing(tmp_path: Path) -> None:
    class Babbling(ms.LocalOperator):
        def check_status(self, attempts: Any) -> Any:
            known = super().check_status(attempts)
            strange: Mapping[str, Observation] = {"ms-of-another-run": Observation(Seen.ENDED)}
            return {**strange, **{token: Observation(Seen.EXPIRED) for token in known}}

    run = start(tmp_path, Babbling())
    for _ in range(5):
        run.step()
    assert run.tasks.loc["0.shaky", "status"] == "SUBMITTED"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"exit_code": 10**30}, "is no exit code"),
        ({"exit_code": -(2**70)}, "is no exit code"),
        ({"exit_code": True}, "is no exit code"),
        ({"exit_code": 10**5000}, "is no exit code"),
        ({"ended_at": 10**400}, "is no time"),
        ({"ended_at": 1e300}, "is no time"),
        ({"ended_at": -1e14}, "is no time"),
        ({"started_at": float("nan")}, "is no time"),
    ],
)
@pytest.mark.parametrize("ok", [True, False])
def test_numbers_that_are_none_hurt_one_attempt(tmp_path: Path, numbers: Any, said: str, ok: bool) -> None:
    """What a file in an attempt's directory says may reach the store by any operator."""

    class Absurd(ms.LocalOperator):
        def check_task(self, task: ms.Task) -> None:
            return

        def submit(self, attempts: Any) -> Any:
            return {attempt.token: Submitted() for attempt in attempts}

        def check_status(self, attempts: Any) -> Any:
            return {a.token: Observation(Seen.ENDED, ok=ok, reason="it ended", **numbers) for a in attempts}

        def collect_results(self, attempt: Any) -> Any:
            return {}

    flow = ms.Workflow([ms.Task("odd", operator="absurd", allow_failure=True), ms.Task("plain", "true")])
    operators = {"absurd": Absurd(), "local": ms.LocalOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert run.tasks.loc["0.odd", "status"] == ("COMPLETED" if ok else "FAILED")
    assert said in str(run.attempts.loc["0.odd.1", "reason"])
    repr(run)


def test_operator_that_keeps_failing_is_suspended_and_the_others_go_on(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [ms.Task("bad", "true", operator="shaky"), ms.Task("worse", "true", operator="shaky")]
        + [witnessed(f"t{n}", "true", tmp_path / "ledger", dependencies=[f"t{n - 1}"] if n else []) for n in range(5)]
    )
    shaky = Shaky(submit=[BOOM] * 50)
    run = ms.initialize_run(
        "w",
        flow,
        base_path=tmp_path,
        operators={"shaky": shaky, "local": ms.LocalOperator()},
        config={"suspend_after": 3},
    )
    assert run.wait(timeout_s=120) is ms.RunStatus.PAUSED
    assert "shaky" in (run.reason or "")
    assert "boom" in (run.reason or "")
    assert (run.tasks["status"].iloc[2:] == "COMPLETED").all(), "the others went on"
    assert "nothing new goes to it" in str(run.explain())
    shaky.errors.clear()
    run.resume()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


# -- commands -------------------------------------------------------------------------------


def one(
    base: Path, command: str | Sequence[str], *, operator: ms.LocalOperator | None = None, **settings: Any
) -> ms.Run:
    """Return a finished run of one command."""
    operators = {"local": operator or ms.LocalOperator(kill_grace_s=0.2)}
    run = ms.initialize_run("w", ms.Workflow([ms.Task("x", command, **settings)]), base_path=base, operators=operators)
    run.wait(timeout_s=120)
    return run


def reason_of(run: ms.Run) -> str:
    assert run.status is ms.RunStatus.FAILED
    assert run.tasks.loc["0.x", "status"] == "FAILED"
    return str(run.tasks.loc["0.x", "reason"])


def directory_of(run: ms.Run) -> Path:
    return run.path / "operators/local/0.x.1"


def test_command_that_fails_keeps_its_code_and_last_words(tmp_path: Path) -> None:
    run = one(tmp_path, "echo all is lost >&2; exit 3")
    assert reason_of(run) == "exit code 3; stderr ends with: all is lost"
    assert run.tasks.loc["0.x", "exit_code"] == 3
    assert (directory_of(run) / "stderr.txt").read_text() == "all is lost\n"


def test_retries_are_used_up_and_every_attempt_is_kept(tmp_path: Path) -> None:
    run = one(tmp_path, "exit $MATTERSTACK_ATTEMPT", retries=2)
    assert list(run.attempts["exit_code"]) == [1, 2, 3]
    assert list(run.attempts["status"]) == ["FAILED"] * 3
    assert reason_of(run) == "exit code 3"


def test_failed_dependency_skips_dependants_unless_they_allow_it(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("root", "exit 1"),
            ms.Task("child", "true", dependencies=["root"]),
            ms.Task("grandchild", "true", dependencies=["child"]),
            ms.Task("cleaner", "cat inputs.json", dependencies=["root", "child"], allow_dependency_failure=True),
            ms.Task("sibling", "true"),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert dict(zip(run.tasks["task_id"], run.tasks["status"], strict=True)) == {
        "root": "FAILED",
        "child": "SKIPPED",
        "grandchild": "SKIPPED",
        "cleaner": "COMPLETED",
        "sibling": "COMPLETED",
    }
    inputs = json.loads((run.path / "operators/local/0.cleaner.1/inputs.json").read_text())
    assert inputs["root"]["status"] == "FAILED"
    assert inputs["child"] == {"status": "SKIPPED", "directory": None, "data": {}}
    with pytest.raises(RunStatusError, match="because of root"):
        run.retry("child")


def test_allowed_failure_reaches_analyze(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Once(ms.Campaign):
        def plan(self, state: Any) -> ms.Workflow | None:
            return None if state else ms.Workflow([ms.Task("x", "exit 1", allow_failure=True), ms.Task("y", "true")])

        def analyze(self, state: Any, results: Mapping[str, ms.TaskResult]) -> Any:
            seen.update({name: (str(result.status), result.reason) for name, result in results.items()})
            return {"done": True}

    run = ms.initialize_run("w", Once(), base_path=tmp_path)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert seen == {"x": ("FAILED", "exit code 1"), "y": ("COMPLETED", None)}


def test_command_killed_by_a_signal(tmp_path: Path) -> None:
    run = one(tmp_path, "kill -SEGV $$")
    assert "killed by SIGSEGV" in reason_of(run)
    assert run.tasks.loc["0.x", "exit_code"] == -signal.SIGSEGV


def test_command_that_prints_megabytes(tmp_path: Path) -> None:
    run = one(tmp_path, "head -c 20000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2; exit 1")
    assert (directory_of(run) / "stdout.txt").stat().st_size == 20_000_000
    assert len(reason_of(run)) < 1000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"energy_eV": ', "line 1"),
        ('{"energy_eV": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "twice"),
        ("\\377\\376", "UTF-8"),
        ("[" * 500, "deeper"),
    ],
)
def test_broken_result_json_fails_the_attempt_and_says_why(tmp_path: Path, content: str, says: str) -> None:
    run = one(tmp_path, ["printf", content], operator=ms.LocalOperator())
    assert run.status is ms.RunStatus.COMPLETED, "stdout is no result"
    (tmp_path / "b").mkdir()
    run = one(tmp_path / "b", f"printf '{content}' > result.json")
    assert "result.json cannot be used" in reason_of(run)
    assert says in reason_of(run)


@pytest.mark.parametrize(
    "making",
    ["ln -s /etc/passwd result.json", "mkfifo result.json", "mkdir result.json", "ln -s /dev/zero result.json"],
)
def test_result_json_that_is_no_plain_file_is_refused_without_blocking(tmp_path: Path, making: str) -> None:
    assert "result.json cannot be used" in reason_of(one(tmp_path, making))


def test_oversize_result_json(tmp_path: Path) -> None:
    assert "1000000 at most" in reason_of(one(tmp_path, "head -c 5000000 /dev/zero > result.json"))


def test_missing_output_fails_the_attempt(tmp_path: Path) -> None:
    assert "output final.xyz is not there" in reason_of(one(tmp_path, "true", outputs=["final.xyz"]))


def test_output_of_another_task_that_is_a_link_out_is_not_followed(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("relax", "ln -s /etc/passwd final.xyz"),
            ms.Task("band", "cat start.xyz", files={"start.xyz": ms.FromTask("relax", "final.xyz")}),
        ]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    assert run.wait(timeout_s=120) is ms.RunStatus.FAILED
    assert "only plain files" in str(run.tasks.loc["0.band", "reason"])


def test_command_that_closes_its_descriptors(tmp_path: Path) -> None:
    close_all = "import os; os.closerange(0, 256); os._exit(7)"
    run = one(tmp_path, ["python", "-c", close_all])
    assert run.tasks.loc["0.x", "exit_code"] == 7


def test_time_limit_stops_the_whole_process_group(tmp_path: Path) -> None:
    command = "trap '' TERM; sh -c \"trap '' TERM; sleep 1000\" & echo $! > part; mv part child; wait"
    for limit_s in (0.3, 10.0):  # a busy machine may need more until it has begun
        (base := tmp_path / str(limit_s)).mkdir()
        run = one(base, command, resources=ms.Resources(walltime_s=limit_s))
        assert f"time limit: it was stopped after {limit_s:g} s" in reason_of(run)
        if (directory_of(run) / "child").exists():
            break
    child = int((directory_of(run) / "child").read_text())
    assert not alive(child)


def test_cancel_stops_the_whole_process_group(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow(
        [ms.Task("x", f"sh -c 'sleep 1000' & echo $! > child; echo > {gate}; wait"), ms.Task("y", "true", ["x"])]
    )
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(kill_grace_s=0.2)})
    run.step()
    with open(gate) as started:
        started.read()
    run.cancel(timeout_s=120)
    assert run.status is ms.RunStatus.CANCELLED
    assert list(run.tasks["status"]) == ["CANCELLED", "CANCELLED"]
    assert list(run.attempts["status"]) == ["CANCELLED"]
    assert not alive(int((directory_of(run) / "child").read_text()))
    with pytest.raises(RunStatusError):
        run.resume()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_processes_left_in_the_background_are_stopped(tmp_path: Path) -> None:
    run = one(tmp_path, "sleep 1000 & echo $! > child; exit 0")
    assert run.status is ms.RunStatus.COMPLETED
    assert "left in the background" in str(run.attempts["reason"].iloc[0])
    assert not alive(int((directory_of(run) / "child").read_text()))


def test_program_that_is_not_there(tmp_path: Path) -> None:
    run = one(tmp_path, ["no-such-program-here", "x"])
    assert "no-such-program-here: command not found" in reason_of(run)
    assert run.tasks.loc["0.x", "exit_code"] == 127


def test_file_that_cannot_be_executed(tmp_path: Path) -> None:
    run = one(tmp_path, ["./data.txt"], files={"data.txt": "not a program"})
    assert "cannot be started: Permission denied" in reason_of(run)


def test_secret_is_passed_by_reference_and_never_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2-of-the-lab")
    run = one(tmp_path, 'test "${#KEY}" = 18', env={"KEY": "env:MY_API_KEY"})
    assert run.status is ms.RunStatus.COMPLETED
    for path in run.path.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    (tmp_path / "b").mkdir()
    assert "MISSING_KEY is not set" in reason_of(one(tmp_path / "b", "true", env={"KEY": "env:MISSING_KEY"}))


def test_odd_arguments_and_files_arrive_unchanged(tmp_path: Path) -> None:
    odd = ["a b", "$(touch pwned)", "'\"", "ü\n", "--", ";ls", "*"]
    script = "import json, sys; json.dump({'argv': sys.argv[1:]}, open('result.json', 'w'))"
    run = one(tmp_path, ["python", "-c", script, *odd], files={"x y/ü$(touch z).txt": b"\0\xff"})
    assert run.results.loc["0.x", "argv"] == odd
    assert (directory_of(run) / "x y/ü$(touch z).txt").read_bytes() == b"\0\xff"
    assert not list(run.path.rglob("pwned"))


def test_run_directory_with_an_odd_and_long_name(tmp_path: Path) -> None:
    base = tmp_path / "a b'\"$(touch z)" / ("x" * 150)
    base.mkdir(parents=True)
    assert one(base, "pwd").status is ms.RunStatus.COMPLETED


def test_interrupt_does_not_reach_the_commands(tmp_path: Path) -> None:
    """An interrupt of the kernel stops the waiting, and the command goes on."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow([witnessed("x", f"cat {gate}", tmp_path / "ledger")])
    run = ms.initialize_run("w", flow, base_path=tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def wait_and_interrupt() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        run.wait()

    before = signal.signal(signal.SIGALRM, interrupt)
    run.step()
    try:
        with open(gate, "w"):
            with pytest.raises(KeyboardInterrupt):
                wait_and_interrupt()
            os.killpg(os.getpgrp(), 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_daemon_that_left_its_session_and_closed_everything_is_stopped(tmp_path: Path) -> None:
    daemon = """if True:
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open("child.part", "w").write(str(os.getpid()))
                os.rename("child.part", "child")
                os.closerange(0, 300)
                time.sleep(1000)
            os._exit(0)
        os.wait()
        while not os.path.exists("child"):
            os.sched_yield()
        os._exit(5)"""
    run = one(tmp_path, ["python", "-c", daemon])
    assert run.tasks.loc["0.x", "exit_code"] == 5, "the status is that of the command itself"
    assert not alive(int((directory_of(run) / "child").read_text()))


def test_command_that_outlives_its_shell_ends_with_the_shell(tmp_path: Path) -> None:
    run = one(tmp_path, "nohup sleep 1000 >/dev/null 2>&1 & echo $! > child; exit 4")
    assert reason_of(run) == "exit code 4"
    assert not alive(int((directory_of(run) / "child").read_text()))


def test_a_kill_by_a_person_is_not_taken_for_want_of_memory(tmp_path: Path) -> None:
    assert reason_of(one(tmp_path, "kill -KILL $$")) == "killed by SIGKILL"


def test_an_attempt_that_waits_without_a_transition_says_why(tmp_path: Path) -> None:
    class Busy(ms.LocalOperator):
        def check_status(self, attempts: Any) -> Any:
            return {attempt.token: Observation(Seen.QUEUED, reason="the beam is down") for attempt in attempts}

    run = start(tmp_path, Busy())
    run.step()
    run.step()
    assert run.tasks.loc["0.shaky", "reason"] == "the beam is down"
    assert "the beam is down" in str(run.explain())
    events = len(run.events)
    run.wait(timeout_s=0.5)
    assert (run.events["reason"] == "the beam is down").sum() == 0
    assert len(run.events) - events <= 5, "no row for every look"


def test_an_attempt_that_a_reply_leaves_out_keeps_its_status(tmp_path: Path) -> None:
    class Forgetful(ms.LocalOperator):
        silent = True

        def check_status(self, attempts: Any) -> Any:
            seen = super().check_status(attempts)
            return {} if self.silent else seen

    operator = Forgetful()
    run = start(tmp_path, operator)
    for _ in range(5):
        run.step()
    assert run.tasks.loc["0.shaky", "status"] == "SUBMITTED"
    assert run.attempts.loc["0.shaky.1", "status"] == "SUBMITTED"
    operator.silent = False
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    check_executions(run, tmp_path / "ledger")


def test_an_attempt_that_is_found_on_its_way_only_at_a_second_look_is_not_called_failed(tmp_path: Path) -> None:
    """As a tick finds it whose predecessor lost the lock, and submits still."""

    class Late(Shaky):
        looks = 0

        def find(self, attempts: Any) -> Any:
            self.looks += 1
            return {attempt.token: Absent() for attempt in attempts} if self.looks == 1 else super().find(attempts)

    began = tmp_path / "began"
    operator = Late(submitted=[OperatorUnreachableError("no answer")])
    flow = ms.Workflow([witnessed("x", f"touch mine; touch {began}", tmp_path / "ledger", operator="late")])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"late": operator})
    run.step()
    wait_for(began.exists)
    run.step()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert operator.looks >= 2
    assert list(run.attempts["status"]) == ["COMPLETED"]
    check_executions(run, tmp_path / "ledger")


@pytest.mark.parametrize("lost", ["nothing", "journal.jsonl", "stdout.txt"])
def test_an_attempt_handed_over_again_is_not_started_again(tmp_path: Path, lost: str) -> None:
    handed: list[Attempt] = []

    class Twice(ms.LocalOperator):
        def submit(self, attempts: Sequence[Attempt]) -> Any:
            handed.extend(attempts)
            return super().submit(attempts)

    run = start(tmp_path, Twice())
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    parent = handed[0].directory.parent
    kill_runner(run, "shaky")
    if lost == "journal.jsonl":  # as a power failure may do; the claim in the attempt's own directory is left
        (parent / lost).unlink()
    if lost == "stdout.txt":  # as its command may do; the claim in the journal is left
        (handed[0].directory / lost).unlink()
    again = ms.LocalOperator()
    again.submit(handed)
    again.submit(handed)
    news = select.poll()
    news.register(again.wakeup(parent) or -1, select.POLLIN)
    while not (seen := again.check_status(handed)) or seen[handed[0].token].seen is Seen.QUEUED:
        assert news.poll(60_000 if seen else 1000) or not seen, "no word of an attempt that is over"
    assert seen[handed[0].token].seen is (Seen.VANISHED if lost == "journal.jsonl" else Seen.ENDED)
    check_executions(run, tmp_path / "ledger")


# -- kits that come home in every state ------------------------------------------------------


class Carried:
    """A run with a kit that somebody carried away, and what comes home by hand."""

    def __init__(self, base: Path, *, grace_s: float = 3600.0, **task: Any) -> None:
        kit = ms.Task("dft", "echo done > OUTCAR", operator="manual", **{"outputs": ["OUTCAR"], **task})
        self.run = ms.initialize_run(
            "w",
            ms.Workflow([kit]),
            base_path=base,
            operators={"manual": ms.ManualHPCOperator(empty_output_grace_s=grace_s)},
        )
        self.run.step()
        self.kit = self.run.path / "operators/manual/0.dft.1"

    def bring(self, name: str, content: str = "something") -> None:
        path = self.kit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def say(self, status: str, **more: Any) -> None:
        self.bring("status.json", json.dumps({"status": status, **more}))

    def look(self) -> tuple[str, str]:
        """Make three ticks, and return the task's status and reason."""
        for _ in range(3):
            self.run.step()
        task = self.run.tasks.loc["0.dft"]
        return str(task["status"]), str(task["reason"])


def test_nothing_brought_home_waits_visibly_until_the_tasks_limit(tmp_path: Path) -> None:
    carried = Carried(tmp_path)
    status, reason = carried.look()
    assert (status, "output/" in reason) == ("SUBMITTED", True)
    assert carried.run.inbox()[0].task_id == "dft"
    (tmp_path / "b").mkdir()
    status, reason = Carried(tmp_path / "b", timeout_s=0.001).look()
    assert (status, reason) == ("FAILED", "nothing was brought home within 0.001 s")


@pytest.mark.parametrize("files", [(), (".OUTCAR.x7Kd",), ("OUTCAR.part", "vasprun.xml.filepart"), (".~tmp~/OUTCAR",)])
def test_an_output_without_anything_whole_waits_out_its_grace(tmp_path: Path, files: tuple[str, ...]) -> None:
    carried = Carried(tmp_path)
    (carried.kit / "output").mkdir()
    for name in files:
        carried.bring(f"output/{name}")
    status, reason = carried.look()
    assert status == "SUBMITTED"
    assert "a transfer may be under way" in reason
    carried.bring("output/OUTCAR")
    carried.say("COMPLETED")
    assert carried.look()[0] == "COMPLETED"
    (tmp_path / "b").mkdir()
    hasty = Carried(tmp_path / "b", grace_s=0, retries=1)
    (hasty.kit / "output").mkdir()
    for name in files:
        hasty.bring(f"output/{name}")
    hasty.look()
    assert list(hasty.run.attempts["status"]) == ["FAILED", "WAITING"], "the retry policy decides"


@pytest.mark.parametrize("marker", ["done", "status.json"])
@pytest.mark.parametrize("files", [(), (".OUTCAR.x7Kd",)])
def test_completed_beside_an_empty_output_fails_at_once(tmp_path: Path, marker: str, files: tuple[str, ...]) -> None:
    carried = Carried(tmp_path)
    (carried.kit / "output").mkdir()
    for name in files:
        carried.bring(f"output/{name}")
    carried.bring(marker, '{"status": "COMPLETED"}')
    status, reason = carried.look()
    assert status == "FAILED"
    assert "it says COMPLETED, but output/ " in reason


@pytest.mark.parametrize(("content", "says"), [(None, "missing"), ("", "empty")])
def test_an_expected_output_that_is_missing_or_empty(tmp_path: Path, content: str | None, says: str) -> None:
    carried = Carried(tmp_path)
    carried.bring("output/OTHER")
    if content is not None:
        carried.bring("output/OUTCAR", content)
    status, reason = carried.look()
    assert status == "SUBMITTED"
    assert f"the expected output OUTCAR is {says}" in reason
    carried.say("COMPLETED", exit_code=0)
    status, reason = carried.look()
    assert status == "FAILED"
    assert f"it says COMPLETED, but the expected output OUTCAR is {says}" in reason


def test_a_status_that_says_failed_is_believed(tmp_path: Path) -> None:
    carried = Carried(tmp_path)
    carried.bring("output/OUTCAR")
    carried.bring("output/stderr.txt", "ZBRENT: fatal error\n")
    carried.say("FAILED", exit_code=7)
    assert carried.look() == ("FAILED", "exit code 7; stderr ends with: ZBRENT: fatal error")
    assert carried.run.tasks.loc["0.dft", "exit_code"] == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"status": "COMPLETED", "token": "ms-another"}', "of another kit"),
        ('{"status": "RUNNING"}', "must say COMPLETED or FAILED"),
        ('{"status": "COMPL', "cannot be read"),
        ("[]", "must say"),
    ],
)
def test_a_status_that_is_not_of_this_kit_or_is_none(tmp_path: Path, content: str, says: str) -> None:
    carried = Carried(tmp_path)
    carried.bring("output/OUTCAR")
    carried.bring("status.json", content)
    status, reason = carried.look()
    assert status == "SUBMITTED"
    assert says in reason
    carried.say("COMPLETED")
    assert carried.look()[0] == "COMPLETED"


def test_outputs_without_a_status_are_taken_once_they_lie_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = Carried(tmp_path)
    with monkeypatch.context() as patient:
        patient.setattr(kit_results, "_SETTLE_S", 600.0)  # however long the steps take
        carried.bring("output/OUTCAR", "half")
        carried.run.step()
        carried.bring("output/OUTCAR", "half and half")
        carried.run.step()
    assert carried.run.tasks.loc["0.dft", "status"] == "SUBMITTED"
    assert carried.run.wait(timeout_s=60) is ms.RunStatus.COMPLETED


def test_an_output_that_differs_from_its_sums(tmp_path: Path) -> None:
    carried = Carried(tmp_path)
    carried.bring("output/OUTCAR", "truncat")
    carried.bring("output.sha256", "0" * 64 + "  ./OUTCAR\n" + "1" * 64 + "  ./gone\n")
    assert "its SHA-256 differs" in carried.look()[1]
    carried.say("COMPLETED")
    assert carried.look()[0] == "FAILED"


@pytest.mark.parametrize("name", ["output", "output/OUTCAR", "status.json", "done"])
def test_links_in_what_came_home_are_not_followed(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "OUTCAR").write_text("secret")
    carried = Carried(tmp_path)
    link = carried.kit / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret if name == "output" else secret / "OUTCAR")
    for _ in range(3):
        carried.run.step()
    assert carried.run.tasks.loc["0.dft", "status"] == "SUBMITTED"


def test_another_task_uses_what_a_kit_brought_home(tmp_path: Path) -> None:
    flow = ms.Workflow(
        [
            ms.Task("dft", "true", operator="manual", outputs=["OUTCAR"]),
            ms.Task("read", "cat OUTCAR; cat inputs.json", files={"OUTCAR": ms.FromTask("dft", "OUTCAR")}),
        ]
    )
    operators = {"manual": ms.ManualHPCOperator(), "local": ms.LocalOperator()}
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators=operators)
    assert run.wait(timeout_s=120) is ms.RunStatus.RUNNING, "it needs a person"
    kit = run.path / "operators/manual/0.dft.1"
    (kit / "output").mkdir()
    (kit / "output/OUTCAR").write_text("E0\n")
    (kit / "output/result.json").write_text('{"energy_eV": -1.5}')
    (kit / "done").write_text("")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert float(run.results.loc["0.dft", "energy_eV"]) == -1.5
    said = (run.path / "operators/local/0.read.1/stdout.txt").read_text()
    assert said.startswith("E0\n")
    assert '"directory":"../../manual/0.dft.1/output"' in said


def test_what_held_an_attempt_up_is_not_told_once_it_runs_on(tmp_path: Path) -> None:
    class Beam(ms.LocalOperator):
        reason: str | None = "the beam is down"

        def check_status(self, attempts: Any) -> Any:
            return {attempt.token: Observation(Seen.RUNNING, reason=self.reason) for attempt in attempts}

    operator = Beam()
    run = start(tmp_path, operator)
    run.step()
    run.step()
    assert run.tasks.loc["0.shaky", "reason"] == "the beam is down"
    operator.reason = None
    run.step()
    assert pd.isna(run.tasks.loc["0.shaky", "reason"])
    assert run.tasks.loc["0.shaky", "attempt"] == 1
