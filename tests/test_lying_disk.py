"""Disks that do not lock, have no hard links, are full, fail to sync, or show late: it is said, and never believed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lying_disk import ROOT, Mounted, Tree, lying_disk
from waiting import wait_for

import matterstack as ms
from matterstack.errors import DiskError, LockUnsupportedError, MatterstackError, RunNotFoundError
from matterstack.operators.local.link import Link
from matterstack.operators.local.runner import journal

EVERY = int(os.environ.get("MATTERSTACK_EVERY_CUT", "0"))
ANSWER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mounted]:
    with lying_disk(tmp_path / "disk") as mounted:
        yield mounted


#: It bears a full disk.
COPY = "until cp {} result.json 2>/dev/null; do sleep 0.02; done"


def make(base: Path, run_id: str = "r") -> ms.Run:
    """Make a run of each kind of attempt: a command, a kit, a question and what waits for its answer."""
    return ms.initialize_run(
        "w",
        ms.Workflow(
            [
                ms.Task("first", COPY.format("in.txt"), files={"in.txt": '{"n": 1}'}),
                ms.Task("second", COPY.format("in.txt"), files={"in.txt": '{"n": 2}'}, dependencies=["first"]),
                ms.Task("kit", "true", operator="manual", files={"in.txt": "1"}),
                ms.Task("ask", operator="human", instructions="How many?", schema=ANSWER),
                ms.Task("measure", operator="experiment", parameters={"n": 1}, schema=ANSWER),
                ms.Task("last", COPY.format("inputs.json"), dependencies=["ask"]),
            ]
        ),
        base_path=base,
        run_id=run_id,
        operators={
            "local": ms.LocalOperator(1),
            "manual": ms.ManualHPCOperator(),
            "human": ms.HumanOperator(),
            "experiment": ms.ExperimentOperator(),
        },
    )


def finish(run: ms.Run, *, may_lose: bool = False) -> None:
    """Go on to where only people are waited for, answer, and see that nothing has failed on the way.

    A command that ran when the power went is LOST, and tried again by our word, where it `may_lose`.
    """
    if run.status is ms.RunStatus.PAUSED:
        run.resume()
    for _ in run.ticks(timeout_s=180):
        if may_lose and run.counts.failed and "LOST" in set(run.attempts["status"]):
            run.retry()
        if "ask" in [request.task_id for request in run.inbox()]:
            run.respond("ask", {"n": 6})
        if run.counts.completed == 4 and len(run.inbox()) == 2:
            break
    assert list(run.tasks["status"]) == [
        "COMPLETED",
        "COMPLETED",
        "SUBMITTED",
        "COMPLETED",
        "SUBMITTED",
        "COMPLETED",
    ], list(run.attempts["reason"])
    kept = run.attempts[run.attempts["status"] != "LOST"] if may_lose else run.attempts
    assert len(kept) == 6, "nothing else was tried again"
    assert set(kept["status"]) == {"COMPLETED", "WAITING"}
    assert run.store.check() == []


# -- the disk itself ---------------------------------------------------------------------------


def found(disk: Mounted, folder: Path, model: str, *, ordered: bool = False) -> dict[str, bytes]:
    """Return what a power cut leaves, by name."""
    tree = Tree.of(disk.changes(), ordered=ordered)
    tree.cut(model)
    folder.mkdir()
    tree.write_to(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_disk_forgets_what_was_not_synced(disk: Mounted, tmp_path: Path) -> None:
    def sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    for name in ("both", "content", "name"):
        (disk.path / name).write_text("one")
    sync(disk.path / "both")
    sync(disk.path / "content")
    assert found(disk, tmp_path / "1", "strict") == {}
    assert found(disk, tmp_path / "2", "strict", ordered=True) == {"both": b"one", "content": b"one", "name": b""}
    sync(disk.path)
    (disk.path / "both").write_text("two")
    (disk.path / "both").rename(disk.path / "renamed")
    assert found(disk, tmp_path / "3", "strict") == {"both": b"one", "content": b"one", "name": b""}
    assert found(disk, tmp_path / "4", "names") == {"renamed": b"one", "content": b"one", "name": b""}
    assert found(disk, tmp_path / "5", "data") == {"both": b"two", "content": b"one", "name": b"one"}
    disk.say("eio-1")
    with pytest.raises(OSError, match="Input/output"):
        sync(disk.path / "name")
    sync(disk.path / "name")
    assert (disk.path / "name").read_text() == "one"
    assert found(disk, tmp_path / "6", "strict")["name"] == b"", "the second fsync has not written what the first lost"


def test_the_disk_shows_another_machine_late_what_this_one_did(tmp_path: Path) -> None:
    with lying_disk(tmp_path / "disk", stale_s=600.0, views=2) as disk:
        assert not (disk.other / "new").exists()
        (disk.path / "new").write_text("1")
        assert not (disk.other / "new").exists()
        (disk.other / "own").write_text("1")
        assert (disk.other / "new").exists(), "its own change has made it look again"
        with open(disk.path / "own", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with open(disk.other / "own") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- locks and links --------------------------------------------------------------------------


@pytest.mark.parametrize(("locks", "said"), [("none", "does not lock"), ("lie", "gives one lock to two holders")])
def test_no_run_is_made_or_stepped_where_locks_do_not_exclude(tmp_path: Path, locks: str, said: str) -> None:
    ours = make(tmp_path / "good", "r").path
    with lying_disk(tmp_path / "disk", locks=locks) as disk:
        with pytest.raises(LockUnsupportedError, match=said) as refused:
            make(disk.path)
        assert str(disk.path) in str(refused.value)
        assert "filesystems.md" in str(refused.value)
        assert not [path for path in disk.path.rglob("*") if path.is_file()]
        moved = Path(shutil.copytree(ours, disk.path / "moved"))
        ms.trust(moved)
        before = {path: path.read_bytes() for path in moved.rglob("*") if path.is_file() and path.name != "run.lock"}
        run = ms.open_run(moved)
        assert run.status is ms.RunStatus.PENDING, "to look needs no lock"
        for act in (run.step, run.pause, run.cancel):
            with pytest.raises(LockUnsupportedError, match=said):
                act()
        assert before == {path: path.read_bytes() for path in before}


def test_ranges_that_lie_are_seen_though_flock_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mount that keeps one kind of lock and not the other (nfs(5), local_lock)."""
    from matterstack.storage import run_lock

    run = make(tmp_path)
    run.step()
    monkeypatch.setattr(run_lock, "_locks_range", lambda path, descriptor: True)
    again = ms.open_run(run.path)
    with pytest.raises(LockUnsupportedError, match="two holders"):
        again.step()


