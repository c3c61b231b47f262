"""Killed at lines of code, killed again while it recovers, and refused by the disk: nothing doubled, lost or stuck.

``MATTERSTACK_EVERY_LINE=1`` kills at every line instead of a sample.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from chaos import chaos
from crashes import ENDED, in_child
from ledger import check_executions, starts, witnessed
from small_disk import fill
from test_run_lifecycle_idempotent import check_undisturbed, go_on, make, reopen, step

import matterstack as ms
from matterstack.errors import MatterstackError
from matterstack.orchestration import loop
from matterstack.storage import database

PACKAGE = str(Path(ms.__file__).parent)
SAMPLE = None if os.environ.get("MATTERSTACK_EVERY_LINE") else 12


def at_line(number: int, act: Callable[[int], None]) -> Callable[[], None]:
    """Return what makes the `number`-th executed line of the package call `act`, with its count."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count == number or number == 0:
                act(count)
        return local

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    return lambda: sys.settrace(trace)


def lines_of(work: Callable[[], object], record: Path) -> int:
    """Return how many lines of the package undisturbed work executes."""
    last = 0

    def count(number: int) -> None:
        nonlocal last
        last = number

    def counted() -> None:
        work()
        sys.settrace(None)
        record.write_text(str(last))

    assert in_child(counted, at_line(0, count)) == ENDED
    return int(record.read_text())


def chosen(total: int, seed: int) -> list[int]:
    """Return the lines to kill at: a sample spread over all, or every one."""
    if SAMPLE is None:
        return list(range(1, total + 1))
    generator = random.Random(seed)
    width = total / SAMPLE
    return sorted({1 + int(width * (n + generator.random())) for n in range(SAMPLE)})


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fresh(base: Path) -> None:
    make(base)


def first_ended(base: Path) -> None:
    """One task is submitted and has ended, and no tick has seen that."""
    run = make(base)
    run.step()
    assert loop.sleep(run._session, 30)


def all_over(base: Path) -> None:
    """The first iteration is one collected result away from its analysis."""
    run = make(base)
    while run.counts.completed < 2:
        run.step()
        loop.sleep(run._session, 0.05)
    loop.sleep(run._session, 5)


STAGES = [fresh, first_ended, all_over]


def heal(base: Path) -> None:
    """Three ticks at most settle what the kill left open; then the run goes on to its end."""
    for _ in range(3):
        reopen(base).step()
    assert "SUBMITTING" not in set(reopen(base).attempts["status"]), "stuck in its submission"
    go_on(base)
    check_undisturbed(base)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_lines_of_a_step(tmp_path: Path, stage: Callable[[Path], None]) -> None:
    counts = []
    for name in ("count", "again"):  # one that has to wait for a runner goes round for long
        base = tmp_path / name
        base.mkdir()
        stage(base)
        counts.append(lines_of(partial(step, base), tmp_path / "lines"))
    total = min(counts)
    assert total > 300
    killed = 0
    for number in chosen(total, seed=1):
        base = tmp_path / str(number)
        base.mkdir()
        stage(base)
        killed += in_child(partial(step, base), at_line(number, die)) == -signal.SIGKILL
        heal(base)
        shutil.rmtree(base)
    assert killed > 0.7 * len(chosen(total, seed=1))


def test_killed_at_lines_of_an_initialization(tmp_path: Path) -> None:
    total = lines_of(lambda: make(tmp_path / "count"), tmp_path / "lines")
    for number in chosen(total, seed=2):
        base = tmp_path / str(number)
        base.mkdir()
        in_child(partial(make, base), at_line(number, die))
        if not (base / "workspaces/w/runs/r").exists():
            if (base / "workspaces/w/runs").exists():
                assert ms.runs("w", base_path=base).empty, "a half-made run does not show"
            make(base)
        heal(base)
        shutil.rmtree(base)


