"""One tick at a time: the second process, thread or cell fails at once, and says who holds the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger import starts, witnessed

import matterstack as ms
from matterstack.errors import LockUnsupportedError, RunLockedError, RunLockLostError
from matterstack.storage.run_lock import RunLock, check_exclusion, read_holder

HOLD = """
import sys
import matterstack as ms
from matterstack.operators.base import Operator

class Slow(Operator):
    def submit(self, attempts):
        print("holding", flush=True)
        sys.stdin.readline()
        return {}
    def check_status(self, attempts): return {}
    def find(self, attempts): return {}
    def cancel(self, attempts): return []

print(ms.open_run(sys.argv[1], operators={"local": Slow()}).step(), flush=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> ms.Run:
    return ms.initialize_run("w", ms.Workflow([witnessed("a", "true", tmp_path / "ledger")]), base_path=tmp_path)


@pytest.fixture
def holder(run: ms.Run) -> Iterator[subprocess.Popen[str]]:
    """A real process in the middle of a tick."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_second_process_fails_fast_and_says_who(run: ms.Run, holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(RunLockedError, match="Another process is running") as caught:
        run.step()
    assert caught.value.holder["pid"] == holder.pid
    assert caught.value.holder["host"] == socket.gethostname()
    for word in (str(holder.pid), socket.gethostname(), "user", "since"):
        assert word in str(caught.value)
    for action in (run.pause, run.cancel, run.retry):
        with pytest.raises(RunLockedError):
            action()
    assert run.status is ms.RunStatus.RUNNING, "reading needs no lock"
    done = subprocess.run(
        [sys.executable, "-m", "matterstack", "step", str(run.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 75
    message, see = done.stderr.splitlines()
    assert "Another process is running" in message
    assert see == "See docs/troubleshooting.md#runlockederror"
    # The holder goes on undisturbed.
    output, _ = holder.communicate("go\n", timeout=120)
    assert output.startswith("Tick: 1 tasks ready")
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert sum(starts(tmp_path / "ledger").values()) == 1


def test_lock_is_free_at_once_after_kill_9(run: ms.Run, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (run.path / "run.lock").exists()
    assert run.step().submitted == 1, "found absent, and submitted"


def test_two_processes_stepping_all_the_time_execute_once(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    flow = ms.Workflow([witnessed(f"t{n}", "true", ledger) for n in range(20)])
    run = ms.initialize_run("w", flow, base_path=tmp_path, operators={"local": ms.LocalOperator(max_active=2)})
    program = f"import matterstack as ms; print(ms.open_run({str(run.path)!r}).wait(timeout_s=60))"
    waiting = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=180)[1] for process in waiting]
    for process, error in zip(waiting, errors, strict=True):
        assert process.returncode == 0 or "RunLockedError" in error  # only the first step may be refused
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert sum(starts(ledger).values()) == 20


def _blocked_step() -> tuple[threading.Event, threading.Event, type]:
    entered, leave = threading.Event(), threading.Event()

    class Gate(ms.LocalOperator):
        def submit(self, attempts: Any) -> Any:
            entered.set()
            assert leave.wait(120)
            return super().submit(attempts)

    return entered, leave, Gate


def test_second_thread_of_one_kernel_fails_fast(tmp_path: Path) -> None:
    entered, leave, gate = _blocked_step()
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, operators={"local": gate()})
    thread = threading.Thread(target=run.step)
    thread.start()
    try:
        assert entered.wait(120)
        with pytest.raises(RunLockedError):
            run.step()
        with pytest.raises(RunLockedError):
            ms.open_run(run.path).step()
    finally:
        leave.set()
        thread.join()
    assert run.wait(timeout_s=120) is ms.RunStatus.COMPLETED


def test_second_asyncio_cell_fails_fast(tmp_path: Path) -> None:
    entered, leave, gate = _blocked_step()
    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, operators={"local": gate()})

    async def cells() -> None:
        first = asyncio.create_task(asyncio.to_thread(run.step))
        await asyncio.to_thread(entered.wait, 120)
        with pytest.raises(RunLockedError):
            await asyncio.create_task(asyncio.to_thread(run.step))
        leave.set()
        assert (await first).submitted == 1

    asyncio.run(cells())


def test_lock_file_is_never_deleted(run: ms.Run) -> None:
    before = (run.path / "run.lock").stat().st_ino
    run.wait(timeout_s=120)
    assert (run.path / "run.lock").stat().st_ino == before
    assert read_holder(run.path / "run.lock")["pid"] == os.getpid()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_lock_replaced_while_held_is_noticed_before_anything_is_written(tmp_path: Path, how: str) -> None:
    class Vandal(ms.LocalOperator):
        def submit(self, attempts: Any) -> Any:
            lock = Path(attempts[0].parent).parent.parent / "run.lock"
            lock.unlink()
            if how == "replaced":
                lock.write_text("{}")
            return super().submit(attempts)

    run = ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, operators={"local": Vandal()})
    with pytest.raises(RunLockLostError, match=r"run\.lock"):
        run.step()
    assert list(run.attempts["status"]) == ["SUBMITTING"], "what was seen without the lock is not written"
    assert ms.open_run(run.path).wait(timeout_s=120) is ms.RunStatus.RUNNING, "nobody to ask: it returns at once"
    again = ms.open_run(run.path, operators={"local": ms.LocalOperator()})
    assert again.wait(timeout_s=120) is ms.RunStatus.COMPLETED
    assert len(again.attempts) == 1


def test_unrelated_blocking_error_is_not_reported_as_a_lock(tmp_path: Path) -> None:
    class Blocked(ms.LocalOperator):
        def submit(self, attempts: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    run = ms.initialize_run(
        "w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path, operators={"local": Blocked()}
    )
    assert run.step().submitted == 0
    assert "BlockingIOError" in str(run.explain())
    with RunLock(tmp_path / "other.lock"), pytest.raises(BlockingIOError):
        raise BlockingIOError(11, "of the block")


def test_file_system_that_does_not_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    # No file system here lacks flock, so the system call itself is taken away.
    def no_lock(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", no_lock)
        with pytest.raises(LockUnsupportedError, match="does not lock"):
            ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda descriptor, operation: None)
        with pytest.raises(LockUnsupportedError, match="two holders"):
            ms.initialize_run("w", ms.Workflow([ms.Task("a", "true")]), base_path=tmp_path)
    assert ms.runs("w", base_path=tmp_path).empty
    with RunLock(tmp_path / "run.lock"):
        check_exclusion(tmp_path / "run.lock")


def test_viewers_do_not_disturb(run: ms.Run, holder: subprocess.Popen[str]) -> None:
    """Tables, explanation and summary are read while another process is in the middle of a tick."""
    assert len(run.tasks) == 1
    assert "SUBMITTING" in set(run.attempts["status"])
    assert "interrupted or is under way" in str(run.explain())
    json.dumps(run._repr_html_())
    output, _ = holder.communicate("go\n", timeout=120)
    assert output.startswith("Tick:")