def test_a_disk_without_hard_links_takes_answers(tmp_path: Path) -> None:
    with lying_disk(tmp_path / "disk", links=False) as disk:
        run = make(disk.path)
        finish(run)
        with pytest.raises(MatterstackError):
            run.respond("ask", {"n": 7})
        assert run.store.query("SELECT data FROM attempts a JOIN tasks t ON t.id = a.task WHERE task_id = 'ask'") == [
            ('{"n":6}',)
        ]


def count_runs(base: Path) -> int:
    """Return how many runs show."""
    try:
        return len(ms.runs("w", base_path=base))
    except RunNotFoundError:  # nor is there a workspace
        return 0


# -- troubles that pass -----------------------------------------------------------------------

TROUBLES = {"full-1": "room", "readonly": "writable", "eio-1-on": "well"}
WORDS = ("free space", "Read-only", "I/O error")


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("ticks", [0, 1])
def test_a_run_waits_until_its_disk_is_good_again(disk: Mounted, trouble: str, ticks: int) -> None:
    """Whatever the disk refuses, no attempt pays for it: it is said, and all goes on when the disk is good again."""
    run = make(disk.path)
    for _ in range(ticks):
        run.step()
    disk.say(trouble)
    said = []
    for _ in range(4):
        try:
            run.step()
        except MatterstackError as error:
            said.append(str(error))
    disk.say(TROUBLES[trouble])
    assert said, "a disk that cannot be written is told of"
    assert all(any(word in text for word in WORDS) for text in said), said
    finish(run)