@pytest.mark.parametrize("stage", STAGES)
def test_killed_again_while_it_recovers(tmp_path: Path, stage: Callable[[Path], None]) -> None:
    generator = random.Random(3)
    for number in range(5 if SAMPLE else 50):
        base = tmp_path / str(number)
        base.mkdir()
        stage(base)
        for _ in range(4):  # the step, and three recoveries in a row, each killed somewhere
            in_child(partial(step, base), at_line(generator.randint(1, 900), die))
        heal(base)
        shutil.rmtree(base)


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("error", ["disk I/O error", "database or disk is full"])
def test_sqlite_call_that_fails(tmp_path: Path, for_good: bool, error: str) -> None:
    """The Nth call of SQLite fails, once or from then on: the step raises, and the next one heals it."""
    make(tmp_path)

    def fail_from(number: int) -> None:
        count = 0

        def failing(name: str) -> Callable[..., Any]:
            real = getattr(sqlite3.Connection, name)

            def call(self: sqlite3.Connection, *arguments: Any) -> Any:
                nonlocal count
                count += 1
                if count == number or (for_good and count > number):
                    raise sqlite3.OperationalError(error)
                return real(self, *arguments)

            return call

        for name in ("execute", "executemany"):
            setattr(database.Connection, name, failing(name))

    for number in range(1, 400, 3):
        in_child(lambda: reopen(tmp_path).step(), partial(fail_from, number))
        loop.sleep(reopen(tmp_path)._session, 0)
        if reopen(tmp_path).status is ms.RunStatus.COMPLETED:
            break
    go_on(tmp_path)
    check_undisturbed(tmp_path)


@pytest.mark.parametrize("leave", [0, 4096, 12288, 40960, 131072])
def test_full_disk_then_freed(small_disk: Path, leave: int) -> None:
    make(small_disk)
    ballast = fill(small_disk, leave)
    for _ in range(6):
        in_child(lambda: reopen(small_disk).step())  # raises StoreUnwritableError, or cannot submit
    ballast.unlink()
    go_on(small_disk)
    run = reopen(small_disk)
    assert run.status is ms.RunStatus.COMPLETED
    check_executions(run, small_disk / "ledger")


def test_read_only_run_is_shown_and_not_stepped(small_disk: Path) -> None:
    make(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        view = reopen(small_disk)
        assert len(view.tasks) == 3
        assert "PENDING" in repr(view)
        with pytest.raises((OSError, MatterstackError)):
            reopen(small_disk).step()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    go_on(small_disk)
    check_executions(reopen(small_disk), small_disk / "ledger")


def memory_group() -> Path | None:
    """Return a new control group with 30 MB of memory, where this machine lets us make one."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"matterstack-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text("30000000")
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    return None


def test_command_that_the_kernel_kills_for_want_of_memory(tmp_path: Path) -> None:
    group = memory_group()
    if group is None:
        pytest.skip("limiting the memory of a command needs a control group that we may write")
    eat = "x = bytearray(300_000_000); x[::4096] = b'y' * len(x[::4096])"
    flow = ms.Workflow([ms.Task("x", f'echo $$ > {group}/cgroup.procs; exec python3 -c "{eat}"')])
    run = ms.initialize_run("w", flow, base_path=tmp_path)
    try:
        assert run.wait(timeout_s=60) is ms.RunStatus.FAILED
    finally:
        group.rmdir()
    assert run.tasks.loc["0.x", "exit_code"] == -9
    assert "out-of-memory killer" in str(run.tasks.loc["0.x", "reason"])


def test_run_moved_while_its_commands_work(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    flow = ms.Workflow([witnessed("a", f"cat {gate}; echo '{{}}' > result.json", tmp_path / "ledger")])
    flow.add_task(witnessed("b", "cat inputs.json", tmp_path / "ledger", dependencies=["a"]))
    path = ms.initialize_run("w", flow, base_path=tmp_path).path
    ms.open_run(path).step()
    new = tmp_path / "a b'\"$(touch pwned)\n"
    path.rename(new)
    run = ms.open_run(new)
    assert run.step().live == 1
    with gate.open("w"):
        pass
    assert run.wait(timeout_s=30) is ms.RunStatus.COMPLETED
    assert not list(tmp_path.rglob("pwned"))
    check_executions(run, tmp_path / "ledger")
    assert sum(starts(tmp_path / "ledger").values()) == 2


def test_short_chaos(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    assert chaos(tmp_path, kills=25, seed=seed) >= 25