@pytest.mark.parametrize("made", ["stdout.txt", "stderr.txt"])
def test_a_disk_that_lets_nothing_be_taken_back_costs_no_attempt(disk: Mounted, made: str) -> None:
    """It becomes read-only between the claim of an attempt and its start, so that the claim stays there meanwhile."""
    run = make(disk.path)
    runner = Link(run.path / "operators/local", 1)
    disk.say(f"readonly-{made}")
    with contextlib.suppress(MatterstackError):
        run.step()
    wait_for((run.path / "operators/local/0.first.1" / made).exists, "it was not started")
    runner.ask("ask", [])  # by then it has tried
    disk.say("writable")
    finish(run)


@pytest.mark.parametrize("trouble", ["full-1", "readonly"])
def test_no_half_of_a_run_is_made_on_a_bad_disk(disk: Mounted, trouble: str) -> None:
    make(disk.path, "before")
    disk.say(trouble)
    with pytest.raises(DiskError, match=r"no run can be made at .*/workspaces/w/runs/r: .*base_path"):
        make(disk.path)
    disk.say(TROUBLES[trouble])
    assert count_runs(disk.path) == 1
    finish(make(disk.path))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_answer_that_cannot_be_kept_is_told_of_and_can_be_given_again(disk: Mounted, trouble: str) -> None:
    run = make(disk.path)
    while "ask" not in [request.task_id for request in run.inbox()]:
        run.wait(timeout_s=1)
    disk.say(trouble)
    with pytest.raises(DiskError, match=r"the answer to ask cannot be kept in .*answer again"):
        run.respond("ask", {"n": 6})
    disk.say(TROUBLES[trouble])
    finish(run)


def act_once(run: ms.Run) -> None:
    run.step()
    if "ask" in [request.task_id for request in run.inbox()]:
        run.respond("ask", {"n": 6})


def act_despite(disk: Mounted, run: ms.Run, end: str, said: list[str]) -> None:
    """Step and answer as one does, whatever is said, until the disk is good again; then finish."""
    for _ in range(5):
        try:
            act_once(run)
        except MatterstackError as error:
            said.append(str(error))
    disk.say(end)
    finish(run)


def make_despite(disk: Mounted, base: Path, end: str, trouble: str) -> ms.Run:
    """Make a run; where that fails there is none, and it can be made when the disk is good again."""
    base.mkdir(exist_ok=True)
    disk.say(trouble)
    try:
        return make(base)
    except MatterstackError:
        disk.say(end)
        assert count_runs(base) == 0
        return make(base)


def test_the_disk_is_full_at_any_instant(disk: Mounted, caplog: pytest.LogCaptureFixture) -> None:
    """While a run is made, while attempts are prepared and submitted, while an answer is written: none fails."""
    said: list[str] = []
    for number in range(1, 200) if EVERY else (5, 45, 60, 75):
        run = make_despite(disk, disk.path / str(number), "room", f"full-{number}")
        act_despite(disk, run, "room", said)
    assert said or "No space left" in caplog.text


@pytest.mark.parametrize("for_good", ["", "-on"])
def test_an_fsync_fails(tmp_path: Path, for_good: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each fsync fails once, or each after it too. What was said to be done outlives the power cut that comes next."""
    said: list[str] = []
    for number in range(1, 80) if EVERY else (17, 25, 40):
        with lying_disk(tmp_path / str(number)) as disk:
            run = make_despite(disk, disk.path, "well", f"eio-{number}{for_good}")
            act_despite(disk, run, "well", said)
            changes = disk.changes()
        tree = Tree.of(changes)
        tree.cut("strict")
        image = tmp_path / f"found{number}"
        image.mkdir()
        tree.write_to(image)
        ms.trust(image)
        again = ms.open_run(image / "workspaces/w/runs/r")
        assert again.counts.completed == 4
        finish(again)
    assert said or "Input/output error" in caplog.text


def test_a_claim_that_could_not_be_synced_is_written_again(disk: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second fsync after an error succeeds, and has not written what the first could not (see `lying_disk`)."""
    monkeypatch.setattr(journal, "_SYNC_AGAIN_S", 0.0)
    monkeypatch.chdir(disk.path)
    kept = journal.Journal()
    kept.claim("ms-1", "1:2", None, 5.0)
    disk.say("eio-1")
    kept.sync()
    assert kept.dirty_since, "it is known not to be on disk"
    kept.sync()
    assert not kept.dirty_since
    os.fsync(os.open(".", os.O_RDONLY))
    tree = Tree.of(disk.changes())
    tree.cut("strict")
    (number,) = tree.nodes[ROOT].names.values()
    assert b'["claim","ms-1",' in tree.nodes[number].content


# -- what shows late, and what is gone --------------------------------------------------------


def test_two_machines_step_one_run_in_turn_though_each_sees_names_and_sizes_late(tmp_path: Path) -> None:
    """As over NFS: what the lock does not show fresh is asked again, and nothing is submitted or taken twice."""
    ledger = tmp_path / "ledger"
    with lying_disk(tmp_path / "disk", stale_s=1.0, views=2) as disk:
        flow = ms.Workflow(
            [
                ms.Task("ask", operator="human", instructions="How many?", schema=ANSWER),
                ms.Task("after", f"echo ran >> {ledger}; cp inputs.json result.json", dependencies=["ask"]),
            ]
        )
        operators = {"human": ms.HumanOperator(), "local": ms.LocalOperator(1)}
        here = ms.initialize_run("w", flow, base_path=disk.path, run_id="r", operators=operators)
        assert not (disk.other / "workspaces/w/runs/r/operators/human/0.ask.1").exists()
        ms.trust(disk.other)
        there, until = None, time.monotonic() + 180
        while time.monotonic() < until:
            here.step()
            if there is None and (disk.other / "workspaces/w/runs/r/state.sqlite").exists():
                there = ms.open_run(disk.other / "workspaces/w/runs/r")
            if there is not None:
                there.step()
                if "ask" in [request.task_id for request in there.inbox()]:
                    there.respond("ask", {"n": 6})
            if here.status is ms.RunStatus.COMPLETED:
                break
            select.poll().poll(20)
        assert here.status is ms.RunStatus.COMPLETED, repr(here.explain())
        assert ledger.read_text() == "ran\n"
        assert list(here.attempts["attempt"]) == [1, 1]


def test_the_power_goes_while_processes_work(tmp_path: Path) -> None:
    """Who works on a disk that goes away is told so in words; what was committed is found on what is left."""
    with lying_disk(tmp_path / "disk") as disk:
        run = make(disk.path)
        run.step()
        disk.say("cut-12")
        said = []
        for _ in range(50):
            try:
                act_once(run)
            except MatterstackError as error:
                said.append(str(error))
        assert "I/O error" in said[0] or "Input/output error" in said[0]
        assert str(disk.path) in said[-1]
        with pytest.raises((MatterstackError, OSError)):
            ms.open_run(run.path)
        changes = disk.changes()
        assert not [
            name for name in os.listdir("/proc/self/fd") if "run.lock" in os.path.realpath(f"/proc/self/fd/{name}")
        ]
    tree = Tree.of(changes)
    tree.cut("strict")
    image = tmp_path / "found"
    image.mkdir()
    tree.write_to(image)
    ms.trust(image)
    again = ms.open_run(image / "workspaces/w/runs/r")
    assert again.counts.submitted >= 3
    finish(again, may_lose=True)
